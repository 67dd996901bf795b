"""Many systems in one order, from who was better on which prompt: Bradley-Terry strengths by evalica, with intervals.

Outcomes come from anywhere: judges, people, or a metric's value on each prompt. Prompts are resampled, all outcomes of
one together. A strength is told on Elo's scale: 400 points are odds of ten to one. It must not know files or models.
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from evalica import Winner, bradley_terry

from deft.evaluation.confidence import Array, weights
from deft.evaluation.intervals import Resampled

POINTS = 400.0
UNSEEN = 0.5
"""Wins that every two systems are taken to have against each other: one that always won has a finite strength."""
TOLERANCE = 1e-8
LIMIT = 1_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What *prompt* said of *first* against *second*: 1 is a win of the first, 0 of the second, else a tie."""

    prompt: Hashable
    first: str
    second: str
    score: float


@dataclass(frozen=True, slots=True)
class Ranked:
    """The *strength* of a system in points around 0, and its *place* from 1, each with a 95 % interval over prompts."""

    system: str
    strength: float
    low: float
    high: float
    place: int
    best_place: int
    worst_place: int
    wins: float
    outcomes: int


def rank(outcomes: Sequence[Outcome], *, resamples: int = 500, seed: int = 0) -> list[Ranked]:
    """Return the systems of *outcomes*, the strongest first; nothing where nothing was compared."""
    if not outcomes:
        return []
    systems = sorted({name for each in outcomes for name in (each.first, each.second)})
    sums = _wins(outcomes, systems)
    prompts = len(sums)
    observed = strengths(sums.sum(axis=0))
    flat = sums.reshape(prompts, -1)
    drawn = np.concatenate([times @ flat for times in weights(prompts, resamples, seed)])
    sample = np.stack([strengths(each.reshape(sums.shape[1:])) for each in drawn])
    ends, places = np.quantile(sample, [0.025, 0.975], axis=0), np.quantile(_places(sample), [0.025, 0.975], axis=0)
    won = sums.sum(axis=0)
    found = [
        Ranked(
            system,
            strength=float(observed[i]),
            low=float(min(ends[0, i], observed[i])),
            high=float(max(ends[1, i], observed[i])),
            place=int(_places(observed[None])[0, i]),
            best_place=round(places[0, i]),
            worst_place=round(places[1, i]),
            wins=float(won[i].sum()),
            outcomes=round(won[i].sum() + won[:, i].sum()),
        )
        for i, system in enumerate(systems)
    ]
    return sorted(found, key=lambda each: (each.place, each.system))


def _wins(outcomes: Iterable[Outcome], systems: Sequence[str]) -> Array:
    """Return [C prompts, S, S]: how often the row's system beat the column's, ties being half a win of either."""
    place_of = {system: place for place, system in enumerate(systems)}
    prompt_of: dict[Hashable, int] = {}
    rows = [
        (prompt_of.setdefault(each.prompt, len(prompt_of)), place_of[each.first], place_of[each.second], each.score)
        for each in outcomes
    ]
    sums = np.zeros((len(prompt_of), len(systems), len(systems)))
    for prompt, first, second, score in rows:
        won = score if score in (0.0, 1.0) else 0.5
        sums[prompt, first, second] += won
        sums[prompt, second, first] += 1 - won
    return sums


def strengths(wins: Array) -> Array:
    """Return the strengths [S] for *wins* [S, S], in points, with mean 0.

    Bradley and Terry 1952, doi 10.2307/2334029.
    """
    first, second, times = [], [], []
    for one, other in combinations(range(len(wins)), 2):
        if wins[one, other] + wins[other, one] > 0:
            first += [one, other]
            second += [other, one]
            times += [wins[one, other] + UNSEEN, wins[other, one] + UNSEEN]
    winners = [Winner.X] * len(first)
    found = bradley_terry(first, second, winners, weights=times, tolerance=TOLERANCE, limit=LIMIT)
    scores = found.scores.reindex(range(len(wins))).to_numpy(dtype=np.float64)
    points = POINTS * np.log10(np.where(scores > 0, scores, np.nan))
    points = np.where(np.isfinite(points), points, np.nanmean(points))
    centred: Array = points - points.mean()
    return centred


def _places(sample: Array) -> Array:
    """Return the place from 1 of each system in each row of *sample* [R, S]; equal strengths share the better one."""
    places: Array = 1.0 + (sample[:, None, :] > sample[:, :, None] + 1e-9).sum(axis=2)
    return places


def outcomes_of(found: Resampled, columns: Sequence[tuple[str, Sequence[int]]]) -> list[Outcome]:
    """Return who was better on each prompt by one metric: *columns* are the arms and their draws in *found*."""
    if found.alone is None:
        return []
    means = {arm: found.alone[:, list(own)].mean(axis=1) for arm, own in columns}
    return [
        Outcome(prompt, first, second, float((np.sign(gap) + 1) / 2))
        for first, second in combinations(means, 2)
        for prompt, gap in enumerate(np.round(means[first] - means[second], 12))
    ]
