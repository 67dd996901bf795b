"""The words of a comparison: what the evidence supports, and what it does not. A test pins them down.

It knows numbers and arms only. A metric that was trained on takes no part; an arm that drifted heavily never reads as
a plain gain, nor as a plain winner of what lost to it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from deft.evaluation.comparison import (
    FACTORS,
    SIGNIFICANCE,
    UNTRAINED,
    VERDICT_METRIC,
    Difference,
    Evidence,
    differences,
    table,
)
from deft.evaluation.drift import HEAVY_DRIFT, Drift, Drifts, drifts_of
from deft.evaluation.intervals import smallest_detectable_difference
from deft.evaluation.metrics import BASE, SHORTER, rule_of
from deft.evaluation.ranking import outcomes_of, rank

CONTROLS = ("random", "no_reward_term", "random_with_term", "random_equal_cost", "length", "opposite", "full")
"""The order in which the first sentence looks for a control; then any other arm, then the base."""

Rows = list[dict[str, Any]]


def compare(
    evidence: dict[str, Evidence],
    focus: str | None,
    remarks: Sequence[str] = (),
    warnings: Sequence[str] = (),
    incoherence: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Return comparison.json: `sentence` (all of `sentences`), the smallest difference, differences and the table.

    *warnings* about the data stand right behind the first sentence, *remarks* at the end. *incoherence* are the
    differences of safety.json in the share of incoherent answers, where it was measured.
    """
    rows = table(evidence)
    found = differences(evidence, focus) if focus is not None else []
    own = [d for d in found if d.metric == VERDICT_METRIC and not d.is_trained_on]
    headline = main_difference(own, focus)
    drifts = drifts_of(evidence, incoherence)
    first, *others = _sentences(focus, headline, own, rows, drifts)
    sentences = [first, *warnings, *others, *remarks]
    return {
        "sentence": " ".join(sentences),
        "sentences": sentences,
        "warnings": list(warnings),
        "focus": focus,
        "verdict": verdict_of(headline, drifts) if headline else None,
        "against": headline.against if headline else None,
        "smallest_detectable_difference": smallest_detectable_difference(headline.estimate) if headline else None,
        "differences": [_told(difference, drifts) for difference in found],
        "columns": [{"metric": m, "title": rule_of(m).title, "unit": rule_of(m).unit} for m in evidence],
        "table": rows,
        "ranking": ranking_of(evidence.get(VERDICT_METRIC)),
    }


def ranking_of(own: Evidence | None) -> list[dict[str, Any]]:
    """Return the trained arms in one order, by who was right on which prompt; nothing for fewer than three."""
    arms = [] if own is None else [arm for arm in own.arms() if arm not in (BASE, SHORTER)]
    if own is None or len(arms) < 3:
        return []
    outcomes = outcomes_of(own.resampled, [(arm, own.columns(arm)) for arm in arms])
    return [asdict(each) for each in rank(outcomes, seed=own.seed)]


def main_difference(own: Sequence[Difference], focus: str | None) -> Difference | None:
    """Return the difference that the first sentence is about."""
    against = {d.against: d for d in own if d.arm == focus}
    others = [arm for arm in against if arm not in (*CONTROLS, BASE)]
    return next((against[arm] for arm in (*CONTROLS, *others, BASE) if arm in against), None)


def verdict_of(difference: Difference, drifts: Drifts) -> str:
    """Return the difference's verdict; a gain or a loss is clear only where `_doubt` finds nothing.

    Else it is one with heavy drift or collapsed answers (of the arm), over, or to, the same (of the other side), or
    one whose drift was not measured.
    """
    plain, doubt = difference.plain_verdict, _doubt(difference, drifts)
    if plain == "within noise" or doubt is None:
        return plain
    kind = plain.removeprefix("clear ")
    if doubt.arm is None:
        return f"{kind}, {doubt.what}"
    link = "with" if doubt.arm == difference.arm else "over" if kind == "gain" else "to"
    return f"{kind} {link} {doubt.what}"


class _Doubt(NamedTuple):
    """Why a gain or a loss is no plain one: *what* is the matter with *arm* (None: with what was measured).

    *among* names its draws, where they are several.
    """

    what: str
    arm: str | None = None
    among: str = ""


def _doubt(difference: Difference, drifts: Drifts) -> _Doubt | None:
    """Return the first doubt, of the winner before the loser; one draw counts as the arm's, on either side.

    To win by a collapse proves nothing, nor does to be ahead of one. The base drifts from nothing.
    """
    sides = [difference.arm, difference.against]
    trained = [arm for arm in (sides if difference.estimate.value > 0 else sides[::-1]) if arm != BASE]
    for arm in trained:
        own = drifts[arm]
        if own.heavy:
            return _Doubt("heavy drift", arm, own.among(own.heavy))
        if own.collapsed:
            return _Doubt("collapsed answers", arm, own.among(own.collapsed))
    return None if all(drifts[arm].is_measured for arm in trained) else _Doubt("drift not measured")


def _told(difference: Difference, drifts: Drifts) -> dict[str, Any]:
    """Return the difference as JSON, with its verdict where it may have one."""
    return difference.as_dict() | ({"verdict": verdict_of(difference, drifts)} if difference.has_verdict else {})


def _sentences(
    focus: str | None, headline: Difference | None, own: Sequence[Difference], rows: Rows, drifts: Drifts
) -> list[str]:
    if focus is None:
        return ["Only the base was measured: there is nothing to compare it with."]
    if headline is None:
        return ["Preference accuracy was not measured: there is no verdict.", *_drift(focus, None, drifts)]
    return [
        _lead(headline, drifts) + _behind_base(headline, own),
        _smallest(headline),
        *_others(headline, own, drifts),
        *_factors(own, rows, drifts),
        *_drift(focus, headline.against, drifts),
        *_baselines(focus, rows),
        *_limits(focus, rows),
    ]


def _lead(headline: Difference, drifts: Drifts) -> str:
    verdict = verdict_of(headline, drifts)
    value, arm, against = headline.estimate.value, headline.arm, _named(headline.against)
    side = "level with" if value == 0 else "ahead of" if value > 0 else "behind"
    size = "" if value == 0 else f" by {abs(value):.3f}"
    text = (
        f"{verdict.capitalize()}: `{arm}` is {side} {against}{size} in preference accuracy ({_interval(headline)}, "
        f"{headline.n} pairs of {headline.prompts} prompts, p = {headline.p_adjusted:.3f} after Holm's correction for "
        f"{headline.comparisons} comparison{'s' if headline.comparisons > 1 else ''})."
    )
    if verdict == "within noise" and headline.leaves_out_zero:
        text += " The interval alone leaves out 0; with so few prompts or so many comparisons that is not enough."
    if verdict == "within noise" and headline.p_adjusted < SIGNIFICANCE:
        text += " p alone is below 0.05; the interval does not leave out 0, and that is not enough."
    return text + _qualified(headline, drifts)


def _behind_base(headline: Difference, own: Sequence[Difference]) -> str:
    """Return that training did harm where a gain over another arm is a loss to the base."""
    to_base = [d for d in own if (d.arm, d.against, d.plain_verdict) == (headline.arm, BASE, "clear loss")]
    if headline.plain_verdict != "clear gain" or not to_base:
        return ""
    return f" But `{headline.arm}` is behind {_short(to_base[0])}: no training at all did better."


def _qualified(headline: Difference, drifts: Drifts) -> str:
    """Return why a gain or a loss is no plain one, naming the draws."""
    plain, doubt = headline.plain_verdict, _doubt(headline, drifts)
    if plain == "within noise" or doubt is None:
        return ""
    return f" That is no plain {plain.removeprefix('clear ')}: {_why(doubt, headline)}."


def _why(doubt: _Doubt, headline: Difference) -> str:
    if doubt.arm is None:
        return "without KL and log p(chosen) of every draw a collapse cannot be told"
    is_own, is_collapsed = doubt.arm == headline.arm, doubt.what == "collapsed answers"
    who = ("the model" if is_own else _named(doubt.arm)) + doubt.among
    said = f"what {who} answers has collapsed" if is_collapsed else f"{who} moved far from the base"
    if is_own:
        return f"{said}, and accuracy alone does not see {'it' if is_collapsed else 'a collapse'}"
    return f"{said}, so that being {'ahead of' if headline.estimate.value > 0 else 'behind'} it says little"


def _named(arm: str) -> str:
    return "the base (0.5 by definition)" if arm == BASE else f"`{arm}`"


def _interval(difference: Difference) -> str:
    low, high = difference.estimate.low, difference.estimate.high
    if low is None or high is None:
        return "no interval from one prompt"
    return f"95 % interval {low:+.3f} to {high:+.3f}"


def _smallest(headline: Difference) -> str:
    smallest = smallest_detectable_difference(headline.estimate)
    if smallest is None:
        return "The smallest difference that could have been seen is not known from so few prompts."
    if headline.estimate.standard_error is None:
        alike = "No prompt told the two apart" if headline.estimate.value == 0 else "All prompts agree"
        return f"{alike}; with so many prompts a difference of up to {smallest:.3f} could have gone unseen."
    power = "80 % power at 5 %, two-sided, for one comparison"
    if smallest >= (0.5 if headline.against == BASE else 1):
        return (
            f"No difference that there can be was sure to be seen here ({power}): too few prompts, or draws of an arm."
        )
    return f"The smallest difference that could have been seen here is {smallest:.3f} ({power})."


def _others(headline: Difference, own: Sequence[Difference], drifts: Drifts) -> list[str]:
    rest = [d for d in own if d.arm == headline.arm and d.against != headline.against]
    if not rest:
        return []
    said = "; ".join(f"{verdict_of(d, drifts)} against {_short(d)}" for d in rest)
    return [f"`{headline.arm}` against the others (after Holm's correction; the intervals are without it): {said}."]


def _short(difference: Difference) -> str:
    low, high = difference.estimate.low, difference.estimate.high
    ends = "no interval" if low is None or high is None else f"{low:+.3f} to {high:+.3f}"
    name = "the base" if difference.against == BASE else f"`{difference.against}`"
    return f"{name} ({difference.estimate.value:+.3f}, {ends})"


def _factors(own: Sequence[Difference], rows: Rows, drifts: Drifts) -> list[str]:
    pairs = {(d.arm, d.against): d for d in own}
    missing = sorted({arm for pair in FACTORS for arm in pair} - {row["arm"] for row in rows})
    if missing or not all(pair in pairs for pair in FACTORS):
        names = ", ".join(f"`{arm}`" for arm in missing)
        return [f"What selection and reward term did apart cannot be told without {names}."] if missing else []
    selection, on_selected, on_random = (pairs[pair] for pair in FACTORS)
    return [
        f"The selection alone (`no_reward_term` - `random`): {_factor(selection, drifts)}.",
        f"The reward term: on selected rows (`deft` - `no_reward_term`) {_factor(on_selected, drifts)}; on random rows "
        f"(`random_with_term` - `random`) {_factor(on_random, drifts)}.",
    ]


def _factor(difference: Difference, drifts: Drifts) -> str:
    return f"{verdict_of(difference, drifts)}, {difference.estimate.value:+.3f} ({_interval(difference)})"


def _drift(focus: str, against: str | None, drifts: Drifts) -> list[str]:
    text = f"Drift of `{focus}`: {drifts.get(focus, Drift()).words()}"
    if against is not None and against != BASE:
        text += f"; of `{against}`: {drifts[against].words()}"
    found = [text + "."]
    heavy = [f"`{arm}`{own.among(own.heavy)}" for arm, own in drifts.items() if own.heavy]
    if heavy:
        names = ", ".join(heavy)
        found.append(f"Heavy drift (more than {HEAVY_DRIFT} nats a token by KL or by fall of log p(chosen)): {names}.")
    signs = [sign.words() for own in drifts.values() for sign in own.signs]
    if signs:
        found.append(f"Collapsed answers, against the base: {'; '.join(signs)}.")
    return found


def _baselines(focus: str, rows: Rows) -> list[str]:
    cells = {row["arm"]: row["cells"].get(VERDICT_METRIC) for row in rows}
    own, shorter = cells.get(focus), cells.get(SHORTER)
    if own is None or shorter is None:
        return []
    return [
        f"`{focus}` is right in {own['value']:.3f} of the pairs, preferring the shorter response in "
        f"{shorter['value']:.3f}, chance in 0.5."
    ]


def _limits(focus: str, rows: Rows) -> list[str]:
    found = []
    if "full" not in {row["arm"] for row in rows}:
        found.append(f"`{focus}` was not compared with training on everything.")
    trained = [row for row in rows if row["arm"] not in UNTRAINED]
    single = ", ".join(f"`{row['arm']}`" for row in trained if row["draws"] == 1)
    several = ", ".join(f"`{row['arm']}`" for row in trained if row["draws"] > 1)
    if single and several:
        found.append(f"Trained once only: {single}; the luck of one run is taken to be that of the draws of {several}.")
    elif single:
        found.append(f"Trained once only, so that the luck of one training run is in no interval: {single}.")
    return found
