"""`python -m bench.familywise`: how often an evaluation of arms that are alike says that any of them differ.

Arms answer the same prompts, right or wrong, equally well, but that every training run has a luck of its own. Whatever
that is, at most 0.05 of the evaluations may have a comparison that is significant after Holm's correction, and 0.95 of
the intervals are to hold 0. Beside it: how often a true difference is found. The results go to
bench/results/familywise.md. No model, no torch.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from deft.evaluation.comparison import Difference, differences, gather
from deft.evaluation.metrics import Measurement

RESULTS = Path(__file__).parent / "results" / "familywise.md"
RUNS, RESAMPLES = 1_000, 1_000
COMMON = 0.7
"""Correlation of what any two runs find easy."""
DESIGNS: dict[str, dict[str, int]] = {
    "three runs of each": {"deft": 3, "no_reward_term": 3, "random": 3, "random_with_term": 3},
    "three random draws": {"deft": 1, "no_reward_term": 1, "random": 3, "random_with_term": 3},
    "three runs of one": {"deft": 3, "no_reward_term": 1, "random": 1, "random_with_term": 1},
}
PROMPTS = (50, 200)
LUCK = (0.0, 0.06, 0.12, 0.25)
"""Standard deviation between runs, in that of prompts: 0.12 moves the share of right answers by 0.05."""
GAIN = 0.35
"""Of `deft`, in the same unit, where there is a difference to find: 0.14 of the right answers."""


def families(
    draws: Mapping[str, int], prompts: int, luck: float, *, gain: float = 0.0, runs: int = RUNS
) -> Iterator[list[Difference]]:
    """Yield the comparisons of each of *runs* evaluations, whose arms have so many *draws*."""
    for run in range(runs):
        generator = np.random.default_rng([run, prompts])
        common = COMMON**0.5 * generator.normal(size=prompts)
        measured = []
        for arm, number in draws.items():
            for draw in range(number):
                own = (1 - COMMON) ** 0.5 * generator.normal(size=prompts) + luck * generator.normal()
                right = common + own + (gain if arm == "deft" else 0.0) > 0
                sums = np.column_stack([right, np.ones(prompts)]).astype(np.float64)
                measured.append(Measurement("preference_accuracy", f"{arm}-{draw}", arm, sums, prompts, (0.0, 1.0)))
        yield differences(gather(measured, resamples=RESAMPLES, seed=run), "deft")


def equal_arms(draws: Mapping[str, int], prompts: int, luck: float, *, runs: int = RUNS) -> tuple[float, float]:
    """Return the share of evaluations with a false finding, and that of intervals of `deft` - `random` that hold 0."""
    found = list(families(draws, prompts, luck, runs=runs))
    false = [any(each.plain_verdict != "within noise" for each in family) for family in found]
    return float(np.mean(false)), float(np.mean([_holds_zero(_of_random(family)) for family in found]))


def found_gains(draws: Mapping[str, int], prompts: int, luck: float, *, runs: int = RUNS) -> float:
    """Return the share of evaluations that find `deft` better than `random`, which it is by `GAIN`."""
    found = families(draws, prompts, luck, gain=GAIN, runs=runs)
    return float(np.mean([_of_random(family).plain_verdict == "clear gain" for family in found]))


def _holds_zero(difference: Difference) -> bool:
    low, high = difference.estimate.low, difference.estimate.high
    return low is not None and high is not None and low <= 0 <= high


def _of_random(family: list[Difference]) -> Difference:
    return next(each for each in family if (each.arm, each.against) == ("deft", "random"))


def text() -> Iterator[str]:
    """Yield the lines of the page, measured one by one."""
    yield "# How often equal arms are told apart, and unequal ones found\n"
    yield "Written by `python -m bench.familywise`. Of four arms alike: the share of evaluations in which any"
    yield "comparison is significant after Holm's correction (to be at most 0.05), and behind it that of the 95 %"
    yield "intervals of `deft` - `random` that hold 0. Of arms where `deft` is better by 0.14 of the answers: how often"
    yield f"it is found to be better than `random`. {RUNS:,} evaluations a cell, so that 0.05 and 0.95 have an error of"
    yield "0.007. Luck is the standard deviation between runs in that of prompts.\n"
    yield "| | prompts | " + " | ".join(f"luck {luck:g}" for luck in LUCK) + " | found, luck 0 | found, luck 0.12 |"
    yield "|---|---|" + "---|" * (len(LUCK) + 2)
    for name, draws in DESIGNS.items():
        for prompts in PROMPTS:
            alike = [equal_arms(draws, prompts, luck) for luck in LUCK]
            found = [found_gains(draws, prompts, luck) for luck in (0.0, 0.12)]
            cells = [*(f"{false:.3f}, {held:.3f}" for false, held in alike), *(f"{share:.3f}" for share in found)]
            yield f"| {name} | {prompts} | " + " | ".join(cells) + " |"


def main() -> None:
    """Measure and write the page."""
    lines = []
    for line in text():
        print(line, flush=True)
        lines.append(line)
    RESULTS.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
