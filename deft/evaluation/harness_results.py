"""What lm-evaluation-harness wrote, read as what it is: a file of another program, which may hold anything.

Either a file has the harness's form, and its names and numbers can be stored, or it is not understood. Knows JSON, no
program and no model.
"""

import json
import math
from collections.abc import Iterator
from typing import Any

from deft.evaluation.metrics import Who
from deft.evaluation.settings import hash_of
from deft.specs import LmEval

MOST_BYTES = 67_108_864
"""Of one file of results; the harness's own, which hold no documents, have some kilobytes a task."""

MOST_CHARACTERS = 200
"""Of the name of a task or of a number, which is part of the key of a score."""

MOST_DOCUMENTS = 2**31 - 1
NORMAL_95 = 1.959964
"""Standard errors on either side of a 95 % interval."""

Json = dict[str, Any]
_Interval = tuple[float, float] | tuple[None, None]


def parsed(text: str) -> Json | None:
    """Return the results that *text* holds; None: it is no JSON, or of another form than the harness's."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    results = found.get("results") if isinstance(found, dict) else None
    if not isinstance(results, dict) or not all(map(_is_task, results, results.values())):
        return None
    fields = [_of(found, field, task) for field in ("higher_is_better", "n-samples") for task in results]
    return found if all(own is None or isinstance(own, dict) for own in fields) else None


def rows_of(found: Json, who: Who, asked: LmEval | None, common: Json) -> Iterator[tuple[Json, Json]]:
    """Yield a row of metrics.json and its settings for every number that is better the higher it is, each name once.

    The interval is made of the harness's own standard error, where it has one. *found* is as `parsed` returns it.
    """
    named = set()
    for task, numbers in found["results"].items():
        higher, samples = _of(found, "higher_is_better", task) or {}, _of(found, "n-samples", task) or {}
        settings = {
            "metric": "lm_eval",
            "program": _scalar(found.get("lm_eval_version")),
            "task": [task, _scalar(_of(found, "versions", task)), _scalar(_of(found, "n-shot", task))],
            "asked": None if asked is None else asked.model_dump(mode="json", exclude={"tasks", "timeout_seconds"}),
            **common,
        }
        for key in numbers:
            name, _, kept_by = key.partition(",")
            metric = f"lm_eval:{task}/{name}" + ("" if kept_by in ("", "none") else f",{kept_by}")
            value = _number(numbers[key])
            if value is None or name.endswith("_stderr") or higher.get(name) is not True or metric in named:
                continue
            named.add(metric)
            low, high = _interval(value, _number(numbers.get(f"{name}_stderr,{kept_by}")))
            row = {
                "system": who.system,
                "arm": who.arm,
                "slice": "all",
                "metric": metric,
                "value": value,
                "low": low,
                "high": high,
                "n": _count(samples.get("effective")),
                "is_trained_on": False,
                "settings_hash": hash_of(settings),
            }
            yield row, settings


def _is_task(name: str, numbers: object) -> bool:
    return _is_name(name) and isinstance(numbers, dict) and all(map(_is_name, numbers))


def _is_name(text: object) -> bool:
    """Return whether every store can hold *text* as part of a key."""
    return isinstance(text, str) and text.isprintable() and len(text) <= MOST_CHARACTERS


def _of(found: Json, field: str, task: str) -> Any:  # noqa: ANN401 -- JSON
    own = found.get(field)
    return own.get(task) if isinstance(own, dict) else None


def _number(value: object) -> float | None:
    """Return *value* as a double; None: it is no number, or none that a double holds."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _interval(value: float, error: float | None) -> _Interval:
    if error is None or error < 0:
        return None, None
    low, high = value - NORMAL_95 * error, value + NORMAL_95 * error
    return (low, high) if math.isfinite(low) and math.isfinite(high) else (None, None)


def _count(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_DOCUMENTS:
        return value
    return None


def _scalar(value: object) -> object:
    """Return *value* where it is a version or a number of shots that can be stored; None where it is anything else."""
    if isinstance(value, str):
        return value if _is_name(value) else None
    if isinstance(value, int):
        return value if abs(value) <= MOST_DOCUMENTS else None
    return _number(value)
