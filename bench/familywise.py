"""`python -m bench.familywise`: how often an evaluation of arms that are alike says that any of them differ.

Arms answer the same prompts, right or wrong, equally well, but that every training run has a luck of its own. Whatever
that is, at most 0.05 of the evaluations may have a comparison that is significant after Holm's correction. Beside it:
how often a true difference is found. The results go to bench/results/familywise.md. No model, no torch.
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


def false_findings(draws: Mapping[str, int], prompts: int, luck: float, *, runs: int = RUNS) -> float:
    """Return the share of evaluations of equal arms that say of any comparison that it is no noise."""
    found = families(draws, prompts, luck, runs=runs)
    return float(np.mean([any(each.verdict != "within noise" for each in family) for family in found]))


def found_gains(draws: Mapping[str, int], prompts: int, luck: float, *, runs: int = RUNS) -> float:
    """Return the share of evaluations that find `deft` better than `random`, which it is by `GAIN`."""
    found = families(draws, prompts, luck, gain=GAIN, runs=runs)
    return float(np.mean([_of_random(family).verdict == "clear gain" for family in found]))


def _of_random(family: list[Difference]) -> Difference:
    return next(each for each in family if (each.arm, each.against) == ("deft", "random"))


def text() -> Iterator[str]:
    """Yield the lines of the page, measured one by one."""
    yield "# How often equal arms are told apart, and unequal ones found\n"
    yield "Written by `python -m bench.familywise`: the share of evaluations of four arms alike in which any comparison"
    yield "is significant after Holm's correction (to be at most 0.05), and that in which `deft`, better by 0.14 of the"
    yield f"answers, is found to be better than `random`; {RUNS:,} evaluations a cell, so that 0.05 has an error of"
    yield "0.007. Luck is the standard deviation between runs in that of prompts.\n"
    yield "| | prompts | " + " | ".join(f"luck {luck:g}" for luck in LUCK) + " | found, luck 0 | found, luck 0.12 |"
    yield "|---|---|" + "---|" * (len(LUCK) + 2)
    for name, draws in DESIGNS.items():
        for prompts in PROMPTS:
            cells = [false_findings(draws, prompts, luck) for luck in LUCK]
            cells += [found_gains(draws, prompts, luck) for luck in (0.0, 0.12)]
            yield f"| {name} | {prompts} | " + " | ".join(f"{cell:.3f}" for cell in cells) + " |"


def main() -> None:
    """Measure and write the page."""
    lines = []
    for line in text():
        print(line, flush=True)
        lines.append(line)
    RESULTS.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
