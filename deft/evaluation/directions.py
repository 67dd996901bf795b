"""Which way metrics are better, and what the base has by definition. Torch-free; measures nothing."""

from collections.abc import Mapping

LOWER_IS_BETTER = frozenset({"kl", "perplexity", "harmful_compliance", "over_refusal", "incoherent"})
"""Every other metric counts as better the higher it is."""

OF_THE_BASE: Mapping[str, float] = {
    "preference_accuracy": 0.5,
    "margin": 0.0,
    "kl": 0.0,
    "chosen_logp_change": 0.0,
    "chosen_logp_change_per_token": 0.0,
}
"""What no measurement of the base could change: it prefers nothing to itself."""


def is_lower_better(metric: str) -> bool:
    """Whether a smaller value of *metric* is the better one."""
    return metric.partition(":")[0] in LOWER_IS_BETTER
