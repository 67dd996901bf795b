"""Near duplicates among texts by MinHash: which texts share most of their word triples. Torch-free.

A signature holds, for each of 126 hash functions, the least hash of a text's triples of words; the share of places in
which two signatures agree estimates the Jaccard index of their sets of triples, with a standard error of at most 0.045
(0.036 at an index of 0.8). Texts that agree in one of 18 bands of 7 places are compared: a pair with an index of 0.8 is
looked at with probability 0.985. The hashes are polars', so a signature is not for keeping.
"""

from collections.abc import Iterator

import polars as pl

HASHES = 126
BANDS = 18
THRESHOLD = 0.8
"""Estimated Jaccard index from which two texts count as near duplicates."""

_PER_BAND = HASHES // BANDS
_PAIRS_PER_BLOCK = 20_000
_PLACES = [f"h{place}" for place in range(HASHES)]
_NUMBERED = list(enumerate(_PLACES))
_END = " _end_ _of_ _text_"


def signatures(texts: pl.DataFrame) -> pl.DataFrame:
    """Return the MinHash signatures of *texts* (columns `row`, `text`): `row` and 126 columns of uint32."""
    ended = pl.concat_str(pl.col("text").str.to_lowercase(), pl.lit(_END))  # so that short texts have a triple too
    words = texts.select("row", ended.str.extract_all(r"\w+").alias("word")).explode("word")
    hashed = words.select("row", pl.col("word").hash(1))
    next_words = [pl.col("word").shift(-step).alias(f"word{step}") for step in (1, 2)]
    triples = hashed.select(
        "row",
        pl.struct("word", *next_words).hash(2).alias("triple"),
        (pl.col("row") == pl.col("row").shift(-2)).alias("is_of_one_text"),
    ).filter("is_of_one_text")
    least = [(pl.col("triple").hash(3 + k).min() // 2**32).cast(pl.UInt32).alias(name) for k, name in _NUMBERED]
    return triples.group_by("row", maintain_order=True).agg(least)


def near_duplicate_groups(signed: pl.DataFrame, threshold: float = THRESHOLD) -> list[list[int]]:
    """Return the groups of rows of *signed* (as `signatures` returns them) that are near duplicates, largest first.

    Rows in a group are linked by pairs that agree in at least *threshold* of their places; in each band a row is
    compared with the first of those that it agrees with, so that the work is linear in the rows.
    """
    parent: dict[int, int] = {}

    def root(row: int) -> int:
        while parent.setdefault(row, row) != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for one, other in _close(signed, _candidates(signed), threshold):
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    groups: dict[int, list[int]] = {}
    for row in sorted(parent):
        groups.setdefault(root(row), []).append(row)
    return sorted((group for group in groups.values() if len(group) > 1), key=lambda group: (-len(group), group))


def _candidates(signed: pl.DataFrame) -> pl.DataFrame:
    """Return the pairs (`first`, `row`) that agree in a band."""
    pairs = []
    for band in range(BANDS):
        places = _PLACES[band * _PER_BAND : (band + 1) * _PER_BAND]
        firsts = signed.select("row", pl.col("row").min().over(places).alias("first"))
        pairs.append(firsts.filter(pl.col("first") != pl.col("row")))
    return pl.concat(pairs).unique().sort("first", "row")


def _close(signed: pl.DataFrame, pairs: pl.DataFrame, threshold: float) -> Iterator[tuple[int, int]]:
    agreeing = pl.sum_horizontal((pl.col(name) == pl.col(f"{name}_first")).cast(pl.UInt8) for name in _PLACES)
    firsts = signed.rename({"row": "first", **{name: f"{name}_first" for name in _PLACES}})
    for start in range(0, pairs.height, _PAIRS_PER_BLOCK):
        block = pairs.slice(start, _PAIRS_PER_BLOCK).join(signed, on="row").join(firsts, on="first")
        yield from block.filter(agreeing >= threshold * HASHES).select("first", "row").iter_rows()
