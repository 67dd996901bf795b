"""What the demo does and how much of it, so that it ends within ten minutes."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deft.specs import ArmName

MODEL_NAME = "smollm2-135m"
ARMS: tuple[ArmName, ...] = ("deft", "no_reward_term", "random_with_term", "random")


FAST_GFLOPS = 250.0
"""From this speed on the usual sizes take less than eight minutes (they took 14 at 130 GFLOP/s)."""

SMALLER = {
    "score_sample": 80,
    "batch_size": 4,
    "pairs": 24,
    "prompts": 8,
    "max_new_tokens": 32,
    "max_prompt_tokens": 128,
    "max_total_tokens": 192,
}
"""The sizes of a slower machine: well under half the work."""


def measure_gflops(size: int = 1024, repeats: int = 8) -> float:
    """Return how fast this machine multiplies float32 matrices, the best of a few tries (about half a second)."""
    import numpy as np  # not there in a plain client

    matrix = np.ones((size, size), dtype=np.float32)
    fastest = float("inf")
    for _ in range(repeats):
        started_at = time.perf_counter()
        matrix @ matrix
        fastest = min(fastest, time.perf_counter() - started_at)
    return 2e-9 * size**3 / fastest


@dataclass(frozen=True)
class DemoOptions:
    """Sizes, by default those of a fast machine, and where things go."""

    out: Path = Path("demo-output")
    score_sample: int = 160
    keep: float = 0.25
    epochs: int = 1
    batch_size: int = 8
    random_draws: int = 1
    pairs: int = 48
    prompts: int = 16
    max_new_tokens: int = 48
    max_prompt_tokens: int = 192
    max_total_tokens: int = 256
    seed: int = 0

    def spec(self, dataset_id: str) -> dict[str, Any]:
        """Return the body of the one pipeline job."""
        return {
            "kind": "pipeline",
            "name": "demo",
            "dataset": dataset_id,
            "model": MODEL_NAME,
            "score_sample": self.score_sample,
            "seed": self.seed,
            "tokens": {"max_prompt_tokens": self.max_prompt_tokens, "max_total_tokens": self.max_total_tokens},
            "selection": {"keep": self.keep, "seed": self.seed},
            "method": {"type": "dpo"},
            "optimisation": {"epochs": self.epochs, "batch_size": self.batch_size, "seed": self.seed},
            "arms": list(ARMS),
            "random_draws": self.random_draws,
            "evaluation": {
                "pairs": self.pairs,
                "prompts": self.prompts,
                "max_new_tokens": self.max_new_tokens,
                "seed": self.seed,
            },
        }

    def lines(self) -> list[str]:
        """Return the sizes and seeds for a person."""
        return [
            f"score a seeded sample of {self.score_sample} pairs of the train split (Q_diff is counted on all of it), "
            f"keep {self.keep:.0%}",
            f"DPO with LoRA, {self.epochs} epoch an arm in batches of {self.batch_size}; arms: {', '.join(ARMS)}",
            f"prompts are cut on the left to {self.max_prompt_tokens} tokens, prompt and response to "
            f"{self.max_total_tokens}",
            f"judge {self.pairs} held-out pairs by likelihood and {self.prompts} prompts x {self.max_new_tokens} "
            f"tokens by generation",
            f"seed {self.seed} for the sample, the random subset, the training order and the bootstrap",
        ]
