"""Where the arms of an evaluation differ most, row by row, from pairs.parquet. Torch-free; no text of a row."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

ROWS = 20


def contrasts(pairs: Path, arm_of: Mapping[str, str], examples: Path | None = None) -> dict[str, Any]:
    """Return the `ROWS` held-out rows whose implicit margins differ most between arms, and how often arms disagree.

    Args:
        pairs: pairs.parquet of an evaluation.
        arm_of: the arm of each system; others, the base among them, take no part. Draws of an arm are averaged.
        examples: examples.parquet of the dataset, for the line and the source of each row.
    """
    margins = _margins(pairs, arm_of)
    arms = list(dict.fromkeys(arm_of.values()))
    complete = {row: own for row, own in margins.items() if len(own) == len(arms) > 1}
    ranges = {row: max(own.values()) - min(own.values()) for row, own in complete.items()}
    top = sorted(ranges, key=lambda row: (-ranges[row], row))[:ROWS]
    places = _places(examples, top) if examples is not None else {}
    return {
        "rows": [
            {"row": row, **places.get(row, {}), "range": ranges[row], "margins": {a: complete[row][a] for a in arms}}
            for row in top
        ],
        "disagreement": _disagreement(complete, arms),
        "of_rows": len(complete),
    }


def _margins(pairs: Path, arm_of: Mapping[str, str]) -> dict[int, dict[str, float]]:
    """Return the mean margin of each row under each arm."""
    table = pq.read_table(pairs, columns=["row", "system", "margin"])
    arms = [arm_of.get(system) for system in table["system"].to_pylist()]
    table = table.append_column("arm", pa.array(arms, pa.string()))
    table = table.filter(pc.and_(pc.is_valid(table["arm"]), pc.is_valid(table["margin"])))
    means = table.group_by(["row", "arm"]).aggregate([("margin", "mean")])
    found: dict[int, dict[str, float]] = {}
    for entry in means.to_pylist():
        found.setdefault(entry["row"], {})[entry["arm"]] = entry["margin_mean"]
    return found


def _disagreement(margins: Mapping[int, Mapping[str, float]], arms: list[str]) -> list[dict[str, Any]]:
    """Return, for every two arms, on which share of the rows one prefers the chosen response and the other does not."""
    found = []
    for place, first in enumerate(arms):
        for second in arms[place + 1 :]:
            apart = sum((own[first] > 0) != (own[second] > 0) for own in margins.values())
            found.append({"arms": [first, second], "share": apart / len(margins) if margins else None})
    return found


def _places(examples: Path, rows: list[int]) -> dict[int, dict[str, Any]]:
    """Return the line and the source of *rows* in the uploaded file."""
    table = pq.read_table(examples, columns=["row", "source_line", "source"])
    own = table.filter(pc.is_in(table["row"], pa.array(rows, pa.int64())))
    return {each["row"]: {"source_line": each["source_line"], "source": each["source"]} for each in own.to_pylist()}
