"""Many systems in one order, from who was better on which prompt: Bradley-Terry strengths by evalica, with intervals.

Outcomes come from anywhere: judges, people, or a metric's value on each prompt. Prompts are weighed anew, all outcomes
of one together, beside some that were not seen (`_sample`). Nothing here knows what another training run would have
done. A strength is told on Elo's scale: 400 points are odds of ten to one. It must not know files or models.

Letters: C clusters (prompts), S systems, R resamples.
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from evalica import Winner, bradley_terry

from deft.evaluation.confidence import Array
from deft.evaluation.intervals import TAIL, Resampled
from deft.planning.power import UNSEEN

POINTS = 400.0
ADDED = 0.5
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
    """The *strength* of a system in points around 0, and its *place* from 1, each with a 95 % interval over prompts.

    The luck of training runs is not in them: of arms that were trained several times it is the runs seen that rank.
    """

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
    """Return the systems of *outcomes*, the strongest first; nothing where nothing was compared.

    Raises:
        ValueError: some systems were never compared with the others, not even through third ones.
    """
    if not outcomes:
        return []
    systems = sorted({name for each in outcomes for name in (each.first, each.second)})
    sums = _wins(outcomes, systems)
    won = sums.sum(axis=0)
    _check_compared(won, systems)
    observed, sample = strengths(won), _sample(sums, resamples, seed)
    ends = np.quantile(sample, [TAIL, 1 - TAIL], axis=0, method="weibull")
    place, places = _places(observed[None])[0], _places(sample)
    best = np.quantile(places, TAIL, axis=0, method="lower")
    worst = np.quantile(places, 1 - TAIL, axis=0, method="higher")
    found = [
        Ranked(
            system,
            strength=float(observed[i]),
            low=float(min(ends[0, i], observed[i])),
            high=float(max(ends[1, i], observed[i])),
            place=int(place[i]),
            best_place=int(min(best[i], place[i])),
            worst_place=int(max(worst[i], place[i])),
            wins=float(won[i].sum()),
            outcomes=round(won[i].sum() + won[:, i].sum()),
        )
        for i, system in enumerate(systems)
    ]
    return sorted(found, key=lambda each: (each.place, each.system))


def _check_compared(won: Array, systems: Sequence[str]) -> None:
    """Check that outcomes *won* [S, S] lead from each system to every other.

    Raises:
        ValueError: they do not, so that there is no order of all.
    """
    is_met = (won + won.T > 0) | np.eye(len(won), dtype=bool)
    reached = np.linalg.matrix_power(is_met, len(won))[0]
    if not reached.all():
        others = ", ".join(name for name, is_there in zip(systems, reached, strict=True) if not is_there)
        raise ValueError(f"{others}: never compared with {systems[0]}, not even through other systems")


def _sample(sums: Array, resamples: int, seed: int) -> Array:
    """Return strengths [R, S] that *sums* [C, S, S] of wins leave possible.

    As in `confidence.with_unseen`, prompts get exponential weights (Rubin 1981, doi 10.1214/aos/1176345338), and a
    little more than half a prompt is taken as seen at either end: each system has, with gamma weights of shape
    `UNSEEN` / 2 in each resample, a prompt on which it wins against all others, and one on which it loses. Every two
    are then at either end `UNSEEN` times, so that the interval of two systems is that of a share, on another scale.
    How often such intervals hold the truth: docs/diary.md, "rankings of few prompts".
    """
    generator = np.random.default_rng([seed, 6])
    prompts, systems = sums.shape[:2]
    flat, outcomes = sums.reshape(prompts, -1), sums + sums.transpose(0, 2, 1)
    of_a_prompt = outcomes.sum(axis=0) / np.maximum((outcomes > 0).sum(axis=0), 1)
    sample = np.empty((resamples, systems))
    for place in range(resamples):
        seen = (generator.standard_exponential(prompts) @ flat).reshape(systems, systems)
        ahead, behind = generator.gamma(UNSEEN / 2, size=(2, systems))
        sample[place] = strengths(seen + of_a_prompt * (ahead[:, None] + behind), added=0.0)
    return sample


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


def strengths(wins: Array, *, added: float = ADDED) -> Array:
    """Return the strengths [S] for *wins* [S, S], and *added* ones between all that met, in points, with mean 0.

    Outcomes lead from each system to every other (`_check_compared`).
    Bradley and Terry 1952, doi 10.2307/2334029.
    """
    first, second, times = [], [], []
    for one, other in combinations(range(len(wins)), 2):
        if wins[one, other] + wins[other, one] > 0:
            first += [one, other]
            second += [other, one]
            times += [wins[one, other] + added, wins[other, one] + added]
    winners = [Winner.X] * len(first)
    found = bradley_terry(first, second, winners, weights=times, tolerance=TOLERANCE, limit=LIMIT)
    scores = found.scores.reindex(range(len(wins))).to_numpy(dtype=np.float64)
    points = POINTS * np.log10(scores)
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
