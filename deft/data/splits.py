"""Which rows of a dataset an operation works on: a split, then a seeded sample. Torch-free.

A row falls into a split by its user's own `split` where that is given, else by its `split_point` (see
`deft.examples.split_point_of`). Splits are laid out on [0, 1) in the order train, reward_model, evaluation.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from deft.errors import Finding, InvalidInput
from deft.specs import Rows, SplitFractions, SplitName

SPLIT_ALIASES: dict[str, SplitName] = {
    "train": "train",
    "training": "train",
    "reward_model": "reward_model",
    "evaluation": "evaluation",
    "eval": "evaluation",
    "test": "evaluation",
    "validation": "evaluation",
    "valid": "evaluation",
    "dev": "evaluation",
}
"""The values of a user's `split` column that are understood (without regard to case)."""


def split_named(name: str) -> SplitName | None:
    """Return the split that a user calls *name*, or None."""
    return SPLIT_ALIASES.get(name.strip().lower())


def split_at(point: float, fractions: SplitFractions) -> SplitName:
    """Return the split into which *point* in [0, 1) falls."""
    if point < fractions.train:
        return "train"
    # An empty evaluation split must stay empty although train + reward_model may round to just below 1.
    if fractions.evaluation == 0 or point < fractions.train + fractions.reward_model:
        return "reward_model" if fractions.reward_model > 0 else "train"
    return "evaluation"


def split_of(point: float, own: str | None, fractions: SplitFractions) -> SplitName:
    """Return the split of a row: its *own* where it has one, else that of its *point*."""
    named = split_named(own) if own is not None else None
    return named or split_at(point, fractions)


def chosen_rows(folder: Path, rows: Rows) -> list[int]:
    """Return, sorted, the dataset row numbers of *folder*'s examples that *rows* asks for.

    A sample takes the rows with the lowest SHA-256 of (seed, key, how many equal examples came before): it is the same
    on every machine, and adding, removing or moving other examples changes nobody else's place in the draw.

    Raises:
        InvalidInput: no row is in that split.
    """
    table = pq.read_table(folder / "examples.parquet", columns=["row", "split", "split_point", "key"]).to_pydict()
    members = [
        (row, key)
        for row, own, point, key in zip(table["row"], table["split"], table["split_point"], table["key"], strict=True)
        if rows.split == "all" or split_of(point, own, rows.fractions) == rows.split
    ]
    if not members:
        raise _no_rows(rows, len(table["row"]))
    if rows.sample is None or rows.sample >= len(members):
        return sorted(row for row, _ in members)
    return sorted(_sample(members, rows.sample, rows.seed))


def row_numbers(folder: Path) -> list[int]:
    """Return the dataset row numbers of all examples of *folder*, in order."""
    numbers: list[int] = pq.read_table(folder / "examples.parquet", columns=["row"])["row"].to_pylist()
    return numbers


def apart_from(folder: Path, rows: Sequence[int], others: Path, other_rows: Rows) -> list[int]:
    """Return those of *rows* of *folder* whose normalised first user turn is that of none of *other_rows* of *others*.

    First user turns are compared by the rows' split points, which are 53 bits of their hash.

    Raises:
        InvalidInput: *others* has none of *other_rows*.
    """
    taken = points_of(others, other_rows)
    return [row for row, point in zip(rows, _points(folder, rows), strict=True) if point not in taken]


def held_out_of(folder: Path, rows: Sequence[int], others: Path, other_rows: Rows) -> list[int]:
    """Return what `apart_from` leaves of *rows* for an evaluation.

    Raises:
        InvalidInput: it leaves none; or *others* has none of *other_rows*.
    """
    left = apart_from(folder, rows, others, other_rows)
    if not left:
        raise _nothing_held_out(len(rows))
    return left


def points_of(folder: Path, rows: Rows) -> set[float]:
    """Return the split points of *rows* of *folder*.

    Raises:
        InvalidInput: it has none of them.
    """
    return set(_points(folder, chosen_rows(folder, rows)))


def _points(folder: Path, rows: Sequence[int]) -> list[float]:
    table = pq.read_table(folder / "examples.parquet", columns=["row", "split_point"]).to_pydict()
    point_of = dict(zip(table["row"], table["split_point"], strict=True))
    return [point_of[row] for row in rows]


def _sample(members: list[tuple[int, str]], size: int, seed: int) -> list[int]:
    seen: Counter[str] = Counter()
    draws: list[tuple[bytes, int]] = []
    for row, key in members:
        draws.append((hashlib.sha256(f"{seed}:{key}:{seen[key]}".encode()).digest(), row))
        seen[key] += 1
    return [row for _, row in sorted(draws)[:size]]


def _no_rows(rows: Rows, total: int) -> InvalidInput:
    finding = Finding(
        code="empty_split",
        pointer="/rows/split",
        found=f"0 of {total} rows in the split {rows.split}",
        expected="at least one row",
        fix="use another split, other fractions, or a larger dataset",
    )
    return InvalidInput(f"The split {rows.split} of this dataset has no rows.", code="empty_split", findings=[finding])


def _nothing_held_out(asked: int) -> InvalidInput:
    finding = Finding(
        code="nothing_held_out",
        pointer="/apart_from",
        found=f"{asked} rows, all with the first user turn of a row that was trained on",
        expected="at least one held-out pair",
        fix="evaluate on rows whose prompts were not trained on",
    )
    return InvalidInput("no row is held out for the evaluation", code="nothing_held_out", findings=[finding])
