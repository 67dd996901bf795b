"""What the judgements of a study support: win rate by prompt, agreement, attention, sides, raters.

The rules (who is left out) are those of the spec, set before the first judgement; the result without them stands
beside. Knows judgements, no database.
"""

from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

import numpy as np

from deft.evaluation.intervals import Array, cluster_sums, estimate, ratio, resample
from deft.studies.agreement import alpha, alpha_interval, coincidences, interval, is_defined, nominal
from deft.studies.judgements import OUTCOMES, WINS, JudgedItem, Judgement, by_item, inattentive

VERSION = 3
"""Of the rules below: whose judgements count, what a tie counts, how intervals are made. Part of a score's settings."""

RESAMPLES = 4000


@dataclass(frozen=True, slots=True)
class Rate:
    """A share with its 95 % interval over *prompts*; *n* is what it is the mean of. None: nothing was judged."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    prompts: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """Krippendorff's alpha with its 95 % interval over items; *items* have two raters or more.

    *alpha* is that of the four verdicts as names; *alpha_preference* that of 1, 1/2, 0 (interval). None where no two
    judgements could differ, or all are the same.
    """

    alpha: float | None
    low: float | None
    high: float | None
    alpha_preference: float | None
    items: int
    judgements: int


@dataclass(frozen=True, slots=True)
class RaterFacts:
    """How one rater judged; *is_left_out*: failed more attention items than the study allows.

    *is_trainer*: a key that trained one of the systems.
    """

    rater_id: str
    judged: int
    skipped: int
    attention_seen: int
    attention_failed: int
    is_left_out: bool
    is_trainer: bool
    median_seconds: float | None


@dataclass(frozen=True, slots=True)
class Results:
    """Everything that a study found; *verdicts* counts the outcomes of judgements that count.

    Of the prompts, *identical* have the same answer twice; of the *pairs* that differ, *judged_pairs* were judged.
    *judged_by_trainers*: how many of the judgements in *verdicts* are of keys that trained one of the systems.
    """

    systems: list[str]
    pairs: int
    identical: int
    judged_pairs: int
    verdicts: dict[str, int]
    judged_by_trainers: int
    skipped: int
    win_rate: Rate
    win_rate_of_all_raters: Rate
    first_side: Rate
    agreement: Agreement
    attention_seen: int
    attention_failed: int
    raters: list[RaterFacts]
    sentence: str

    def as_dict(self) -> dict[str, Any]:
        """Return the results as JSON."""
        return asdict(self)


def results(
    systems: Sequence[str],
    items: Sequence[JudgedItem],
    judgements: Sequence[Judgement],
    *,
    allowed: int,
    seed: int,
    trainers: Set[str] = frozenset(),
) -> Results:
    """Return what *judgements* of *items* say; raters with more than *allowed* attention failures are left out.

    What the raters *trainers* judged, who trained one of the systems, counts here and is told.
    """
    left_out = inattentive(judgements, allowed=allowed)
    counted = [judgement for judgement in judgements if judgement.rater_id not in left_out]
    identical = [item for item in items if item.kind == "identical"]
    pairs = [item for item in items if item.kind == "pair"]
    rate = win_rate(counted, identical, pairs, seed=seed)
    judged = len(by_item(counted))
    checks = [judgement for judgement in judgements if judgement.item.kind == "attention"]
    outcomes = Counter(judgement.outcome for judgement in counted)
    of_trainers = sum(judgement.outcome is not None and judgement.rater_id in trainers for judgement in counted)
    said = sum(judgement.outcome is not None for judgement in judgements)
    told = sentence(systems, rate) + _how_far(judged, len(pairs)) + _by_whom(of_trainers)
    told = _all_left_out(said) if said and not judged else told
    return Results(
        systems=list(systems),
        pairs=len(pairs),
        identical=len(identical),
        judged_pairs=judged,
        verdicts={outcome: outcomes[outcome] for outcome in OUTCOMES},
        judged_by_trainers=of_trainers,
        skipped=sum(judgement.verdict == "skip" for judgement in judgements),
        win_rate=rate,
        win_rate_of_all_raters=win_rate(judgements, identical, pairs, seed=seed),
        first_side=first_side(counted, seed=seed),
        agreement=agreement(counted, seed=seed),
        attention_seen=sum(judgement.verdict != "skip" for judgement in checks),
        attention_failed=sum(judgement.is_failure for judgement in checks),
        raters=rater_facts(judgements, left_out, trainers),
        sentence=told if pairs else _nothing_differs(systems),
    )


def win_rate(
    judgements: Sequence[Judgement],
    identical: Sequence[JudgedItem] = (),
    pairs: Sequence[JudgedItem] | None = None,
    *,
    seed: int = 0,
) -> Rate:
    """Return the share of prompts that the first system wins; ties, both-bad and *identical* answers count one half.

    The judgements of one item are averaged first, so that an item counts once however many raters saw it. *pairs* are
    all items that differ, judged or not; None: those that were judged. Where some were not, those that were stand for
    all of them (`_of_a_sample`): raters get them in random order. Without any judged there is no rate. The interval
    resamples prompts; that other raters might say otherwise is not in it.
    """
    clusters = {judgement.item.id: judgement.item.cluster for judgement in judgements}
    outcomes = by_item(judgements)
    values = [float(np.mean([WINS[outcome] for outcome in said])) for said in outcomes.values()]
    of_judged, of_identical = [clusters[item] for item in outcomes], [item.cluster for item in identical]
    judged = _rate(values, of_judged, seed)
    if not values or not identical:
        return judged
    together = _rate(values + [0.5] * len(identical), of_judged + of_identical, seed)
    if pairs is None or len(values) == len(pairs):
        return together
    differs = [1.0] * len(pairs) + [0.0] * len(identical)
    share = _rate(differs, [item.cluster for item in pairs] + of_identical, seed)
    return replace(_of_a_sample(judged, share), n=together.n, prompts=together.prompts)


def _of_a_sample(judged: Rate, share: Rate) -> Rate:
    """Return the win rate where the *judged* pairs are a sample of those that differ, and the others are identical.

    With the *share* p of prompts that differ and the win rate m of the judged, it is 1/2 + p (m - 1/2): the mean over
    both strata, each with its true weight. The interval is made of those of p and m as of independent ones (MOVER of a
    product: Zou and Donner 2008, doi 10.1002/sim.3095).
    """
    p, lowest, highest = _ends(share)
    m, low, high = _ends(judged)
    lead = m - 0.5
    toward, away = (p - lowest, highest - p) if lead >= 0 else (highest - p, p - lowest)
    below, above = np.hypot(p * (m - low), lead * toward), np.hypot(p * (high - m), lead * away)
    value = 0.5 + p * lead
    return Rate(value, max(0.0, float(value - below)), min(1.0, float(value + above)), judged.n, judged.prompts)


def _ends(rate: Rate) -> tuple[float, float, float]:
    """Return value, low and high of a rate that something was judged for; an unknown end is 0 or 1."""
    value = 0.5 if rate.value is None else rate.value
    return value, 0.0 if rate.low is None else rate.low, 1.0 if rate.high is None else rate.high


def first_side(judgements: Sequence[Judgement], *, seed: int = 0) -> Rate:
    """Return how often side 1 was preferred where a side was: 0.5 where raters have no favourite side."""
    sided = [j for j in judgements if j.item.kind == "pair" and j.verdict in ("1", "2")]
    return _rate([float(j.verdict == "1") for j in sided], [j.item.cluster for j in sided], seed)


def _rate(values: Sequence[float], clusters: Sequence[Any], seed: int) -> Rate:
    if not values:
        return Rate(None, None, None, 0, 0)
    sums = cluster_sums(np.column_stack([values, np.ones(len(values))]), clusters)
    resampled = resample(sums[None], ratio, resamples=RESAMPLES, seed=seed)
    found = estimate(resampled, [0], bounds=(0.0, 1.0), is_share=True, seed=seed)
    return Rate(found.value, found.low, found.high, len(values), resampled.clusters)


def agreement(judgements: Sequence[Judgement], *, seed: int = 0) -> Agreement:
    """Return how far raters of the same pairs agree; skips and attention items take no part."""
    places = {outcome: place for place, outcome in enumerate(OUTCOMES)}
    several = [[places[outcome] for outcome in said] for said in by_item(judgements).values() if len(said) > 1]
    units = coincidences(several, len(OUTCOMES))
    names, preference = nominal(len(OUTCOMES)), interval([WINS[outcome] for outcome in OUTCOMES])
    low = high = None
    if _alpha(units, names) is not None:
        raters = np.array([len(said) for said in several])
        low, high = alpha_interval(units, raters, names, draws=RESAMPLES, seed=seed)
    return Agreement(
        alpha=_alpha(units, names),
        low=low,
        high=high,
        alpha_preference=_alpha(units, preference),
        items=len(several),
        judgements=sum(map(len, several)),
    )


def _alpha(units: Array, differences: Array) -> float | None:
    total = units.sum(axis=0)
    return float(alpha(differences)(total)) if len(units) and is_defined(total, differences) else None


def rater_facts(judgements: Sequence[Judgement], left_out: Set[str], trainers: Set[str]) -> list[RaterFacts]:
    """Return the facts of every rater who judged anything, in the order of their first judgement."""
    by_rater: dict[str, list[Judgement]] = {}
    for judgement in judgements:
        by_rater.setdefault(judgement.rater_id, []).append(judgement)
    return [
        _facts(rater, own, is_left_out=rater in left_out, is_trainer=rater in trainers)
        for rater, own in by_rater.items()
    ]


def _facts(rater_id: str, own: Sequence[Judgement], *, is_left_out: bool, is_trainer: bool) -> RaterFacts:
    judged = [judgement for judgement in own if judgement.verdict != "skip"]
    return RaterFacts(
        rater_id=rater_id,
        judged=len(judged),
        skipped=len(own) - len(judged),
        attention_seen=sum(judgement.item.kind == "attention" for judgement in judged),
        attention_failed=sum(judgement.is_failure for judgement in judged),
        is_left_out=is_left_out,
        is_trainer=is_trainer,
        median_seconds=round(median(judgement.seconds for judgement in judged), 1) if judged else None,
    )


def _nothing_differs(systems: Sequence[str]) -> str:
    first, second = systems
    return f"`{first}` and `{second}` gave the same answer to every prompt: there is nothing to judge."


def _all_left_out(said: int) -> str:
    what = "The one judgement is" if said == 1 else f"All {said:,} judgements are"
    return f"{what} left out: whoever judged failed more attention items than the study allows."


def _how_far(judged: int, pairs: int) -> str:
    return (
        f" {judged} of {pairs} pairs that differ were judged and stand for all of them." if 0 < judged < pairs else ""
    )


def _by_whom(of_trainers: int) -> str:
    what = "judgement is" if of_trainers == 1 else "judgements are"
    left = f" {of_trainers} {what} by keys that trained one of the two: the stored score and the gate leave them out."
    return left if of_trainers else ""


def sentence(systems: Sequence[str], rate: Rate) -> str:
    """Return in one sentence what the win rate supports: it differs from one half, or it may not."""
    first, second = systems
    if rate.value is None:
        return "Nothing has been judged yet."
    if rate.low is None or rate.high is None:
        return f"`{first}` against `{second}`: {rate.value:.3f}, too little for an interval."
    numbers = f"{rate.value:.3f} (95 % interval {rate.low:.3f} to {rate.high:.3f}, {rate.prompts} prompts)"
    if rate.low > 0.5:
        return f"People prefer `{first}` to `{second}`: win rate {numbers}."
    if rate.high < 0.5:
        return f"People prefer `{second}` to `{first}`: win rate of `{first}` {numbers}."
    return f"No difference between `{first}` and `{second}` is shown: win rate {numbers}."
