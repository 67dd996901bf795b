"""Quality against cost: what each arm reached, and the seconds that it took with everything it alone needs. Pure.

An arm pays for what it could not have done without: an end of R_d for the whole scoring, the reward term for counting
Q_diff and for measuring omega, every arm for its own selection and training, process start and model loading included.
It knows specs and seconds, no job and no clock.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from deft.arms import EQUAL_COST, Arm, arms
from deft.specs import PipelineSpec

QUALITY = "preference_accuracy"
PARTS = ("start", "count", "score", "select", "omega", "train")
"""What an arm may pay for, in order of time."""


def cost_quality(
    spec: PipelineSpec, table: Sequence[Mapping[str, Any]], seconds: Mapping[str, float], counting: float | None
) -> dict[str, Any]:
    """Return the points of the curve, cheapest first, and the sentence on them.

    Args:
        spec: the pipeline's, resolved.
        table: the table of its comparison.
        seconds: of each child job by name, from claim to end, over all its attempts.
        counting: seconds of the scoring that went into counting Q_diff; None is not known.
    """
    cells = {row["arm"]: row["cells"].get(QUALITY) for row in table}
    points = []
    for name in spec.arms:
        parts = _mean([_parts(spec, arm, seconds, counting) for arm in arms(spec) if arm.name == name])
        cell = cells.get(name)
        if cell is not None and parts is not None:
            quality = {key: cell[key] for key in ("value", "low", "high", "n")}
            points.append({"arm": name, **quality, "seconds": parts, "total_seconds": round(sum(parts.values()), 3)})
    points.sort(key=lambda point: point["total_seconds"])
    left_out = [name for name in spec.arms if name not in {point["arm"] for point in points}]
    return {"metric": QUALITY, "points": points, "left_out": left_out, "sentence": sentence(points)}


def _parts(
    spec: PipelineSpec, arm: Arm, seconds: Mapping[str, float], counting: float | None
) -> dict[str, float] | None:
    """Return what one training of *arm* paid for; None where its own training has no time."""
    ranks = arm.selection is not None and arm.selection.end in ("lowest", "highest")
    needed = {
        "start": "sft" if spec.sft is not None else None,
        "score": "score" if ranks else None,
        "select": arm.select_name,
        "omega": "measure_omega" if arm.has_term and "measure_omega" in seconds else None,
        "train": f"train:{arm.system}",
    }
    if needed["train"] not in seconds:
        return None
    found = {part: seconds.get(job, 0.0) for part, job in needed.items() if job is not None}
    if arm.has_term and not ranks and counting is not None:
        found["count"] = counting
    return {part: round(found[part], 3) for part in PARTS if part in found}


def _mean(draws: Sequence[dict[str, float] | None]) -> dict[str, float] | None:
    """Return the mean over the *draws* of an arm, part by part."""
    known = [draw for draw in draws if draw is not None]
    if not known:
        return None
    return {part: round(sum(draw.get(part, 0.0) for draw in known) / len(known), 3) for part in known[0]}


def sentence(points: Sequence[Mapping[str, Any]]) -> str:
    """Return, in words, what `deft` cost beside a random subset and beside everything."""
    by_arm = {point["arm"]: point for point in points}
    own = by_arm.get("deft")
    if own is None:
        return "The cost of `deft` is not known."
    text = (
        f"`deft` took {own['total_seconds']:,.0f} s, scoring included, for a preference accuracy of {own['value']:.3f}"
    )
    others = [
        f"{_times(own, by_arm[name])} the time of `{name}` ({by_arm[name]['value']:.3f})"
        for name in ("random", EQUAL_COST, "full")
        if name in by_arm and by_arm[name]["total_seconds"] > 0
    ]
    return f"{text}: {', '.join([*others[:-2], ' and '.join(others[-2:])])}." if others else f"{text}."


def _times(own: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    return f"{own['total_seconds'] / other['total_seconds']:.2f} times"
