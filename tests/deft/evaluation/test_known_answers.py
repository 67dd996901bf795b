"""Systems whose win rate, noise and luck are known go in; the right verdict comes out, at the right rate."""

from collections.abc import Callable

import numpy as np
import pytest

from deft.evaluation.comparison import differences, gather
from deft.evaluation.metrics import BASE, Measurement
from deft.evaluation.verdict import compare

Generator = np.random.Generator


def system(arm: str, values: np.ndarray, draw: int = 1) -> Measurement:
    sums = np.column_stack([values, np.ones(len(values))])
    return Measurement("preference_accuracy", f"{arm}-{draw}", arm, sums, len(values), (0.0, 1.0))


def arms_of(
    generator: Generator, rates: dict[str, float], prompts: int, *, draws: int = 1, luck: float = 0.0, ties: float = 0.0
) -> list[Measurement]:
    """Arms that are right at these rates on prompts of unlike ease; the random ones have *draws*; all have *luck*."""
    ease = generator.normal(scale=0.15, size=prompts)
    found = []
    for arm, rate in rates.items():
        for draw in range(1, (draws if arm.startswith("random") else 1) + 1):
            chance = np.clip(rate + ease + luck * generator.normal(), 0.02, 0.98)
            right = (generator.random(prompts) < chance).astype(float)
            found.append(system(arm, np.where(generator.random(prompts) < ties, 0.5, right), draw))
    return found


def verdicts(draw: Callable[[Generator], list[Measurement]], runs: int, seed: int = 0) -> list[list[str]]:
    """Return the verdicts of every comparison in each of *runs* evaluations."""
    generator = np.random.default_rng(seed)
    return [
        [each.plain_verdict for each in differences(gather(draw(generator), resamples=300, seed=run), "deft")]
        for run in range(runs)
    ]


def share(found: list[bool]) -> float:
    return float(np.mean(found))


@pytest.mark.parametrize("ties", [0.0, 0.3])
def test_equal_arms_are_told_apart_in_at_most_5_percent_of_evaluations(ties: float) -> None:
    rates = dict.fromkeys(("deft", "no_reward_term", "random_with_term", "random", "full"), 0.6)
    found = verdicts(lambda g: arms_of(g, rates, 40, ties=ties), 200)
    assert share([any(each != "within noise" for each in own) for own in found]) <= 0.08  # 200 runs: 0.05 + 2 sd


def test_the_luck_of_runs_is_not_taken_for_an_effect() -> None:
    rates = dict.fromkeys(("deft", "no_reward_term", "random_with_term", "random"), 0.6)
    found = verdicts(lambda g: arms_of(g, rates, 150, draws=3, luck=0.08), 120)
    assert share([any(each != "within noise" for each in own) for own in found]) <= 0.09


def test_the_luck_of_runs_would_be_taken_for_an_effect_with_one_draw_of_each() -> None:
    rates = dict.fromkeys(("deft", "no_reward_term", "random_with_term", "random"), 0.6)
    found = verdicts(lambda g: arms_of(g, rates, 150, luck=0.08), 60)
    assert share([any(each != "within noise" for each in own) for own in found]) > 0.2


def test_a_large_effect_is_found_nearly_always_and_never_with_the_wrong_sign() -> None:
    found = verdicts(lambda g: arms_of(g, {"deft": 0.75, "random": 0.55}, 200), 60)
    assert share([own == ["clear gain"] for own in found]) > 0.9
    assert not any("clear loss" in own for own in found)
    found = verdicts(lambda g: arms_of(g, {"deft": 0.45, "random": 0.65}, 200), 30)
    assert share([own == ["clear loss"] for own in found]) > 0.9


def test_an_effect_of_the_smallest_detectable_size_is_found_four_times_in_five() -> None:
    generator = np.random.default_rng(1)
    hits = []
    for run in range(80):
        shared = generator.random(200) < 0.5
        apart = generator.random(200) < 0.3
        wins = generator.random(200) < 0.5 + 0.5 * 0.1085 / 0.3  # 2.80 * sqrt(0.3 / 200) of 0.3 that differ
        one, other = np.where(apart, wins, shared), np.where(apart, ~wins, shared)
        evidence = gather([system("deft", one * 1.0), system("random", other * 1.0)], resamples=300, seed=run)
        hits.append(differences(evidence, "deft")[0].plain_verdict == "clear gain")
    assert 0.68 <= share(hits) <= 0.92


def test_a_known_win_rate_over_the_base_is_in_its_interval() -> None:
    generator = np.random.default_rng(0)
    held = []
    for run in range(200):
        truth = generator.uniform(0.3, 0.7)
        base = Measurement(
            "preference_accuracy", BASE, BASE, np.full((24, 2), [0.5, 1.0]), 24, (0.0, 1.0), is_by_definition=True
        )
        arm = system("mine", (generator.random(24) < truth).astype(float))
        (found,) = differences(gather([base, arm], resamples=400, seed=run), "mine")
        held.append(found.estimate.low <= truth - 0.5 <= found.estimate.high)
    assert 0.91 <= share(held) <= 0.985


def test_the_two_by_two_names_the_move_that_worked() -> None:
    generator = np.random.default_rng(0)
    rates = {"deft": 0.75, "no_reward_term": 0.55, "random_with_term": 0.75, "random": 0.55}
    words = compare(gather(arms_of(generator, rates, 400), resamples=400, seed=0), "deft")["sentence"]
    assert "(`no_reward_term` - `random`): within noise" in words
    assert "(`deft` - `no_reward_term`) gain" in words or "(`deft` - `no_reward_term`) clear gain" in words
