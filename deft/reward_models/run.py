"""The operation `train_reward_model`: from a spec to a reward model that was judged on rows it has not seen.

The loop is `deft.reward_models.training`, the numbers `accuracy`, the files handed out `folder`. No text of a row goes
into the summary, the log or the folder.
"""

import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from deft.adapters.bases import base_model
from deft.adapters.folder import base_record_of
from deft.errors import ArtifactCorrupt
from deft.memory import noted
from deft.models.files import config_hash
from deft.models.fit import check_fit
from deft.models.loading import load_tokenizer, weights_hash
from deft.reports import Report, stop_if_asked
from deft.reward_models.accuracy import Accuracy, accuracy_of, by_source
from deft.reward_models.folder import finish, save_reward_model
from deft.reward_models.layout import lay_out, layout_of, reading_hash
from deft.reward_models.model import RewardModel, context_of, load_classifier, load_reward_model
from deft.reward_models.rows import ROWS, Row, rows_of, write_rows
from deft.reward_models.training import Store, Training
from deft.specs import Lora, TrainRewardModelSpec, spec_hash, spec_json
from deft.training.preparation import exact_arithmetic

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers import PreTrainedTokenizerBase as Tokenizer

CHECKED_ROWS = 4
RELOAD_TOLERANCE = 1e-3
"""Largest difference of a logit after loading again, in the precision of the passes: 1e-3 of it and 1e-3."""


def run_train_reward_model(
    spec: TrainRewardModelSpec,
    *,
    inputs: Mapping[str, Path],
    out: Path,
    checkpoints: Path | None = None,
    report: Report,
) -> dict[str, Any]:
    """Train a reward model by *spec* on the folders `dataset` and `model`, write it to *out*, return the summary.

    Raises:
        InvalidInput: too few prompts, or a checkpoint of another run.
        ModelNotUsable: the model does not load as a classifier with one label, or its context is too short.
        TrainingDiverged: a loss that is not finite.
        Interrupted: it was asked to stop; a checkpoint has been written.
        ArtifactCorrupt: loaded again, it gives other rewards.
    """
    started = time.monotonic()
    with exact_arithmetic():
        report.phase("loading")
        trained, held_out = rows_of(spec, inputs["dataset"])
        base_hash = weights_hash(inputs["model"])
        tokenizer = load_tokenizer(inputs["model"])
        model = _model(spec, inputs["model"], tokenizer)
        belongs = _run(spec, inputs["model"], base_hash, tokenizer, trained)
        store = None if checkpoints is None else Store(checkpoints, belongs)
        sequences = lay_out([row.example for row in trained], tokenizer, spec.tokens)
        report.phase("train")
        training = Training(model, sequences, spec.optimisation, report, store)
        training.run()
        report.phase("save")
        whole = _merged(model)
        weights = save_reward_model(whole, tokenizer, out)
        write_rows(out / ROWS, trained, held_out)
        report.phase("held_out")
        judge = RewardModel(whole, tokenizer, spec.tokens, noted(report))
        facts = _judged(spec, judge, held_out, report)
        summary = {
            **facts,
            "rows": len(trained),
            "steps": len(training.steps),
            "metrics": training.last,
            "layout": layout_of(tokenizer),
            "weights_hash": weights,
            "base_weights_hash": base_hash,
            "seconds": round(time.monotonic() - started, 1),
        }
        base = base_model(inputs["model"])
        finish(out, base, {**summary, "base": base_record_of(base, base_hash), "spec": spec_json(spec)})
        _check_reload(judge, out, held_out)
    return summary


def _model(spec: TrainRewardModelSpec, folder: Path, tokenizer: "Tokenizer") -> "PreTrainedModel":
    """Load the model in float32, its head drawn by the seed where it has none, with LoRA where that is asked for."""
    torch.manual_seed(spec.optimisation.seed)
    model = load_classifier(folder, tokenizer, precision="fp32", may_be_new=True)
    check_fit(spec.tokens, tokenizer_tokens=None, vocabulary_size=None, context_tokens=context_of(model))
    return model if spec.lora is None else _with_lora(model, spec.lora)


def _with_lora(model: "PreTrainedModel", lora: Lora) -> Any:  # noqa: ANN401 -- PEFT's model stands for the model
    from peft import LoraConfig, TaskType, get_peft_model

    own = None if lora.target_modules == "all-linear" else lora.target_modules
    config = LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=own or "all-linear",
    )
    return get_peft_model(model, config)


def _merged(model: Any) -> "PreTrainedModel":  # noqa: ANN401 -- PEFT's model or the model
    merge = getattr(model, "merge_and_unload", None)
    found: PreTrainedModel = (model if merge is None else merge()).eval()
    return found


def _run(
    spec: TrainRewardModelSpec, base: Path, base_hash: str, tokenizer: "Tokenizer", rows: Sequence[Row]
) -> dict[str, str]:
    """Return what a checkpoint belongs to."""
    return {
        "spec": spec_hash(spec),
        "base": base_hash,
        "config": config_hash(base),
        "tokenizer": reading_hash(tokenizer),
        "rows": hashlib.sha256("".join(row.key for row in rows).encode()).hexdigest(),
    }


def _judged(spec: TrainRewardModelSpec, judge: RewardModel, held_out: Sequence[Row], report: Report) -> dict[str, Any]:
    """Return the held-out accuracy, over all and per source."""

    def on_progress(done: int) -> None:
        report.progress(done, len(held_out), "rows")
        stop_if_asked(report)

    rewards, tokens = judge.rewards([row.example for row in held_out], on_progress)
    points = [row.point for row in held_out]
    settings = {"bootstrap": spec.bootstrap, "seed": spec.optimisation.seed}
    overall: Accuracy = accuracy_of(rewards, tokens, points, **settings)
    sources = by_source(rewards, tokens, points, [row.example.source for row in held_out], **settings)
    return {
        "held_out": overall.as_dict(),
        "held_out_by_source": {name: found.as_dict() for name, found in sources.items()},
        "sentence": f"The reward model is {overall.in_words()}.",
    }


def _check_reload(judge: RewardModel, out: Path, held_out: Sequence[Row]) -> None:
    """Load the folder as others will, and compare a few rewards."""
    examples = [row.example for row in held_out[:CHECKED_ROWS]]
    again = load_reward_model(out, precision="fp32")
    first, second = (np.concatenate(each.rewards(examples)[0]) for each in (judge, again))
    if not np.allclose(first, second, rtol=RELOAD_TOLERANCE, atol=RELOAD_TOLERANCE):
        raise ArtifactCorrupt("the reward model was written, but loaded again it gives other rewards")
