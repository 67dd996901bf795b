"""Training curves for a report: the few series that tell how a run went, thinned to what a chart can show. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

SERIES: Mapping[str, str] = {
    "loss": "loss",
    "rewards/margins": "implicit margin",
    "rewards/accuracies": "accuracy on the step's examples",
    "deft/r_d": "R_d of the chosen responses",
    "deft/probe_kl": "KL to the reference, nats a token",
    "deft/probe_entropy": "entropy, nats a token",
}
"""Names as training logs them, and what charts call them."""
POINTS = 200


def training_curve(points: Sequence[tuple[int, Mapping[str, float | None]]]) -> dict[str, dict[str, list[Any]]]:
    """Return {series: {"steps": [...], "values": [...]}} of a run's *points* (step, values), at most `POINTS` each."""
    found: dict[str, dict[str, list[Any]]] = {}
    for name in SERIES:
        own = [(step, values[name]) for step, values in points if values.get(name) is not None]
        if own:
            kept = _thinned(own)
            found[name] = {"steps": [step for step, _ in kept], "values": [value for _, value in kept]}
    return found


def _thinned(points: list[tuple[int, float | None]]) -> list[tuple[int, float | None]]:
    """Return at most `POINTS` of *points*, evenly spaced, the last among them."""
    if len(points) <= POINTS:
        return points
    places = sorted({round(i * (len(points) - 1) / (POINTS - 1)) for i in range(POINTS)})
    return [points[place] for place in places]
