"""The rows of a reward model: which it learns from, which it is judged by, and the record that tells others of both.

Knows dataset folders and hashes of rows; the record holds no text.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from deft.data.datasets import read_examples
from deft.data.identities import identities
from deft.data.splits import chosen_rows
from deft.errors import Finding, InvalidInput
from deft.examples import Example, is_transcript, normalised
from deft.specs import TrainRewardModelSpec
from deft.tokens import transcript_of

ROWS = "rows.parquet"
"""In a reward model's folder: `row`, `key`, `split_point`, `response_keys` of each row; whether it was `held_out`."""


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


def response_keys(example: Example) -> list[int]:
    """Return of each response the first 64 bits of the SHA-256 of prompt and response, both normalised.

    Forms of one conversation (bare text, transcript, messages) have one key; rank and the other responses have no part.
    """
    prompt = example.prompt
    if isinstance(prompt, str) and not is_transcript(prompt):
        prompt = [{"role": "user", "content": prompt}]
    asked = normalised(transcript_of(prompt))
    digests = (hashlib.sha256(orjson.dumps([asked, normalised(said)])).digest() for said in example.responses)
    return [int.from_bytes(digest[:8], "big") for digest in digests]


def write_rows(path: Path, trained: Sequence[Row], held_out: Sequence[Row]) -> None:
    """Write which rows were learnt from and which held out, by their hashes alone."""
    both = [*trained, *held_out]
    table = {
        "row": pa.array([row.number for row in both], pa.int64()),
        "key": pa.array([row.key for row in both], pa.string()),
        "split_point": pa.array([row.point for row in both], pa.float64()),
        "response_keys": pa.array([response_keys(row.example) for row in both], pa.list_(pa.uint64())),
        "held_out": pa.array([False] * len(trained) + [True] * len(held_out)),
    }
    pq.write_table(pa.table(table), path, compression="zstd")


@dataclass(frozen=True, slots=True, eq=False)
class Learnt:
    """What a reward model learnt from: *keys* of rows and of *responses*, and *points* of their prompts.

    Both tables have a `key` and its `row`. *responses* is None of a model whose record was written before it had them.
    """

    keys: pl.DataFrame
    responses: pl.DataFrame | None
    points: frozenset[float]


@dataclass(frozen=True, slots=True)
class Shared:
    """How many *what* (`rows`, or `responses`) two reward models learnt from both, and a *row* of each that has one."""

    what: str
    number: int
    row: int
    other_row: int


def learnt_rows(folder: Path) -> Learnt | None:
    """Return what the reward model in *folder* learnt from, None where that is not on record."""
    path = folder / ROWS
    if not path.is_file():
        return None
    table = pl.read_parquet(path).filter(~pl.col("held_out"))
    responses = None
    if "response_keys" in table.columns:
        responses = table.select("row", pl.col("response_keys").alias("key")).explode("key")
    return Learnt(table.select("row", "key"), responses, frozenset(table["split_point"].to_list()))


def shared(own: Learnt, other: Learnt) -> Shared | None:
    """Return what both learnt from, with the first row of *own* that has it; None: nothing.

    That is responses to the same prompts; rows as a whole where one of the two has no more on record.
    """
    if own.responses is None or other.responses is None:
        return _shared("rows", own.keys, other.keys)
    return _shared("responses", own.responses, other.responses)


def _shared(what: str, own: pl.DataFrame, other: pl.DataFrame) -> Shared | None:
    first, second = (table.group_by("key").agg(pl.col("row").min()) for table in (own, other))
    both = first.join(second, on="key", suffix="_of_other").sort("row", "row_of_other")
    if both.is_empty():
        return None
    return Shared(what, both.height, both["row"][0], both["row_of_other"][0])


def _too_few(rows: int) -> InvalidInput:
    finding = Finding(
        code="too_few_prompts",
        pointer="/rows",
        found=f"{rows} rows with one first user turn",
        expected="at least two prompts: one to learn from, one held out",
        fix="use a larger dataset, another split, or other fractions",
    )
    return InvalidInput("the rows have too few prompts for a reward model", code="too_few_prompts", findings=[finding])
