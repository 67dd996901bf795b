"""The rows of a reward model: which it learns from, which it is judged by, and the record that tells others of both.

Knows dataset folders and hashes of rows; the record holds no text.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from deft.data.datasets import read_examples
from deft.data.identities import identities
from deft.data.splits import chosen_rows
from deft.errors import Finding, InvalidInput
from deft.examples import Example
from deft.specs import TrainRewardModelSpec

ROWS = "rows.parquet"
"""In a reward model's folder: `row`, `key` and `split_point` of each row, and whether it was `held_out`."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its number, example, the point of its prompt (equal first user turns are equal) and its key."""

    number: int
    example: Example
    point: float
    key: str


def rows_of(spec: TrainRewardModelSpec, folder: Path) -> tuple[list[Row], list[Row]]:
    """Return the rows to learn from and those held out, which share no prompt; both depend on the seed alone.

    Prompts are held out by the lowest SHA-256 of (seed, prompt), so that other rows change nobody's place.

    Raises:
        InvalidInput: the rows have fewer than two prompts.
    """
    wanted = set(chosen_rows(folder, spec.rows))
    known = identities(folder)
    rows = [Row(row, example, *known[row]) for row, example in read_examples(folder) if row in wanted]
    points = sorted({row.point for row in rows}, key=lambda point: _draw(spec.optimisation.seed, point))
    if len(points) < 2:
        raise _too_few(len(rows))
    held_out = set(points[: min(max(1, round(spec.held_out * len(points))), len(points) - 1)])
    return [r for r in rows if r.point not in held_out], [r for r in rows if r.point in held_out]


def _draw(seed: int, point: float) -> bytes:
    return hashlib.sha256(f"{seed}:{point!r}".encode()).digest()


def write_rows(path: Path, trained: Sequence[Row], held_out: Sequence[Row]) -> None:
    """Write which rows were learnt from and which held out, by their hashes alone."""
    both = [*trained, *held_out]
    table = {
        "row": pa.array([row.number for row in both], pa.int64()),
        "key": pa.array([row.key for row in both], pa.string()),
        "split_point": pa.array([row.point for row in both], pa.float64()),
        "held_out": pa.array([False] * len(trained) + [True] * len(held_out)),
    }
    pq.write_table(pa.table(table), path, compression="zstd")


@dataclass(frozen=True, slots=True)
class Learnt:
    """What a reward model learnt from: keys of its rows, and points of their prompts."""

    keys: frozenset[str]
    points: frozenset[float]


def learnt_rows(folder: Path) -> Learnt | None:
    """Return what the reward model in *folder* learnt from, None where that is not on record."""
    path = folder / ROWS
    if not path.is_file():
        return None
    table = pq.read_table(path, columns=["key", "split_point", "held_out"]).to_pydict()
    learnt = [at for at, is_held_out in enumerate(table["held_out"]) if not is_held_out]
    return Learnt(frozenset(table["key"][at] for at in learnt), frozenset(table["split_point"][at] for at in learnt))


def _too_few(rows: int) -> InvalidInput:
    finding = Finding(
        code="too_few_prompts",
        pointer="/rows",
        found=f"{rows} rows with one first user turn",
        expected="at least two prompts: one to learn from, one held out",
        fix="use a larger dataset, another split, or other fractions",
    )
    return InvalidInput("the rows have too few prompts for a reward model", code="too_few_prompts", findings=[finding])
