"""The penalised fit against what is known in closed form, and its posterior against the exact one."""

import numpy as np
import pytest
from scipy import stats

from deft.judges import logistic
from deft.judges.logistic import Rows, fit, influences, posterior, sigmoid


def shares(wins: int, losses: int) -> Rows:
    outcomes = np.repeat([1.0, 0.0], [wins, losses])
    return Rows(np.ones((wins + losses, 1)), outcomes, np.ones(wins + losses))


def test_a_lone_share_is_counted_with_its_made_up_outcomes() -> None:
    found = fit(shares(7, 2).with_prior([1.0]))
    assert float(sigmoid(found.mode)[0]) == pytest.approx(7.5 / 10)
    assert float(found.curvature[0, 0]) == pytest.approx(1 / (10 * 0.75 * 0.25))


@pytest.mark.parametrize(("wins", "losses"), [(7, 2), (8, 0), (60, 40)])
def test_the_posterior_of_a_lone_share_is_jeffreys(wins: int, losses: int) -> None:
    rows = shares(wins, losses).with_prior([1.0])
    sample = sigmoid(posterior(rows, fit(rows), 8000, np.random.default_rng(0)))[:, 0]
    expected = stats.beta(wins + 0.5, losses + 0.5).ppf([0.025, 0.25, 0.5, 0.975])
    assert np.quantile(sample, [0.025, 0.25, 0.5, 0.975]) == pytest.approx(expected, abs=0.015)


def test_the_posterior_of_two_coefficients_is_that_of_a_grid() -> None:
    generator = np.random.default_rng(2)
    x = np.column_stack([np.ones(12), generator.normal(size=12)])
    rows = Rows(x, (x[:, 1] > 0).astype(float), np.ones(12)).with_prior([1.0, 1.0])
    sample = posterior(rows, fit(rows), 8000, generator)
    first, second = np.meshgrid(np.linspace(-15, 15, 301), np.linspace(-10, 40, 501), indexing="ij")
    grid = np.column_stack([first.ravel(), second.ravel()])
    logits = grid @ rows.x.T
    odds = np.exp(logits @ (rows.weights * rows.y) - np.logaddexp(0, logits) @ rows.weights)
    for column in (0, 1):
        order = np.argsort(grid[:, column])
        total = np.cumsum(odds[order]) / odds.sum()
        expected = grid[order, column][np.searchsorted(total, [0.1, 0.5, 0.9])]
        assert np.quantile(sample[:, column], [0.1, 0.5, 0.9]) == pytest.approx(expected, abs=0.35)


def test_the_posterior_in_pieces_is_that_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = shares(7, 2).with_prior([1.0])
    whole = posterior(rows, fit(rows), 100, np.random.default_rng(0))
    monkeypatch.setattr(logistic, "AT_ONCE", 50)
    np.testing.assert_allclose(posterior(rows, fit(rows), 100, np.random.default_rng(0)), whole)


def test_an_influence_is_what_a_row_more_would_move() -> None:
    generator = np.random.default_rng(1)
    x = np.column_stack([np.ones(200), generator.normal(size=200)])
    rows = Rows(x, (generator.random(200) < 0.6).astype(float), np.ones(200)).with_prior([1.0, 1.0])
    heavier = rows.weights.copy()
    heavier[5] += 0.01
    moved = fit(Rows(rows.x, rows.y, heavier)).mode - fit(rows).mode
    assert influences(rows, fit(rows), np.array([1.0, 0.0]))[5] * 0.01 == pytest.approx(moved[0], rel=0.01)
