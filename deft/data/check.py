"""What is wrong with preference data before a model sees it: a report on a dataset's folder. Torch-free.

Duplicates, near duplicates, contradictory pairs, length bias, overlap with evaluation data, and, where a tokenizer is
given, what is cut off. It knows no model, reads each row once, and holds hashes of rows, never their texts: 0.7 kB a
row. Rows are named by the line of the file that they came from; no text of a row is in the report.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from deft.data.near_duplicates import THRESHOLD, near_duplicate_groups, signatures
from deft.data.splits import split_of
from deft.planning.tokenizer import PlanningTokenizer
from deft.scoring.truncation import truncation
from deft.specs import SplitFractions, TokenOptions

LISTED = 20
"""How many places of each finding are named."""

_BATCH_ROWS = 4096
_COLUMNS = ["row", "source_line", "prompt", "responses", "scores", "split", "split_point", "key"]
_SHARE_OF_DUPLICATES = 0.01
_SHARE_OF_CONTRADICTIONS = 0.001
_SHARE_OF_LENGTH = 0.6
_SHARE_OF_CUT = 0.05


@dataclass(frozen=True, slots=True)
class _Seen:
    """Hashes of a dataset's rows.

    *rows*: row, source_line, split, split_point, key. *pairs*: row, prompt, low, high (hashes of prompt and two
    responses, the lower first), is_low_better, is_best (the better is the row's best), better and worse (numbers of
    characters).
    *signed*: MinHash signatures of prompt and responses together.
    """

    rows: pl.DataFrame
    pairs: pl.DataFrame
    signed: pl.DataFrame


def check_dataset(
    folder: Path,
    evaluation: Path | None = None,
    *,
    tokenizer: PlanningTokenizer | None = None,
    tokens: TokenOptions | None = None,
    fractions: SplitFractions | None = None,
) -> dict[str, Any]:
    """Return the report on the dataset in *folder* as JSON.

    Args:
        folder: a dataset's.
        evaluation: another dataset's, with which this one should not overlap.
        tokenizer: the model's, to count what the limits of *tokens* cut off.
        tokens: limits and template; the defaults of jobs where it is None.
        fractions: of the splits between which near duplicates are looked for; the defaults where it is None.

    Raises:
        InvalidInput: with a tokenizer, a row that does not become tokens as *tokens* asks.
    """
    seen = _seen(folder)
    groups = near_duplicate_groups(seen.signed)
    report: dict[str, Any] = {
        "rows": seen.rows.height,
        "first_user_turns": seen.rows["split_point"].n_unique(),
        "duplicates": _duplicates(seen.rows),
        "near_duplicates": _near_duplicates(seen.rows, groups),
        "across_splits": _across_splits(seen.rows, groups, fractions or SplitFractions()),
        "contradictions": _contradictions(seen),
        "length": _length(seen.pairs),
        "truncation": None if tokenizer is None else truncation(folder, tokenizer, tokens or TokenOptions()),
        "evaluation_overlap": None if evaluation is None else _overlap(seen, _seen(evaluation)),
    }
    return {**report, "warnings": warnings_of(report)}


def _seen(folder: Path) -> _Seen:
    parts = [_hashed(batch) for batch in _batches(folder)]
    rows, pairs, signed = (pl.concat(list(frames)) for frames in zip(*parts, strict=True))
    return _Seen(rows, pairs, signed)


def _batches(folder: Path) -> Iterator[pl.DataFrame]:
    with pq.ParquetFile(folder / "examples.parquet") as file:
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=_COLUMNS):
            found = pl.from_arrow(batch)
            assert isinstance(found, pl.DataFrame)  # noqa: S101 -- a batch is no single column
            yield found


def _hashed(batch: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    texts = batch.select(
        "row", pl.concat_str("prompt", pl.col("responses").list.join(" "), separator=" ").alias("text")
    )
    rows = batch.select("row", "source_line", "split", "split_point", pl.col("key").hash())
    return rows, _pairs(batch), signatures(texts)


def _pairs(batch: pl.DataFrame) -> pl.DataFrame:
    """Return every pair of responses of a row of which one is better: earlier, and with a higher score if any."""
    place = pl.int_ranges(pl.col("responses").list.len()).alias("place")
    each = batch.select("row", pl.col("prompt").str.strip_chars().hash(), "responses", place)
    each = each.explode("responses", "place").rename({"responses": "text"})
    scores = batch.filter(pl.col("scores").is_not_null()).select("row", "scores", place).explode("scores", "place")
    each = each.join(scores, on=["row", "place"], how="left").select(
        "row", "prompt", "place", "scores", pl.col("text").str.len_chars().cast(pl.Int64).alias("size"),
        pl.col("text").str.strip_chars().hash().alias("text"),
    )  # fmt: skip
    both = each.join(each.drop("prompt"), on="row", suffix="_worse")
    is_tied = (pl.col("scores") == pl.col("scores_worse")).fill_null(value=False)
    return both.filter((pl.col("place") < pl.col("place_worse")) & ~is_tied).select(
        "row",
        "prompt",
        pl.min_horizontal("text", "text_worse").alias("low"),
        pl.max_horizontal("text", "text_worse").alias("high"),
        (pl.col("text") < pl.col("text_worse")).alias("is_low_better"),
        (pl.col("place") == 0).alias("is_best"),
        pl.col("size").alias("better"),
        pl.col("size_worse").alias("worse"),
    )


def _duplicates(rows: pl.DataFrame) -> dict[str, Any]:
    """Rows whose prompt and responses stand in an earlier row, in the same order."""
    first = pl.col("source_line").first().over("key")
    again = rows.with_columns(first.alias("first")).filter(pl.col("row") != pl.col("row").first().over("key"))
    lines = again.head(LISTED).select("first", "source_line").rows()
    return {**_share(again.height, rows.height), "lines": [list(pair) for pair in lines]}


def _near_duplicates(rows: pl.DataFrame, groups: list[list[int]]) -> dict[str, Any]:
    """Rows beyond the first of each group whose texts share most of their word triples; equal rows among them."""
    lines = rows["source_line"]
    return {
        **_share(sum(len(group) - 1 for group in groups), rows.height),
        "groups": len(groups),
        "largest_group": max(map(len, groups), default=0),
        "threshold": THRESHOLD,
        "lines": [[lines[row] for row in group[:LISTED]] for group in groups[:LISTED]],
    }


def _across_splits(rows: pl.DataFrame, groups: list[list[int]], fractions: SplitFractions) -> dict[str, Any]:
    """Rows held out (evaluation, reward model) that are near duplicates of a row of the train split."""
    points, own, lines = rows["split_point"], rows["split"], rows["source_line"]
    found = []
    for group in groups:
        is_trained = [split_of(points[row], own[row], fractions) == "train" for row in group]
        if any(is_trained):
            found += [row for row, trained in zip(group, is_trained, strict=True) if not trained]
    return {**_share(len(found), rows.height), "lines": [lines[row] for row in sorted(found)[:LISTED]]}


def _contradictions(seen: _Seen) -> dict[str, Any]:
    """Rows that prefer A to B for a prompt for which another row prefers B to A."""
    group = ["prompt", "low", "high"]
    both = seen.pairs.filter(pl.col("is_low_better").n_unique().over(group) > 1)
    rows = both["row"].unique()
    first = both.group_by(group, maintain_order=True).agg(
        *(pl.col("row").filter(pl.col("is_low_better") == side).first().alias(str(side)) for side in (True, False))
    )
    lines = seen.rows["source_line"]
    named = [sorted([lines[one], lines[other]]) for one, other in first.select("True", "False").head(LISTED).rows()]
    return {**_share(len(rows), seen.rows.height), "pairs": first.height, "lines": sorted(named)}


def _length(pairs: pl.DataFrame) -> dict[str, Any]:
    """How often the best response of a row is longer, in characters, than another one."""
    best = pairs.filter("is_best")
    longer, shorter = (int(side.sum()) for side in (best["better"] > best["worse"], best["better"] < best["worse"]))
    total = max(best.height, 1)
    return {
        "unit": "characters",
        "pairs": best.height,
        "chosen_longer": longer / total,
        "chosen_shorter": shorter / total,
        "mean_chosen": best["better"].mean(),
        "mean_rejected": best["worse"].mean(),
    }


def _overlap(seen: _Seen, evaluation: _Seen) -> dict[str, Any]:
    """Evaluation rows with a first user turn of the data, and those that are near duplicates of a row of it."""
    shared = evaluation.rows.filter(pl.col("split_point").is_in(seen.rows["split_point"].unique().implode()))
    offset = seen.rows.height
    both = pl.concat([seen.signed, evaluation.signed.with_columns(pl.col("row") + offset)])
    groups = [group for group in near_duplicate_groups(both) if group_has_both(group, offset)]
    near = [row - offset for group in groups for row in group if row >= offset]
    return {
        **_share(shared.height, evaluation.rows.height),
        "lines": shared["source_line"].head(LISTED).to_list(),
        "near_duplicates": len(near),
        "near_duplicate_lines": [evaluation.rows["source_line"][row] for row in sorted(near)[:LISTED]],
    }


def group_has_both(group: list[int], offset: int) -> bool:
    """Return whether *group* has rows below and from *offset* on."""
    return min(group) < offset <= max(group)


def _share(number: int, rows: int) -> dict[str, Any]:
    return {"rows": number, "share": number / rows if rows else 0.0}


def warnings_of(report: dict[str, Any]) -> list[str]:
    """Return, in words, what of the *report* a person should look at before training on this data."""
    found = []
    near, against, length = report["near_duplicates"], report["contradictions"], report["length"]
    if near["share"] > _SHARE_OF_DUPLICATES:
        found.append(
            f"{near['rows']:,} rows ({near['share']:.1%}) are near duplicates of others; a selection may keep many of "
            f"one kind (the largest group has {near['largest_group']:,} rows)."
        )
    across = report["across_splits"]
    if across["rows"]:
        found.append(f"{across['rows']:,} held-out rows are near duplicates of rows of the train split.")
    if against["share"] > _SHARE_OF_CONTRADICTIONS:
        found.append(
            f"{against['rows']:,} rows ({against['share']:.1%}) contradict another row: A over B and B over A."
        )
    longest = max(length["chosen_longer"], length["chosen_shorter"])
    if length["pairs"] and longest > _SHARE_OF_LENGTH:
        side = "longer" if length["chosen_longer"] == longest else "shorter"
        found.append(f"The chosen response is the {side} one in {longest:.1%} of pairs: length alone explains as much.")
    cut = report["truncation"]
    if cut is not None and cut["share_of_responses_cut"] > _SHARE_OF_CUT:
        found.append(
            f"{cut['share_of_responses_cut']:.1%} of responses are cut at {cut['max_total_tokens']} tokens in all, the "
            f"prompt included: the model would learn answers that do not end."
        )
    overlap = report["evaluation_overlap"]
    if overlap is not None and (overlap["rows"] or overlap["near_duplicates"]):
        found.append(
            f"{overlap['rows']:,} evaluation rows ({overlap['share']:.1%}) begin with a user turn of this data, "
            f"{overlap['near_duplicates']:,} are near duplicates of its rows."
        )
    return found
