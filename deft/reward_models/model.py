"""A reward model in memory: its classifier, its tokenizer, and the rewards of prompts with responses.

Knows folders of models and examples; it must not know how it was trained or what its rewards are used for.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from deft.evaluation.intervals import Array
from deft.examples import Example
from deft.memory import OnHalving, in_halves, unheard
from deft.models.files import refusal, refuse_code, require_safetensors
from deft.models.loading import LOADING_ERRORS, Precision, dtype_of, load_tokenizer, told
from deft.packing import plan
from deft.reward_models.heads import require_reward_head
from deft.reward_models.layout import Sequences, lay_out, options_for
from deft.specs import TokenOptions

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers import PreTrainedTokenizerBase as Tokenizer

RECORD = "reward_model.json"
"""What is on record of a reward model that a job made, in its folder."""

TOKENS_AT_ONCE = {"cpu": 4096, "cuda": 65536}
"""Padded tokens of one pass."""


@dataclass(frozen=True, slots=True)
class RewardModel:
    """A classifier with one label, in evaluation mode, and how it reads."""

    model: "PreTrainedModel"
    tokenizer: "Tokenizer"
    options: TokenOptions
    on_halving: OnHalving = unheard

    def rewards(
        self, examples: Sequence[Example], on_progress: Callable[[int], None] = lambda _: None
    ) -> tuple[list[Array], list[Array]]:
        """Return, for each example, the logits of its responses, and how many tokens of each it read (float64)."""
        rows = lay_out(examples, self.tokenizer, self.options)
        found = np.zeros(sum(len(row.ids) for row in rows))
        starts = np.cumsum([0, *(len(row.ids) for row in rows)])
        done = 0

        def fill(batch: Sequence[int]) -> None:
            at = np.concatenate([np.arange(starts[index], starts[index + 1]) for index in batch])
            found[at] = self._logits([rows[index] for index in batch])

        for batch in plan([row.longest * len(row.ids) for row in rows], TOKENS_AT_ONCE[self.model.device.type]):
            in_halves(batch, fill, self.on_halving)
            done += len(batch)
            on_progress(done)
        tokens = [np.array(row.response_tokens, dtype=np.float64) for row in rows]
        return [found[start:stop] for start, stop in pairwise(starts)], tokens

    @torch.inference_mode()
    def _logits(self, rows: Sequence[Sequences]) -> Array:
        logits: Array = logits_of(self.model, rows).double().cpu().numpy()
        return logits


def logits_of(model: nn.Module, rows: Sequence[Sequences]) -> Tensor:
    """Return [S] float32: the logit of every sequence of *rows*, in order; sequences are padded on the right."""
    device = next(model.parameters()).device
    ids = [own for row in rows for own in row.ids]
    width = max(map(len, ids))
    pad = cast("PreTrainedModel", model).config.get_text_config().pad_token_id
    inputs = {
        "input_ids": torch.tensor([[*own, *[pad] * (width - len(own))] for own in ids], device=device),
        "attention_mask": torch.tensor([[1] * len(own) + [0] * (width - len(own)) for own in ids], device=device),
    }
    if rows[0].types is not None:
        types = [own for row in rows for own in row.types or []]
        inputs["token_type_ids"] = torch.tensor([[*own, *[0] * (width - len(own))] for own in types], device=device)
    logits: Tensor = model(**inputs).logits
    return logits[:, 0].float()


def load_reward_model(
    folder: Path, pointer: str = "/reward_models", *, precision: Precision = "auto", on_halving: OnHalving = unheard
) -> RewardModel:
    """Return the reward model in *folder*, frozen, on the first GPU if there is one.

    One that a job made reads as it was trained to; any other as `options_for` says.

    Raises:
        ModelNotUsable: it has another head, pickled or missing weights, code of its own, or does not load.
    """
    require_reward_head(folder, pointer)
    tokenizer = load_tokenizer(folder)
    model = load_classifier(folder, tokenizer, precision=precision).eval()
    model.requires_grad_(False)
    recorded = tokens_of(folder)
    options = TokenOptions.model_validate(recorded) if recorded else options_for(tokenizer, context_of(model))
    return RewardModel(model, tokenizer, options, on_halving)


def record_of(folder: Path) -> dict[str, Any]:
    """Return what the job that made the reward model in *folder* recorded; empty for any other."""
    path = folder / RECORD
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def tokens_of(folder: Path) -> dict[str, Any] | None:
    """Return the token options that the reward model in *folder* was trained with; None: not on record."""
    found: dict[str, Any] | None = record_of(folder).get("spec", {}).get("tokens")
    return found


def context_of(model: "PreTrainedModel") -> int | None:
    """Return how many tokens the model can read, None where its settings do not say."""
    found = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return found if isinstance(found, int) else None


def load_classifier(
    folder: Path, tokenizer: "Tokenizer", *, precision: Precision = "auto", may_be_new: bool = False
) -> "PreTrainedModel":
    """Return the model in *folder* with a head of one label; with *may_be_new*, one without it gets a new one.

    New weights, where the head is missing or has another number of labels, are drawn from torch's generator as it
    stands.

    Raises:
        ModelNotUsable: pickled or missing weights, weights of other shapes, code of its own, an unknown architecture,
            or, unless it *may_be_new*, a head with several labels.
    """
    from transformers import AutoModelForSequenceClassification

    refuse_code(folder)
    require_safetensors(folder, "model")
    place = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        model, info = AutoModelForSequenceClassification.from_pretrained(
            folder,
            num_labels=1,
            ignore_mismatched_sizes=may_be_new,  # what of it is no head is refused below
            dtype=dtype_of(precision, place),
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except torch.OutOfMemoryError:
        raise
    except LOADING_ERRORS as error:
        found = f"weights that do not load as a classifier with one label ({told(error)})"
        raise refusal(folder, found, "an encoder or decoder of transformers") from error
    _refuse_missing(folder, model, info, may_be_new=may_be_new)
    _set_pad_token(model, tokenizer)
    return cast("PreTrainedModel", model.to(place))


def _refuse_missing(folder: Path, model: nn.Module, info: Any, *, may_be_new: bool) -> None:  # noqa: ANN401 -- transformers'
    """Refuse weights that are missing or of other shapes: of the backbone always, of the head unless it may be new."""
    backbone = cast("PreTrainedModel", model).base_model_prefix
    missing = [key for key in info["missing_keys"] if not may_be_new or _is_backbones(key, backbone)]
    if missing:
        raise refusal(folder, f"weights without {sorted(missing)[:3]}", "weights of the whole model")
    found = info.get("mismatched_keys") or ()
    others = sorted(key for key, *shapes in found if not may_be_new or not _are_other_labels(key, backbone, *shapes))
    if others:
        raise refusal(folder, f"weights of other shapes than config.json says: {others[:3]}", "a config.json that fits")


def _are_other_labels(key: str, backbone: str, stored: Sequence[int], wanted: Sequence[int]) -> bool:
    """Return whether a tensor outside the *backbone* differs in the number of labels alone."""
    return not key.startswith(f"{backbone}.") and wanted[0] == 1 and tuple(stored[1:]) == tuple(wanted[1:])


def _is_backbones(key: str, backbone: str) -> bool:
    return key.startswith(f"{backbone}.") and ".pooler." not in key  # what a classifier reads may be new with it


def _set_pad_token(model: "PreTrainedModel", tokenizer: "Tokenizer") -> None:
    """Name a pad token, which a decoder's classifier needs to find the last token of a sequence."""
    config = model.config.get_text_config()
    if getattr(config, "pad_token_id", None) is None:
        found = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        config.pad_token_id = 0 if found is None else found
        model.config.pad_token_id = config.pad_token_id
