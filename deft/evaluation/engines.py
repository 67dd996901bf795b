"""Which engine answers as which system, and why it is that one, for the record.

Answers are the same by either, up to rounding where several prompts stand in one pass. Knows models; no prompts.
"""

from dataclasses import dataclass, field
from typing import Literal

from torch import nn

from deft.evaluation.continuous import CONTINUOUS_FAMILIES, flash_attention
from deft.models.loading import causal_model
from deft.specs import GenerationEngine

Used = Literal["continuous_batching", "sorted_batches", "server"]


@dataclass(frozen=True, slots=True)
class Engines:
    """What was *asked* for, and what each system was answered by: `{system, engine, because}`, each once."""

    asked: GenerationEngine = "sorted_batches"
    used: list[dict[str, str | None]] = field(default_factory=list)

    def note(self, system: str, engine: Used, because: str | None = None) -> None:
        """Put on record that *engine* answered as *system*, and *because* of what it was that one."""
        entry = {"system": system, "engine": engine, "because": because}
        if entry not in self.used:
            self.used.append(entry)

    def why_sorted(self, model: nn.Module, *, is_sampled: bool) -> str | None:
        """Return why sorted batches are to answer, None where continuous batching is."""
        own = causal_model(model)
        if self.asked == "sorted_batches":
            return "options.engine asks for it"
        if is_sampled:
            return "each sampled answer has a seed of its own, which continuous batching does not take"
        if own.config.model_type not in CONTINUOUS_FAMILIES:
            return f"continuous batching is not tested with {own.config.model_type} models"
        if self.asked == "auto" and own.device.type != "cuda":
            return f"the model is on the {own.device.type}"
        if self.asked == "auto" and flash_attention(own) is None:
            return "without flash attention (flash-attn, a model in half precision) continuous batching is slow"
        return None
