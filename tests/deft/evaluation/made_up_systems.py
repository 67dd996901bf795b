"""Synthetic systems whose effect is known, and the comparison of them."""

import numpy as np

from deft.evaluation.comparison import gather
from deft.evaluation.metrics import BASE, SHORTER, Measurement
from deft.evaluation.verdict import compare

PROMPTS = 400


def measured(metric: str, arm: str, values: np.ndarray, draw: int = 1, **facts: object) -> Measurement:
    """Return the mean of *values*, one a prompt, as *metric* of a draw of *arm*."""
    sums = np.column_stack([values, np.ones(len(values))])
    name = arm if draw == 1 else f"{arm}-{draw}"
    facts = ({"bounds": (0.0, 1.0)} if metric.endswith("accuracy") else {}) | facts
    return Measurement(metric, name, arm, sums, len(values), **facts)  # type: ignore[arg-type]


def systems(
    accuracy: dict[str, float],
    *,
    fall: dict[str, float] | None = None,
    kl: dict[str, float] | None = None,
    has_drift: bool = True,
    prompts: int = PROMPTS,
) -> list[Measurement]:
    """Systems that are right in exactly that share of pairs; log p(chosen) of 10 tokens fell by *fall*."""
    order = np.random.default_rng(0).permutation(prompts)
    ones = np.ones(prompts)
    found = [measured("preference_accuracy", BASE, ones / 2, is_by_definition=True)]
    found.append(measured("preference_accuracy", SHORTER, (order < 0.57 * prompts).astype(float)))
    for arm, share in accuracy.items():
        found.append(measured("preference_accuracy", arm, (order < round(share * prompts)).astype(float)))
        if has_drift:
            change = -(fall or {}).get(arm, 1.0) * ones
            found.append(measured("chosen_logp_change", arm, change))
            found.append(measured("chosen_logp_change_per_token", arm, change / 10))
            found.append(measured("kl", arm, (kl or {}).get(arm, 0.02) * ones))
    return found


def compared(measurements: list[Measurement], focus: str | None = "deft", **more: object) -> dict:
    """Return comparison.json of *measurements*."""
    return compare(gather(measurements, resamples=1000, seed=0), focus, **more)  # type: ignore[arg-type]
