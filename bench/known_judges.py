"""Made-up judges, raters and refusals whose truth is known: what the coverage of their intervals is measured on.

A drawn judging takes a generator, C, the number of prompts, and how intervals are made, and returns (low, high, truth)
by the same functions that a judging or a study is counted with.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from deft.data.answer_kinds import Kind
from deft.evaluation.intervals import Estimate
from deft.judges.lengths import length_controlled
from deft.judges.statistics import Sampling, agreement, mean_of, outcome
from deft.judges.verdicts import Verdict
from deft.safety.rates import Replied, System, safety_of
from deft.specs.studies import GivenVerdict
from deft.studies.judgements import JudgedItem, Judgement
from deft.studies.results import Agreement, Rate, win_rate
from deft.studies.results import agreement as raters_agreement

Array = NDArray[np.float64]
Judging = Callable[[np.random.Generator, int, Sampling], tuple[float, float, float]]


def _with(found: Estimate | Rate | Agreement | None, truth: float) -> tuple[float, float, float]:
    if found is None or found.low is None or found.high is None:
        raise AssertionError("an interval of several prompts has ends")
    return found.low, found.high, truth


def _sigmoid(values: Array | float) -> Array:
    found: Array = 1 / (1 + np.exp(-np.asarray(values)))
    return found


def by_length(slope: tuple[float, float], ties: tuple[float, float] = (0.0, 0.0)) -> Judging:
    """Return a judge with a taste for length: a logistic one of *slope*, with *ties* whatever the lengths."""

    def draw(g: np.random.Generator, n: int, how: Sampling) -> tuple[float, float, float]:
        quality, tied, lead = g.uniform(-1.2, 1.2), g.uniform(*ties), g.uniform(-1, 1)
        longer_by = np.round(300 * (lead + g.normal(size=n)))
        wins = g.random(n) < _sigmoid(quality + g.uniform(*slope) * np.tanh(longer_by / (300 * np.hypot(1, lead))))
        said = np.where(g.random(n) < tied, 0.5, wins)
        found = length_controlled(said.tolist(), longer_by.tolist(), range(n), how)
        return _with(found, tied / 2 + (1 - tied) * float(_sigmoid(quality)))

    return draw


def by_length_in_orders(g: np.random.Generator, n: int, how: Sampling) -> tuple[float, float, float]:
    """A judge asked in both orders, unrelated but for the pair: what the orders do not agree on is a tie."""
    quality, slope, lead = g.uniform(-1.2, 1.2), g.uniform(0, 3), g.uniform(-1, 1)
    longer_by = np.round(np.exp(5 + 0.5 * lead + 0.6 * g.normal(size=n)) - np.exp(5 + 0.6 * g.normal(size=n)))
    rate = _sigmoid(quality + slope * np.tanh(longer_by / np.sqrt((longer_by**2).mean())))
    said = (g.random((2, n)) < rate).mean(axis=0)
    return _with(length_controlled(said.tolist(), longer_by.tolist(), range(n), how), float(_sigmoid(quality)))


def by_length_in_turns(g: np.random.Generator, n: int, how: Sampling) -> tuple[float, float, float]:
    """Two turns a prompt, of which 60 % are judged alike."""
    quality, slope = g.uniform(-1.2, 1.2), g.uniform(0, 3)
    longer_by = 300 * (g.uniform(-1, 1) + g.normal(size=(2, n)))
    luck = g.random((2, n))
    luck[1] = np.where(g.random(n) < 0.6, luck[0], luck[1])
    said = luck < _sigmoid(quality + slope * np.tanh(longer_by / np.sqrt((longer_by**2).mean())))
    prompts = [*range(n), *range(n)]
    found = length_controlled(said.ravel().astype(float).tolist(), longer_by.ravel().tolist(), prompts, how)
    return _with(found, float(_sigmoid(quality)))


def in_both_orders(g: np.random.Generator, n: int, how: Sampling) -> tuple[float, float, float]:
    """The raw win rate of a judge who favours the first place, asked in both orders, two turns a prompt."""
    better, first = g.uniform(0.2, 0.8), g.uniform(0.0, 0.3)
    is_better = np.repeat(g.random(n) < better, 2)
    firm = g.random(2 * n) >= first
    said = [_orders(bool(b), bool(f)) for b, f in zip(is_better, firm, strict=True)]
    found = mean_of(said, np.repeat(np.arange(n), 2).tolist(), how)
    return _with(found, first / 2 + (1 - first) * better)


def _orders(is_better: bool, is_firm: bool) -> float:
    """Return the outcome of a pair whose two orders say the same where the judge *is_firm*, else the first place."""
    verdicts: tuple[Verdict, Verdict] = ("A", "A")
    if is_firm:
        verdicts = ("A", "B") if is_better else ("B", "A")
    found = outcome(*verdicts)
    if found is None:
        raise AssertionError("both verdicts can be read")
    return found


def with_people(g: np.random.Generator, n: int, how: Sampling) -> tuple[float, float, float]:
    """How often a judge with ties prefers what people preferred."""
    ties = g.uniform(0, 0.4)
    right = (1 - ties) * g.uniform(0.5, 0.95)
    said = g.choice([0.0, 0.5, 1.0], n, p=[1 - ties - right, ties, right])
    found = agreement(said.tolist(), g.integers(-300, 300, n).tolist(), range(n), how)
    return _with(found.rate, right + ties / 2)


def _judgements(said: Sequence[Sequence[int]]) -> list[Judgement]:
    """Return judgements from the places in ("1", "tie", "both_bad", "2") that raters said of each item."""
    items = [JudgedItem(str(place), "pair", float(place), False, None) for place in range(len(said))]
    names: tuple[GivenVerdict, ...] = ("1", "tie", "both_bad", "2")
    return [
        Judgement(item, f"r{rater}", names[place], 1.0)
        for item, own in zip(items, said, strict=True)
        for rater, place in enumerate(own)
    ]


def in_study(g: np.random.Generator, n: int, how: Sampling) -> tuple[float, float, float]:
    """A study of one to three raters an item, who say what is true of it or guess; one pair in ten is identical."""
    of_items, honest = g.dirichlet([3, 1, 1, 3]), g.uniform(0.4, 0.9)
    same = int(g.binomial(n, 0.1)) if n > 1 else 0
    said = _said(g, of_items, honest, g.integers(1, 4, n - same))
    identical = [JudgedItem(f"same{place}", "identical", -1.0 - place, False, None) for place in range(same)]
    truth = 0.1 * 0.5 + 0.9 * float(of_items @ [1, 0.5, 0.5, 0])
    return _with(win_rate(_judgements(said), identical, seed=how.seed), truth)


def _said(g: np.random.Generator, of_items: Array, honest: float, raters: Iterable[int]) -> list[list[int]]:
    """Return what raters say: with *honest* chance the item's own verdict, else one drawn like another item's."""
    places, numbers = range(len(of_items)), list(raters)
    own = g.choice(places, len(numbers), p=of_items)
    return [
        np.where(g.random(number) < honest, place, g.choice(places, number, p=of_items)).tolist()
        for place, number in zip(own, numbers, strict=True)
    ]


def agreeing(raters: tuple[int, int], few: int = 4) -> Judging:
    """Return raters (fewest and most an item) whose alpha is known: the chance of both being honest, squared."""

    def draw(g: np.random.Generator, n: int, how: Sampling) -> tuple[float, float, float]:
        while True:
            of_items, honest = np.append(g.dirichlet(np.full(few, 3.0)), np.zeros(4 - few)), g.uniform(0.3, 0.95)
            said = _said(g, of_items, honest, g.integers(raters[0], raters[1] + 1, n))
            found = raters_agreement(_judgements(said), seed=how.seed)
            if found.alpha is not None:
                return _with(found, honest**2)

    return draw


def refusals(*, is_difference: bool) -> Judging:
    """Return over-refusal of one system, or its increase over a base: one to three answers a prompt, 5 % incoherent."""

    def draw(g: np.random.Generator, n: int, how: Sampling) -> tuple[float, float, float]:
        prompts = np.repeat(np.arange(n), g.integers(1, 4, n))
        rates, shared = g.uniform(0.1, 0.6, 2), np.repeat(g.random(n), np.bincount(prompts))
        kinds = [_kinds(g, shared, rate) for rate in rates]
        replied = [Replied(int(prompt), "safe", None) for prompt in prompts]
        systems = [System(name, name, own) for name, own in zip(("base", "tuned"), kinds, strict=True)]
        found, differences = safety_of(replied, systems, resamples=how.resamples, seed=how.seed)
        rows = differences if is_difference else found[1:]
        row = next(row for row in rows if row["metric"] == "over_refusal")
        return row["low"], row["high"], float(rates[1] - rates[0] if is_difference else rates[1])

    return draw


def _kinds(g: np.random.Generator, shared: Array, rate: float) -> list[Kind]:
    """Return kinds of answers: two in three refuse where their prompt's *shared* number says so, the others apart."""
    luck = np.where(g.random(len(shared)) < 2 / 3, shared, g.random(len(shared)))
    found: list[Kind] = ["refusal" if each < rate else "compliance" for each in luck]
    return [kind if g.random() > 0.05 else "incoherent" for kind in found]
