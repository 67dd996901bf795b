"""The length-controlled win rate: what a judge would say if both answers were equally long.

It must not know questions, endpoints or files. Letters: n judged pairs, C clusters (prompts), R draws.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from deft.evaluation.intervals import Array, Estimate
from deft.judges.logistic import Rows, fit, influences, posterior, sigmoid
from deft.judges.statistics import Sampling
from deft.planning.power import LEVEL, UNSEEN

PRIOR = (2 * UNSEEN, 1.0, 4.0)
"""Made-up wins and losses, half and half, for a, b and c below."""
TIE_PRIOR = (2 * UNSEEN, 1.0, 1.0)
"""The same of ties, for e, f and g below."""
TAIL = (1 - LEVEL) / 2
FEWEST, LEAST = 5, 0.1
"""Fewest prompts, and least share of all, in which the system is not longer, and in which it is not shorter."""


def one_sided(longer_by: Sequence[float], clusters: Sequence[Any]) -> str | None:
    """Return why pairs with these lengths (*longer_by* [n], of prompts *clusters* [n]) cannot be controlled for length.

    Equal lengths are approached from both sides, so prompts are needed on both (`FEWEST`, `LEAST`); a pair of equal
    length is on either. None: there are enough, or there is no difference in length to control for.
    """
    d = np.asarray(longer_by, dtype=np.float64)
    if not d.any():
        return None
    of = np.asarray(clusters)
    prompts = len(np.unique(of))
    for word, is_there in (("longer", d > 0), ("shorter", d < 0)):
        others = len(np.unique(of[~is_there]))
        if others < max(FEWEST, LEAST * prompts):
            told = f"the system is {word} in {100 * is_there.mean():.3g} % of pairs"
            needed = (
                f"{others} of {prompts} prompts are otherwise, at least {FEWEST} and {100 * LEAST:.0f} % have to be"
            )
            return f"{told}: length and quality cannot be told apart ({needed})"
    return None


def length_controlled(
    outcomes: Sequence[float], longer_by: Sequence[float], clusters: Sequence[Any], how: Sampling
) -> Estimate:
    """Estimate the win rate where both answers are equally long, *outcomes* [n] being 1, 0.5 (a tie) and 0.

    With d the difference in length (*longer_by* [n], system less other) and x = tanh(d / rms(d)):

        logit P(win | no tie) = a + b x + c sign(d)
        logit P(tie) = e + f x + g x^2
        rate = t / 2 + (1 - t) (sigmoid(a + c) + sigmoid(a - c)) / 2, t = sigmoid(e)

    which is the mean of the limits from both sides as d goes to 0. After Dubois et al. 2024 (arXiv 2404.04475, whose
    rate is sigmoid(a)), with one system a fit, without their terms of models and instructions. Ours: ties are outcomes
    of their own (a fraction of a win is no logistic outcome, and bends the line; orders that agree by chance tie in a
    hump, hence g); c, so that a judge whom length alone decides comes out at one half, though no line fits its step.
    Where all lengths are equal there is neither b nor c. The interval is that of a posterior with the priors of `PRIOR`
    and `TIE_PRIOR`; rows of one prompt (*clusters* [n]) widen it by their design effect.
    It says nothing where lengths are `one_sided`.
    """
    y, d = np.asarray(outcomes, dtype=np.float64), np.asarray(longer_by, dtype=np.float64)
    spread = float(np.sqrt((d**2).mean()))
    x = np.tanh(d / spread) if spread > 0 else np.zeros_like(d)
    is_tie, one = (y == 0.5).astype(np.float64), np.ones_like(x)
    known = 3 if spread > 0 else 1
    wins = Rows(np.column_stack([one, x, np.sign(d)][:known]), y, 1 - is_tie).with_prior(PRIOR[:known])
    ties = Rows(np.column_stack([one, x, x**2]), is_tie, one).with_prior(TIE_PRIOR)
    of_wins, of_ties = fit(wins), fit(ties)
    generator = np.random.default_rng([how.seed, 5])
    rates = _wins(posterior(wins, of_wins, how.resamples, generator))
    shares = sigmoid(posterior(ties, of_ties, how.resamples, generator)[:, 0])
    rate, share = float(_wins(of_wins.mode)), float(sigmoid(of_ties.mode[0])) if is_tie.any() else 0.0
    value = share / 2 + (1 - share) * rate
    moves = (1 - share) * influences(wins, of_wins, _gradient(of_wins.mode))[: len(y)]
    moves += share * (1 - share) * (0.5 - rate) * influences(ties, of_ties, np.array([1.0, 0.0, 0.0]))[: len(y)]
    return _estimate(value, shares / 2 + (1 - shares) * rates, _widening(moves, clusters))


def _wins(coefficients: Array) -> Array:
    """Return P(win | no tie) at equal lengths from (a, b, c) [..., 3], or from a alone [..., 1]."""
    up, down = _sides(coefficients)
    return (up + down) / 2


def _sides(coefficients: Array) -> tuple[Array, Array]:
    """Return P(win | no tie) as d goes to 0 from above and from below."""
    a = coefficients[..., 0]
    c = coefficients[..., 2] if coefficients.shape[-1] > 1 else np.zeros_like(a)
    return sigmoid(a + c), sigmoid(a - c)


def _gradient(mode: Array) -> Array:
    """Return the derivative of `_wins` by (a, b, c), or by a alone."""
    up, down = (float(p * (1 - p)) / 2 for p in _sides(mode))
    return np.array([up + down, 0.0, up - down][: len(mode)])


def _widening(moves: Array, clusters: Sequence[Any]) -> float:
    """Return by how much rows that share a prompt widen the interval, at least 1; *moves* [n] are their influences.

    The root of the variance of sums over prompts over that of single rows; rows of a lone prompt are worth one.
    """
    _, codes = np.unique(np.asarray(clusters), return_inverse=True)
    number = int(codes.max()) + 1
    total = float((moves**2).sum())
    if number == len(moves) or total == 0:
        return 1.0
    if number == 1:
        return float(np.sqrt(len(moves)))
    effect = float((np.bincount(codes, moves) ** 2).sum()) / total * number / (number - 1)
    return max(1.0, float(np.sqrt(effect)))


def _estimate(value: float, sample: Array, widening: float) -> Estimate:
    """Return *value* with the interval of the *sample* [R], whose logits are spread around that of the value."""
    logits = np.log(sample) - np.log1p(-sample)
    middle = float(np.median(logits))
    sample = sigmoid(middle + widening * (logits - middle))
    low, high = (float(end) for end in np.quantile(sample, [TAIL, 1 - TAIL], method="weibull"))
    p = 2 / (len(sample) + 1)
    return Estimate(value, min(low, value), max(high, value), float(sample.std()), p)
