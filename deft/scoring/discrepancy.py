"""M11: is Q_diff more than noise? Statistics of the counts alone; no model, no text. Torch-free, pure, seeded.

L1 of Q_diff is large on small data whatever the labels say, so it is compared with what it is when the labels are
shuffled: in every example a response drawn at random counts as chosen and the others as rejected (with two responses:
chosen and rejected are swapped or not). Two random halves of the examples, each with a Q_diff of its own, say how much
of it would come again. Q_diff may be a weighted sum over aspects (M12): draws are made within each.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deft.scoring.token_table import TokenTable

PERMUTATIONS = 200
HALVES = 20
RESAMPLES = 200
LEADING = 20
P_LIMIT = 0.05
R_LIMIT = 0.5
FEW_PAIRS = 400
"""Below so many examples p and r come out anyhow (seen on HH-RLHF's harmless-base)."""

_COLUMNS = 25
"""Weightings computed at once: bounds memory."""
_GROWTH_PERMUTATIONS = 50
_GROWTH_SHARES = (16, 8, 4, 2)
_GROWTH_EXAMPLES = 50
_ROUNDING = 1e-12

Floats = NDArray[np.float64]


class Part(NamedTuple):
    """The responses of one aspect, and the weight w_a of its Q_diff (M12); plain data is one part of weight 1."""

    weight: float
    table: TokenTable


Parts = Sequence[Part]
"""At least one part; all tables have the same columns (`TokenTable.take` keeps them)."""


@dataclass(frozen=True, slots=True)
class LeadingToken:
    """One of the tokens with the largest |Q_diff|, with a 95 % interval by bootstrap over examples.

    The interval does not know that the token was picked for its size.
    """

    token: int
    q_diff: float
    low: float
    high: float
    count_chosen: int
    count_rejected: int


@dataclass(frozen=True, slots=True)
class Stability:
    """L1 of Q_diff on *examples* examples, against shuffled labels and between halves.

    *ratio* is l1 / null_mean, *z* how many standard deviations of the null lie between, *p* the share of shufflings
    (the labels themselves counted in) whose L1 is as large; *r* the mean Pearson correlation, over the vocabulary, of
    Q_diff on two random halves of the examples. None: too few examples, or no spread.
    """

    examples: int
    l1: float
    null_mean: float | None
    null_standard_deviation: float | None
    ratio: float | None
    z: float | None
    p: float | None
    permutations: int
    r: float | None
    halves: int


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """The report: *whole* is all of the data; *growth* ends in it and says how it came about, over nested subsets."""

    whole: Stability
    leading_tokens: Sequence[LeadingToken]
    growth: Sequence[Stability]
    seed: int

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON, the fields of *whole* first."""
        told = asdict(self)
        return {**told.pop("whole"), **told}


def discrepancy(
    parts: Parts,
    *,
    permutations: int = PERMUTATIONS,
    halves: int = HALVES,
    resamples: int = RESAMPLES,
    leading: int = LEADING,
    seed: int = 0,
) -> Discrepancy:
    """M11: return the discrepancy report of the responses counted in *parts*.

    The same parts and seed give the same report.

    Args:
        parts: the counts, of at least one example each.
        permutations: shufflings of the labels over all of the data, B.
        halves: random divisions into two halves.
        resamples: bootstrap draws of the examples, for the leading tokens' intervals.
        leading: how many tokens are listed.
        seed: of all draws.
    """
    whole = stability(parts, permutations=permutations, halves=halves, seed=seed)
    rng = np.random.default_rng([seed, 3])
    orders = [rng.permutation(part.table.examples) for part in parts]
    growth = []
    for share in _GROWTH_SHARES:
        taken = [order[: len(order) // share] for order in orders]
        if min(map(len, taken)) > 0 and sum(map(len, taken)) >= _GROWTH_EXAMPLES:
            smaller = [Part(part.weight, part.table.take(rows)) for part, rows in zip(parts, taken, strict=True)]
            fewer = min(permutations, _GROWTH_PERMUTATIONS)
            growth.append(stability(smaller, permutations=fewer, halves=halves, seed=seed))
    return Discrepancy(whole, leading_tokens(parts, leading, resamples=resamples, seed=seed), [*growth, whole], seed)


def stability(parts: Parts, *, permutations: int, halves: int, seed: int) -> Stability:
    """Return L1 of Q_diff (M3, M12) of *parts* against its label-permutation null, and its split-half correlation."""
    own = float(norms(_mixed(parts, [part.table.is_chosen[:, None] for part in parts]))[0])
    null = null_norms(parts, permutations, seed)
    null = null[np.isfinite(null)]
    mean, deviation = (float(null.mean()), float(null.std(ddof=1))) if len(null) > 1 else (None, None)
    correlations = half_correlations(parts, halves, seed)
    correlations = correlations[np.isfinite(correlations)]
    return Stability(
        examples=sum(part.table.examples for part in parts),
        l1=own,
        null_mean=mean,
        null_standard_deviation=deviation,
        ratio=own / mean if mean else None,
        z=(own - mean) / deviation if mean is not None and deviation else None,
        p=(1 + int((null >= own * (1 - _ROUNDING)).sum())) / (1 + len(null)) if len(null) else None,
        permutations=len(null),
        r=float(correlations.mean()) if len(correlations) else None,
        halves=len(correlations),
    )


def norms(q_diff: Floats) -> Floats:
    """Return the L1 norm of each column of *q_diff* [U, B]: [B]."""
    found: Floats = np.abs(q_diff).sum(axis=0)
    return found


def null_norms(parts: Parts, permutations: int, seed: int) -> Floats:
    """Return L1 of Q_diff under *permutations* shufflings of the labels within examples: [B]."""
    rng = np.random.default_rng([seed, 0])
    found = [
        norms(_mixed(parts, [_drawn(part.table, columns, rng) for part in parts])) for columns in _blocks(permutations)
    ]
    return np.concatenate(found) if found else np.zeros(0)


def _drawn(table: TokenTable, columns: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw one response of every example, *columns* times: bool [S, columns]."""
    sizes = np.diff(table.starts)
    drawn = table.starts[:-1, None] + (rng.random((table.examples, columns)) * sizes[:, None]).astype(np.int64)
    is_drawn = np.zeros((table.counts.shape[0], columns), np.bool_)
    is_drawn[drawn, np.arange(columns)] = True
    return is_drawn


def half_correlations(parts: Parts, halves: int, seed: int) -> Floats:
    """Return the correlation over tokens of Q_diff on a random half of the examples and on the other half: [halves].

    Q_diff sums to 0, so Pearson's correlation is the cosine, and tokens that never occur change nothing.
    """
    rng = np.random.default_rng([seed, 1])
    found = []
    for columns in _blocks(halves):
        sides = [_halved(part.table, columns, rng) for part in parts]
        first, second = (
            np.sum([part.weight * side[half] for part, side in zip(parts, sides, strict=True)], axis=0)
            for half in (0, 1)
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            found.append((first * second).sum(0) / np.sqrt((first**2).sum(0) * (second**2).sum(0)))
    return np.concatenate(found) if found else np.zeros(0)


def _halved(table: TokenTable, columns: int, rng: np.random.Generator) -> list[Floats]:
    """Return Q_diff [U, columns] on random halves of the examples, and on the other halves."""
    orders = [rng.permutation(table.examples) < table.examples // 2 for _ in range(columns)]
    is_first = np.stack(orders, axis=1)[table.example_of]
    is_chosen = table.is_chosen[:, None]
    return [
        _normalised(table.totals(half & is_chosen)) - _normalised(table.totals(half & ~is_chosen))
        for half in (is_first, ~is_first)
    ]


def leading_tokens(parts: Parts, number: int, *, resamples: int, seed: int) -> list[LeadingToken]:
    """Return the *number* tokens with the largest |Q_diff|, largest first, with 95 % bootstrap intervals."""
    sides = np.sum([part.table.totals(_sides(part.table)) for part in parts], axis=0)
    q_diff = _mixed(parts, [part.table.is_chosen[:, None] for part in parts])[:, 0]
    top = np.argsort(-np.abs(q_diff), kind="stable")[:number]
    rng = np.random.default_rng([seed, 2])
    drawn = np.sum([part.weight * _resampled(part.table, top, resamples, rng) for part in parts], axis=0)
    low, high = np.nanpercentile(drawn, [2.5, 97.5], axis=1) if resamples else (q_diff[top], q_diff[top])
    return [
        LeadingToken(
            token=int(parts[0].table.tokens[column]),
            q_diff=float(q_diff[column]),
            low=float(low[at]),
            high=float(high[at]),
            count_chosen=int(sides[column, 0]),
            count_rejected=int(sides[column, 1]),
        )
        for at, column in enumerate(top)
    ]


def _sides(table: TokenTable) -> NDArray[np.bool_]:
    """Return which responses are chosen and which are rejected: bool [S, 2]."""
    return np.stack([table.is_chosen, ~table.is_chosen], axis=1)


def _resampled(table: TokenTable, top: NDArray[np.int64], resamples: int, rng: np.random.Generator) -> Floats:
    """Return Q_diff [len(top), resamples] of the tokens *top* over examples drawn with replacement."""
    counts = table.counts[:, top].astype(np.float64)
    lengths = table.counts.sum(axis=1).astype(np.float64)
    is_chosen, example_of = table.is_chosen, table.example_of
    found = []
    for columns in _blocks(resamples):
        draws = rng.integers(table.examples, size=(columns, table.examples))
        times = np.stack([np.bincount(draw, minlength=table.examples) for draw in draws], axis=1)[example_of]
        sides = [times * side[:, None] for side in (is_chosen, ~is_chosen)]
        with np.errstate(invalid="ignore", divide="ignore"):
            chosen, rejected = ((counts.T @ side) / (lengths @ side) for side in sides)
        found.append(chosen - rejected)
    return np.concatenate(found, axis=1) if found else np.zeros((len(top), 0))


def _mixed(parts: Parts, is_chosen: Sequence[NDArray[np.bool_]]) -> Floats:
    """Return sum_a w_a Q_diff_a [U, B] when the responses *is_chosen* [S, B] of each part count as chosen."""
    found = [part.weight * _difference(part.table, own) for part, own in zip(parts, is_chosen, strict=True)]
    total: Floats = np.sum(found, axis=0)
    return total


def _difference(table: TokenTable, is_chosen: NDArray[np.bool_]) -> Floats:
    """Return Q_diff [U, B] when the responses *is_chosen* [S, B] count as chosen and all others as rejected."""
    chosen = table.totals(is_chosen)
    total = table.sums.astype(np.float64)[:, None]
    return _normalised(chosen) - _normalised(total - chosen)


def _normalised(counts: Floats) -> Floats:
    """Return *counts* [U, ...] as shares of their sums over U; NaN where there is nothing."""
    with np.errstate(invalid="ignore", divide="ignore"):
        shares: Floats = counts / counts.sum(axis=0)
    return shares


def _blocks(columns: int) -> Iterator[int]:
    for start in range(0, columns, _COLUMNS):
        yield min(_COLUMNS, columns - start)


def warnings_of(report: Mapping[str, Any]) -> list[str]:
    """Return, in words, why the Q_diff of this *report* (as JSON) may be noise; nothing when there is no reason to."""
    found = []
    if report["p"] is not None and report["p"] > P_LIMIT:
        found.append(
            f"Q_diff may be noise: its L1 norm, {report['l1']:.3f}, is {report['ratio']:.2f} times what shuffled "
            f"labels give (p = {report['p']:.3f}, {report['permutations']} shufflings)."
        )
    if report["r"] is not None and report["r"] < R_LIMIT:
        found.append(
            f"Q_diff would hardly come again: on two halves of the data it correlates by {report['r']:.2f}, less than "
            f"{R_LIMIT}."
        )
    if report["examples"] < FEW_PAIRS:
        found.append(f"Q_diff was counted on {report['examples']} examples; below {FEW_PAIRS} no test of it says much.")
    return found
