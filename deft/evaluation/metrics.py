"""The named numbers of an evaluation, as additive sums per prompt, and those of pairs; `answers` has those of answers.

Each metric is a statistic (deft.evaluation.intervals) of sums over prompts, so that one resampling gives intervals and
paired differences. It must not know models, tokenizers or files. Definitions: docs/method.md, Evaluation. All log
probabilities are in nats.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deft.evaluation.intervals import Array, Bounds, Statistic, cluster_sums, exp_ratio, ratio

BLEU_ORDERS = 4
BASE = "base"
SHORTER = "shorter"
"""The length baseline: a system that prefers the response with fewer tokens."""


def bleu_score(sums: Array) -> Array:
    """Return corpus BLEU, 0 to 100, from summed counts [..., 10] of `bleu_counts`; as sacrebleu computes it.

    Smoothing `exp`: the k-th order without a match counts as 100 / (2**k * total) percent (Chen and Cherry 2014,
    method 3). No tokens, or an order without a single n-gram, makes 0, as there.
    """
    system, reference = sums[..., 0], sums[..., 1]
    correct, total = sums[..., 2 : 2 + BLEU_ORDERS], sums[..., 2 + BLEU_ORDERS :]
    missing = np.cumsum(correct == 0, axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(correct == 0, 1 / (2.0**missing * total), correct / total)
        brevity = np.where(system < reference, np.exp(1 - reference / system), 1.0)
        score = 100 * brevity * np.exp(np.log(precision).mean(axis=-1))
    scored: Array = np.where((correct.sum(axis=-1) > 0) & (total > 0).all(axis=-1), score, 0.0)
    return scored


@dataclass(frozen=True, slots=True)
class Rule:
    """What a metric is called, what it counts in, and how sums become its value."""

    title: str
    unit: str
    statistic: Statistic = ratio
    version: int = 1


RULES: dict[str, Rule] = {
    "preference_accuracy": Rule("preference accuracy", "share"),
    "margin": Rule("implicit margin", "nats"),
    "ranking_accuracy": Rule("ranking accuracy", "share"),
    "r_d_accuracy": Rule("R_d accuracy", "share"),
    "kl": Rule("KL to the base", "nats/token"),
    "chosen_logp_change": Rule("change of log p(chosen)", "nats"),
    "chosen_logp_change_per_token": Rule("change of log p(chosen) a token", "nats/token"),
    "length": Rule("answer length", "tokens"),
    "ended": Rule("answers that end", "share"),
    "entropy": Rule("entropy of the next token", "nats/token"),
    "bleu": Rule("BLEU", "0-100", bleu_score),
    "bleu_char_pro": Rule("character BLEU as PRO computes it", "0-100"),
    "bartscore_precision": Rule("BARTScore, answer given reference", "nats/token"),
    "bartscore_recall": Rule("BARTScore, reference given answer", "nats/token"),
    "bartscore_f": Rule("BARTScore, mean of both", "nats/token"),
    "distinct_1": Rule("distinct words of an answer", "share"),
    "distinct_2": Rule("distinct word pairs of an answer", "share"),
    "repeated": Rule("answers given to another prompt too", "share"),
    "silent": Rule("answers that say nothing", "share"),
    "reward": Rule("reward", "0-100"),
    "reward_logit": Rule("reward logit", "logit"),
    "perplexity": Rule("perplexity on general text", "perplexity", exp_ratio),
}
"""Every metric, in the order in which tables print them. One that exists several times in an evaluation is named
`<metric>:<of what>`: `reward:rm_...`."""

JUDGED: dict[str, Rule] = {
    "judge_win_rate": Rule("win rate by a judge", "share"),
    "judge_score": Rule("score by a judge", "1-10"),
    "judge_score_gain": Rule("gain in a judge's score", "points"),
}
"""What a judging measures as means over answers; an evaluation itself has none of them."""


def rule_of(metric: str) -> Rule:
    """Return the rule of *metric*, with what it is of in its title."""
    kind, _, of = metric.partition(":")
    rule = (RULES | JUDGED)[kind]
    return replace(rule, title=f"{rule.title} by {of}") if of else rule


def in_order(names: Iterable[str]) -> list[str]:
    """Return the distinct *names* of metrics in the order of `RULES`, those of one rule as they come."""
    order = [*RULES, *JUDGED]
    return sorted(dict.fromkeys(names), key=lambda name: order.index(name.partition(":")[0]))


@dataclass(frozen=True, slots=True, eq=False)
class ByRow:
    """What a measurement was summed from: additive *columns* [n, K] of n rows, and the cluster of each.

    *counts* [n] is what of each row counts towards the measurement's n: of pair metrics its pairs.
    """

    columns: Array
    clusters: list[Any]
    counts: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Measurement:
    """One metric of one system: additive *sums* [C, K] over prompts and *n* rows (of pair metrics: pairs).

    *bounds* are the ends of the value's range; *slice* says of which rows it is. A value *is_by_definition* when no
    measurement could change it (the base prefers nothing to itself): it serves differences and is left out of tables.
    """

    metric: str
    system: str
    arm: str
    sums: Array
    n: int
    bounds: Bounds = None
    is_trained_on: bool = False
    is_by_definition: bool = False
    is_valid: bool = True
    """False: what measured it was not shown to be better than a baseline, so that it takes no part in a verdict."""
    slice: str = "all"
    by_row: ByRow | None = None


@dataclass(frozen=True, slots=True, eq=False)
class PairScores:
    """Likelihoods of n held-out rows under one system: of the chosen [n], and of the other in M pairs with it [M].

    *chosen_logp* and *rejected_logp* are sums over the response's tokens and its end token, in nats; the numbers of
    *tokens* count what was summed. R_d (M5) is the mean over the response's own tokens; None without Q_diff. *row_of*
    [M] is the row (0..n-1) of each pair, rising, in the order of its responses; None: one pair a row.
    """

    chosen_logp: Array
    rejected_logp: Array
    chosen_tokens: NDArray[np.int64]
    rejected_tokens: NDArray[np.int64]
    r_d_chosen: Array | None = None
    r_d_rejected: Array | None = None
    row_of: NDArray[np.int64] | None = None

    @property
    def place_of_rejected(self) -> NDArray[np.int64]:
        """Return [M], the place (1 is the second best) of each pair's other response in its list."""
        rows = np.arange(len(self.rejected_logp)) if self.row_of is None else self.row_of
        counts = np.bincount(rows)
        places: NDArray[np.int64] = 1 + np.arange(len(rows)) - (counts.cumsum() - counts)[rows]
        return places

    def per_pair(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return *values* [n] of rows as [M], those of each pair's row."""
        return values if self.row_of is None else values[self.row_of]

    def per_row(self, values: Array) -> Array:
        """Return the mean of *values* [M] over the pairs of each row, [n]."""
        if self.row_of is None:
            return values
        means: Array = np.bincount(self.row_of, values) / np.bincount(self.row_of)
        return means


@dataclass(frozen=True, slots=True)
class Who:
    """The system that was measured, its arm, and whether its objective holds the DEFT term."""

    system: str
    arm: str
    has_reward_term: bool = False


def implicit_margin(scores: PairScores, reference: PairScores, beta: float) -> Array:
    """Return beta * [(log pi - log ref)(y+) - (log pi - log ref)(y-)] in nats, [M] (M7's argument)."""
    chosen = scores.per_pair(scores.chosen_logp - reference.chosen_logp)
    rejected = scores.rejected_logp - reference.rejected_logp
    return beta * (chosen - rejected)


def ranking_accuracy(scores: PairScores, reference: PairScores) -> Array:
    """Return [n]: the share of all pairs of a row's responses whose log-ratios to the reference fall as they should.

    All N(N-1)/2 pairs of the list count, not only those with the chosen one; ties count one half.
    """
    size, place = len(scores.chosen_logp), scores.place_of_rejected
    ratios = np.full((size, place.max() + 1), np.nan)
    ratios[:, 0] = scores.chosen_logp - reference.chosen_logp
    ratios[scores.per_pair(np.arange(size)), place] = scores.rejected_logp - reference.rejected_logp
    won = [wins(ratios[:, k] - ratios[:, i]) for k in range(ratios.shape[1]) for i in range(k + 1, ratios.shape[1])]
    shares: Array = np.nanmean(won, axis=0)
    return shares


def wins(difference: Array) -> Array:
    """Return 1 where *difference* is positive, 0 where negative, and one half for a tie."""
    return (np.sign(difference) + 1) / 2


def measure_pairs(
    who: Who, scores: PairScores, reference: PairScores, clusters: Sequence[Any], beta: float
) -> list[Measurement]:
    """Return the likelihood metrics of one system against the *reference* (the base).

    A row with several rejected responses counts as one: by the mean over its pairs.
    """
    margin = implicit_margin(scores, reference, beta)
    change = scores.chosen_logp - reference.chosen_logp
    tokens = scores.chosen_tokens.astype(np.float64)
    is_base = who.system == BASE
    found = [
        _pairs("preference_accuracy", who, scores, wins(margin), clusters, is_share=True, is_by_definition=is_base),
        _pairs("margin", who, scores, margin, clusters, is_by_definition=is_base),
        measure_mean("chosen_logp_change", who, change, clusters, is_by_definition=is_base),
        measure_mean("chosen_logp_change_per_token", who, change, clusters, counted=tokens, is_by_definition=is_base),
    ]
    if len(margin) > len(change):
        ranked = ranking_accuracy(scores, reference)
        found.append(
            measure_mean("ranking_accuracy", who, ranked, clusters, bounds=(0.0, 1.0), is_by_definition=is_base)
        )
    if scores.r_d_chosen is not None and scores.r_d_rejected is not None:
        right = wins(scores.per_pair(scores.r_d_chosen) - scores.r_d_rejected)
        trained = who.has_reward_term
        found.append(_pairs("r_d_accuracy", who, scores, right, clusters, is_share=True, is_trained_on=trained))
    return found


def measure_length_baseline(reference: PairScores, clusters: Sequence[Any]) -> Measurement:
    """Return the preference accuracy of preferring the response with fewer tokens; ties count one half."""
    fewer = reference.rejected_tokens - reference.per_pair(reference.chosen_tokens)
    shorter = wins(fewer.astype(np.float64))
    return _pairs("preference_accuracy", Who(SHORTER, SHORTER), reference, shorter, clusters, is_share=True)


def _pairs(
    metric: str,
    who: Who,
    scores: PairScores,
    values: Array,
    clusters: Sequence[Any],
    *,
    is_share: bool = False,
    is_trained_on: bool = False,
    is_by_definition: bool = False,
) -> Measurement:
    """Measure the mean over rows of the mean of *values* [M] over each row's pairs; n counts the pairs."""
    found = measure_mean(
        metric,
        who,
        scores.per_row(values),
        clusters,
        bounds=(0.0, 1.0) if is_share else None,
        is_trained_on=is_trained_on,
        is_by_definition=is_by_definition,
    )
    rows = np.arange(len(values)) if scores.row_of is None else scores.row_of
    by_row = replace(_rows_of(found), counts=np.bincount(rows, minlength=len(scores.chosen_logp)))
    return replace(found, n=len(values), by_row=by_row)


def _rows_of(measurement: Measurement) -> ByRow:
    if measurement.by_row is None:
        raise AssertionError("a measured mean knows its rows")
    return measurement.by_row


def measure_mean(
    metric: str,
    who: Who,
    values: Array,
    clusters: Sequence[Any],
    *,
    counted: Array | None = None,
    bounds: Bounds = None,
    is_trained_on: bool = False,
    is_by_definition: bool = False,
) -> Measurement:
    """Measure the mean of *values* [n], or their sum over the sum of *counted* [n]."""
    columns = np.column_stack([values, np.ones_like(values) if counted is None else counted])
    found = measure_sums(metric, who, columns, clusters, bounds=bounds)
    return replace(found, is_trained_on=is_trained_on, is_by_definition=is_by_definition)


def measure_sums(
    metric: str, who: Who, columns: Array, clusters: Sequence[Any], *, bounds: Bounds = None
) -> Measurement:
    """Measure what *columns* [n, K] add up to."""
    by_row = ByRow(columns, list(clusters), np.ones(len(columns), dtype=np.int64))
    sums = cluster_sums(columns, clusters)
    return Measurement(metric, who.system, who.arm, sums, len(columns), bounds, by_row=by_row)


COMPANIONS = {
    "ended": "length",
    "chosen_logp_change_per_token": "chosen_logp_change",
    "bartscore_precision": "bartscore",
    "bartscore_recall": "bartscore",
    "bartscore_f": "bartscore",
}
"""Metrics that come with the one that was asked for, by their own name."""


def wanted(measurements: Iterable[Measurement], names: Sequence[str]) -> list[Measurement]:
    """Keep the metrics that were asked for, with those that belong to one that was."""
    return [m for m in measurements if COMPANIONS.get(m.metric, m.metric.partition(":")[0]) in names]
