"""Files of an evaluation as the operation writes them, from made-up values of each prompt instead of a model's."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from deft.evaluation.comparison import gather, system_metrics
from deft.evaluation.files import write_values
from deft.evaluation.metrics import BASE, Measurement, Who, measure_mean
from deft.evaluation.verdict import compare

Numbers = Sequence[float]
SETTINGS = {"pairs": "rows-1", "bootstrap": 400, "seed": 3}
DRAWS = {"deft": "deft", "random": "random", "random-2": "random", "random-3": "random"}
"""Arms by system: one with three draws."""


def right(share: float, prompts: int = 60, seed: int = 0) -> list[float]:
    """Exactly that share of ones, in an order of *seed*."""
    values = np.arange(prompts) < round(share * prompts)
    return list(np.random.default_rng(seed).permutation(values).astype(float))


def accuracies(shares: Mapping[str, float], arms: Mapping[str, str] = DRAWS) -> list[Measurement]:
    """Measure a preference accuracy of that share for each system, and the base's own."""
    found = [
        _accuracy(Who(system, arms[system]), right(share, seed=i)) for i, (system, share) in enumerate(shares.items())
    ]
    prompts = len(found[0].sums)
    return [*found, _accuracy(Who(BASE, BASE), [0.5] * prompts, is_by_definition=True)]


def _accuracy(who: Who, values: Numbers, **more: Any) -> Measurement:
    return measure("preference_accuracy", who, values, bounds=(0.0, 1.0), **more)


def measure(metric: str, who: Who, values: Numbers, **more: Any) -> Measurement:
    """Measure the mean of one value a prompt."""
    return measure_mean(metric, who, np.array(values), list(range(len(values))), **more)


def writer(
    measurements: Sequence[Measurement], *, rows: Sequence[int] | None = None, settings: Mapping[str, Any] = SETTINGS
) -> Callable[[Path], None]:
    """Return what writes the files of an evaluation that measured *measurements*, all over the same *rows*."""

    def write(folder: Path) -> None:
        prompts = len(measurements[0].sums)
        held_out = SimpleNamespace(
            rows=list(rows or range(prompts)),
            clusters=list(range(prompts)),
            sources=[None] * prompts,
            samples=[0] * prompts,
        )
        evidence = gather(measurements, resamples=settings["bootstrap"], seed=settings["seed"])
        named = {metric: {"metric": metric, **settings} for metric in evidence}
        _write(folder / "metrics.json", system_metrics(evidence, dict.fromkeys(evidence, "hash-1")))
        _write(folder / "comparison.json", compare(evidence, "deft"))
        _write(folder / "evaluation.json", {"settings": named})
        write_values([(held_out, list(measurements))], folder / "values.parquet")  # type: ignore[list-item]

    return write


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")
