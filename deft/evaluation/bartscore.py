"""BARTScore: how likely an encoder-decoder finds one text given another (arXiv 2106.11520), in three directions.

precision: the answer given the reference; recall: the reference given the answer; f: the mean of both. Knows an
encoder-decoder and texts; no system and no dataset.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from deft.evaluation.intervals import Array
from deft.memory import OnHalving, in_halves, unheard
from deft.models.files import refusal, refuse_code, require_safetensors
from deft.models.loading import LOADING_ERRORS, dtype_of, load_tokenizer, told
from deft.packing import plan
from deft.reward_models.heads import require_encoder_decoder

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers import PreTrainedTokenizerBase as Tokenizer

MOST_TOKENS = 1024
"""Of either text; longer ones are cut on the right, as the authors' code does."""

TOKENS_AT_ONCE = {"cpu": 4096, "cuda": 65536}
IGNORED = -100


@dataclass(frozen=True, slots=True)
class BartScorer:
    """An encoder-decoder in evaluation mode, and its tokenizer."""

    model: "PreTrainedModel"
    tokenizer: "Tokenizer"
    on_halving: OnHalving = unheard

    def log_likelihoods(
        self, sources: Sequence[str], targets: Sequence[str], on_progress: Callable[[int], None] = lambda _: None
    ) -> Array:
        """Return [n]: the mean log-probability of the tokens of each target given its source, in nats.

        All tokens of the target count, with those that the tokenizer puts around a text.
        """
        pairs = [(self._ids(source), self._ids(target)) for source, target in zip(sources, targets, strict=True)]
        found, done = np.zeros(len(pairs)), 0

        def fill(batch: Sequence[int]) -> None:
            found[list(batch)] = self._means([pairs[index] for index in batch])

        budget = TOKENS_AT_ONCE[self.model.device.type]
        for batch in plan([len(source) + len(target) for source, target in pairs], budget):
            in_halves(batch, fill, self.on_halving)
            done += len(batch)
            on_progress(done)
        return found

    def _ids(self, text: str) -> list[int]:
        limit = min(MOST_TOKENS, getattr(self.model.config, "max_position_embeddings", None) or MOST_TOKENS)
        ids: list[int] = self.tokenizer(text, truncation=True, max_length=limit)["input_ids"]
        return ids

    @torch.inference_mode()
    def _means(self, pairs: Sequence[tuple[list[int], list[int]]]) -> Array:
        device = self.model.device
        source = _padded([source for source, _ in pairs], 0, device)
        mask = _padded([[1] * len(source) for source, _ in pairs], 0, device)
        labels = _padded([target for _, target in pairs], IGNORED, device)
        logits = self.model(input_ids=source, attention_mask=mask, labels=labels).logits
        counts = labels != IGNORED
        chosen = labels.clamp(min=0).unsqueeze(-1)
        logps = torch.log_softmax(logits.float(), dim=-1).gather(-1, chosen).squeeze(-1)
        means: Array = ((logps * counts).sum(dim=1) / counts.sum(dim=1)).double().cpu().numpy()
        return means


def _padded(rows: Sequence[Sequence[int]], padding: int, device: torch.device) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([[*row, *[padding] * (width - len(row))] for row in rows], device=device)


def load_bart(folder: Path, on_halving: OnHalving = unheard) -> BartScorer:
    """Return the encoder-decoder in *folder*, frozen, on the first GPU if there is one.

    Raises:
        ModelNotUsable: it is none, has pickled or missing weights, code of its own, or does not load.
    """
    from transformers import AutoModelForSeq2SeqLM

    require_encoder_decoder(folder, "/bartscore_model")
    refuse_code(folder)
    require_safetensors(folder, "model")
    place = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        model, info = AutoModelForSeq2SeqLM.from_pretrained(
            folder,
            dtype=dtype_of("auto", place),
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except torch.OutOfMemoryError:
        raise
    except LOADING_ERRORS as error:
        raise refusal(folder, f"weights that do not load ({told(error)})", "an encoder-decoder") from error
    if info["missing_keys"] or info.get("mismatched_keys"):
        raise refusal(folder, f"weights without {sorted(info['missing_keys'])[:3]}", "weights of the whole model")
    model.requires_grad_(False)
    return BartScorer(cast("PreTrainedModel", model.to(place).eval()), load_tokenizer(folder), on_halving)
