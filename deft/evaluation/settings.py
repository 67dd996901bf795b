"""The settings of an evaluation: everything that each of its numbers depends on but the system that it is of.

Equal settings make numbers of two evaluations comparable. Knows a run and hashes; measures nothing.
"""

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from deft.errors import ModelNotUsable
from deft.evaluation.answers import bleu_signature
from deft.evaluation.likelihoods import Pass
from deft.evaluation.metrics import COMPANIONS, RULES
from deft.evaluation.state import Run, decoding_of
from deft.models.files import config_hash
from deft.models.fit import GENERATED_METRICS, TEXT_METRICS
from deft.models.loading import load_tokenizer
from deft.models.quantisation import numbers_of
from deft.reward_models.layout import reading_hash
from deft.reward_models.model import tokens_of
from deft.tokens import tokenizer_hash


def settings_of(run: Run, base_hash: str) -> dict[str, dict[str, Any]]:
    """Return, for each metric, everything that its number depends on but the system itself.

    Equal settings are what makes numbers of two evaluations comparable; their hash stands beside every number.
    """
    common, own = common_settings(run, base_hash), _own(run)
    found = {
        metric: {"metric": metric, "version": rule.version} | common | _measured_on(run, metric) | own.get(metric, {})
        for metric, rule in RULES.items()
    }
    for judge in run.judges:
        reads = {
            "reward_model": judge.weights_hash,
            "reward_model_config": config_hash(judge.folder),
            "reward_model_tokenizer": _reading_of(judge.folder),
            "reward_model_tokens": tokens_of(judge.folder),
        }
        found |= {f"{metric}:{judge.name}": found[metric] | reads for metric in ("reward", "reward_logit")}
    return found


def common_settings(run: Run, base_hash: str) -> dict[str, Any]:
    """Return what every number of an evaluation depends on."""
    options = run.spec.options
    return {
        "base_weights": base_hash,
        "base_config": run.config_hash,
        "tokenizer": tokenizer_hash(run.tokenizer),
        "tokens": run.spec.tokens.model_dump(mode="json"),
        "precision": numbers_of(run.resident.base, run.how.head.weight.dtype),
        "bootstrap": options.bootstrap,
        "seed": options.seed,
    }


def _measured_on(run: Run, metric: str) -> dict[str, Any]:
    """Return what identifies the rows of *metric*, and how they were answered where they were."""
    asked = COMPANIONS.get(metric, metric)
    if asked in TEXT_METRICS:
        return {"texts": None if run.texts is None else run.texts.fingerprint}
    if asked not in GENERATED_METRICS:
        return {"pairs": run.pairs.fingerprint, "end_id": run.how.end_id}
    options = run.spec.options
    sampling = options.held_out_sampling
    return {
        "prompts": run.prompts.once.fingerprint,
        "decoding": decoding_of(options, sampling),
        **({} if sampling is None else {"sampling": sampling.model_dump(mode="json")}),
        "max_new_tokens": run.spec.options.max_new_tokens,
        "end_ids": sorted(run.decoding.end_ids),
    }


def _own(run: Run) -> dict[str, dict[str, Any]]:
    """Return what single metrics depend on beside their rows."""
    options = run.spec.options
    bart: dict[str, Any] = {"model": None}
    if run.bart is not None:
        folder = run.bart.folder
        bart = {"model": [run.bart.weights_hash, config_hash(folder)], "model_tokenizer": _reading_of(folder)}
    return {
        "preference_accuracy": {"beta": options.beta},
        "margin": {"beta": options.beta},
        "r_d_accuracy": {"q_diff": _direction_hash(run.how)},
        "bleu": {"signature": bleu_signature()},
        **{metric: bart for metric, asked in COMPANIONS.items() if asked == "bartscore"},
    }


def _reading_of(folder: Path) -> str | None:
    """Return the hash of how the model in *folder* reads; None: its tokenizer does not load, nor will the model."""
    with suppress(ModelNotUsable):
        return reading_hash(load_tokenizer(folder))
    return None


def _direction_hash(how: Pass) -> str | None:
    if how.direction is None:
        return None
    vector = how.direction.u if how.direction.q_diff is None else how.direction.q_diff
    return hashlib.sha256(vector.float().cpu().numpy().tobytes()).hexdigest()


def hash_of(value: Any) -> str:  # noqa: ANN401 -- any JSON
    """Return the SHA-256, in hex, of the sorted JSON of *value*."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
