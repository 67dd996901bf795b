"""Logistic regression of few outcomes: a penalised fit, and a sample of where its coefficients may lie. Numpy only.

Outcomes that a covariate tells apart have no finite fit, and errors from a fit's curvature say little of few of them.
So each coefficient gets a prior in the form of made-up outcomes (`Rows.with_prior`), and the posterior is sampled.

Letters: n rows, K coefficients, R draws. It must not know what the outcomes are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deft.evaluation.confidence import Array

STEPS = 100
LARGEST_STEP = 2.0
SMALL = 1e-9
PROPOSED = 2
"""Proposals for each draw that is kept."""
DEGREES = 5
WIDER = 1.15
"""The proposal is a t with so many degrees of freedom, so much wider than the curvature at the mode says."""
AT_ONCE = 2_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Covariates *x* [n, K], outcomes *y* [n] of 0 to 1 and how often each row counts, *weights* [n]."""

    x: Array
    y: Array
    weights: Array

    def with_prior(self, sizes: Sequence[float]) -> "Rows":
        """Return the rows, and for each coefficient m = *sizes* [K] outcomes, half of them 1, that it alone explains.

        That is a log-F(m, m) prior: m = 1 is Jeffreys' of a lone share; 95 % of log-F(1, 1) is within +-6.5, of
        log-F(4, 4) within +-2.3 (Greenland and Mansournia 2015, doi 10.1002/sim.6537).
        """
        return Rows(
            np.vstack([self.x, np.eye(len(sizes))]),
            np.append(self.y, np.full(len(sizes), 0.5)),
            np.append(self.weights, np.asarray(sizes, np.float64)),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """The *mode* [K] of a posterior and the inverse *curvature* [K, K] there."""

    mode: Array
    curvature: Array


def sigmoid(values: Array) -> Array:
    """Return 1 / (1 + exp(-values)), of any shape."""
    found: Array = 1 / (1 + np.exp(-np.clip(values, -30, 30)))
    return found


def fit(rows: Rows) -> Fit:
    """Return the mode of the posterior of *rows* with their prior, by Newton's method with bounded steps."""
    mode = np.zeros(rows.x.shape[1])
    for _ in range(STEPS):
        p = sigmoid(rows.x @ mode)
        inverse = np.linalg.inv((rows.x.T * (rows.weights * p * (1 - p))) @ rows.x).astype(np.float64)
        change = inverse @ (rows.x.T @ (rows.weights * (rows.y - p)))
        largest = float(np.abs(change).max())
        mode = mode + change * min(1.0, LARGEST_STEP / max(largest, SMALL))
        if largest < SMALL:
            break
    return Fit(mode, inverse)


def posterior(rows: Rows, found: Fit, size: int, generator: np.random.Generator) -> Array:
    """Return a sample [*size*, K] of the posterior of *rows* with their prior, in random order.

    Importance resampling (Rubin 1988) from a t around the mode of *found*.
    """
    number, width = size * PROPOSED, len(found.mode)
    deviates = generator.normal(size=(number, width))
    deviates *= np.sqrt(DEGREES / generator.chisquare(DEGREES, (number, 1)))
    proposed = found.mode + WIDER * deviates @ np.linalg.cholesky(found.curvature).T
    of_proposal = -(DEGREES + width) / 2 * np.log1p((deviates**2).sum(axis=1) / DEGREES)
    step = max(1, AT_ONCE // len(rows.y))
    of_rows = np.concatenate([_log_likelihood(rows, proposed[i : i + step]) for i in range(0, number, step)])
    odds = np.exp(of_rows - of_proposal - (of_rows - of_proposal).max())
    places = np.searchsorted(np.cumsum(odds), (np.arange(size) + 0.5) / size * odds.sum())
    sample: Array = generator.permutation(proposed[np.minimum(places, number - 1)])
    return sample


def _log_likelihood(rows: Rows, coefficients: Array) -> Array:
    """Return the log-likelihood of *rows* under each row of *coefficients* [R, K], [R]."""
    logits = coefficients @ rows.x.T
    found: Array = logits @ (rows.weights * rows.y) - np.logaddexp(0.0, logits) @ rows.weights
    return found


def influences(rows: Rows, found: Fit, direction: Array) -> Array:
    """Return [n] by how much each row moves the number whose gradient in the coefficients is *direction* [K]."""
    moved: Array = rows.weights * (rows.y - sigmoid(rows.x @ found.mode)) * (rows.x @ (found.curvature @ direction))
    return moved
