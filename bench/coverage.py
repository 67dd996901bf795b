"""`python -m bench.coverage [CELL ...]`: how often 95 % intervals hold the truth, on data whose truth is known.

Every cell is a kind of number and a number of prompts; 2,000 data sets are drawn and estimated as an evaluation does
it. The results go to bench/results/coverage.json, cell by cell, so that a run that was stopped goes on; `--fresh`
begins anew. No model, no torch; made-up numbers alone.

With few whole outcomes (right, wrong, tie) no interval without dice can hold one fixed truth in exactly 95 % of cases:
8 prompts at a share of 0.5 give 93.0 or 99.2 %, nothing between. Such cells draw a new truth for each data set.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench import known_judges as judges
from bench import known_truths as truths
from bench.known_judges import Judging
from bench.known_truths import Draw
from deft.evaluation.intervals import Bounds, estimate, ratio, resample
from deft.judges.statistics import Sampling

RESULTS = Path(__file__).parent / "results" / "coverage.json"
PROMPTS = (8, 16, 32, 64, 256)
RUNS = 2_000
RESAMPLES = 2_000
ROUNDING = 1e-9
TOGETHER = 20
"""Data sets that share their resamples: enough to be quick, few enough to be as good as independent."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of number: how data are drawn, which systems stand on either side, and the range of a share."""

    draw: Draw
    plus: tuple[int, ...] = (0,)
    minus: tuple[int, ...] = ()
    bounds: Bounds = None


Interval = tuple[float, float, float]
"""(low, high, truth)."""


def covered(
    kind: Kind | Judging, prompts: int, *, runs: int = RUNS, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Any]:
    """Return the share of *runs* intervals that held the truth, and how those that missed it did."""
    generator = np.random.default_rng([seed, prompts])
    if isinstance(kind, Kind):
        found = np.array(list(_estimated(kind, generator, prompts, runs, resamples, seed)))
    else:
        found = np.array(list(_judged(kind, generator, prompts, runs, resamples, seed)))
    low, high, truth = found.T
    below, above = truth < low - ROUNDING, truth > high + ROUNDING
    return {
        "covered": round(float((~below & ~above).mean()), 4),
        "truth_below": round(float(below.mean()), 4),
        "truth_above": round(float(above.mean()), 4),
        "median_width": round(float(np.median(high - low)), 4),
        "runs": runs,
    }


def _estimated(kind: Kind, g: np.random.Generator, n: int, runs: int, resamples: int, seed: int) -> Iterator[Interval]:
    """Yield the intervals of *runs* data sets, `TOGETHER` of which share their resamples."""
    for start in range(0, runs, TOGETHER):
        drawn = [kind.draw(g, n) for _ in range(min(TOGETHER, runs - start))]
        found = resample(np.concatenate([sums for sums, _ in drawn]), ratio, resamples=resamples, seed=seed + start)
        for place, (sums, truth) in enumerate(drawn):
            first = place * len(sums)
            arms = [first + i for i in kind.plus], [first + i for i in kind.minus]
            interval = estimate(found, *arms, bounds=kind.bounds, is_share=kind.bounds is not None, seed=seed + start)
            if interval.low is None or interval.high is None:
                raise AssertionError("an interval of several prompts has ends")
            yield interval.low, interval.high, truth


def _judged(kind: Judging, g: np.random.Generator, n: int, runs: int, resamples: int, seed: int) -> Iterator[Interval]:
    """Yield the intervals of *runs* judgings or studies."""
    for run in range(runs):
        yield kind(g, n, Sampling(resamples, seed + run))


SHARE: Bounds = (0.0, 1.0)
CHANGE: Bounds = (-1.0, 1.0)
KINDS: dict[str, Kind | Judging] = {
    "mean_normal": Kind(truths.normal),
    "mean_exponential": Kind(truths.exponential),
    "mean_skewed_clusters": Kind(truths.skewed_clusters),
    "mean_lognormal": Kind(truths.lognormal),
    "difference_normal": Kind(truths.difference_normal, minus=(1,)),
    "difference_long_tails": Kind(truths.difference_long_tails, minus=(1,)),
    "difference_skewed": Kind(truths.difference_skewed, minus=(1,)),
    "share": Kind(truths.share, bounds=SHARE),
    "share_against_base": Kind(truths.against_the_base, minus=(1,), bounds=(-0.5, 0.5)),
    "share_of_clusters": Kind(truths.share_of_clusters, bounds=SHARE),
    "win_rate_with_ties": Kind(truths.win_rate, bounds=SHARE),
    "win_rate_fixed": Kind(truths.win_rate_fixed, bounds=SHARE),
    "difference_of_shares": Kind(truths.difference_shares, minus=(1,), bounds=CHANGE),
    "difference_few_differ": Kind(truths.difference_few, minus=(1,), bounds=CHANGE),
    "difference_with_ties": Kind(truths.difference_ties, minus=(1,), bounds=CHANGE),
    "difference_of_clusters": Kind(truths.difference_of_clusters, minus=(1,), bounds=CHANGE),
    "three_draws_alike": Kind(truths.lucky(0.0), plus=(0, 1, 2)),
    "three_draws_apart": Kind(truths.lucky(0.5), plus=(0, 1, 2)),
    "judge_win_rate_in_both_orders": judges.in_both_orders,
    "judge_agreement_with_people": judges.with_people,
    "length_controlled": judges.by_length((0.0, 3.0)),
    "length_controlled_strong": judges.by_length((4.0, 4.0)),
    "length_controlled_with_ties": judges.by_length((0.0, 3.0), ties=(0.1, 0.5)),
    "length_controlled_in_orders": judges.by_length_in_orders,
    "length_controlled_in_turns": judges.by_length_in_turns,
    "study_win_rate": judges.in_study,
    "alpha_of_two_raters": judges.agreeing((2, 2)),
    "alpha_of_two_categories": judges.agreeing((2, 2), few=2),
    "alpha_of_several_raters": judges.agreeing((2, 4)),
    "over_refusal": judges.refusals(is_difference=False),
    "increase_of_over_refusal": judges.refusals(is_difference=True),
}


NEAR = (0.94, 0.96)
NOT_HELD = (
    "What 94 to 96 % cannot be had of: means of 8 or 16 skewed values (the sample seldom has the tail that the mean",
    "hangs on, and nothing in it tells of that tail); differences where 5 to 25 % of 8 or 16 pairs differ (often none",
    "does, and what may be said then holds every truth that there is). The kinds were looked at while the methods were",
    "chosen, but for `judge_win_rate_in_both_orders`, `judge_agreement_with_people`, `study_win_rate`, over-refusal;",
    "what else each method was tried on is in docs/diary.md. A dash: not measured yet; `make coverage` goes on there.",
)


def text(results: dict[str, Any]) -> str:
    """Return the results as a page: a kind a row, a number of prompts a column."""
    lines = [
        "# How often 95 % intervals hold the truth",
        "",
        "Written by `make coverage` (`bench/coverage.py`); the numbers are those of coverage.json beside this page:",
        f"the share of intervals that held the truth, each of {RUNS:,} data sets with {RESAMPLES:,} resamples. The",
        "simulation's own error is 0.005 (one standard deviation). `share`, `win_rate_with_ties`, the differences of",
        "shares, judges and studies draw a new truth for each data set; what the kinds are is in",
        "`bench/known_truths.py` and `bench/known_judges.py`.",
        "",
        "| kind | " + " | ".join(f"{prompts} prompts" for prompts in PROMPTS) + " |",
        "|---|" + "---|" * len(PROMPTS),
    ]
    for name in KINDS:
        own = results.get(name, {})
        cells = [f"{own[str(n)]['covered']:.3f}" if str(n) in own else "-" for n in PROMPTS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *summary(results), "", *NOT_HELD, ""])


def summary(results: dict[str, Any]) -> list[str]:
    """Return how many of the cells are near 95 %, and how many of those with more than a few prompts."""
    cells = [(int(n), cell["covered"]) for own in results.values() for n, cell in own.items()]
    told = [("cells", cells), ("with 32 prompts and more", [each for each in cells if each[0] >= 32])]
    counts = [f"{sum(NEAR[0] <= c <= NEAR[1] for _, c in own)} of {len(own)} {name}" for name, own in told]
    return [f"Within {NEAR[0]} and {NEAR[1]}: {', '.join(counts)}."]


def main() -> None:
    """Measure the kinds named, or all, leaving out what is there already."""
    parser = argparse.ArgumentParser(prog="python -m bench.coverage", description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"any of {', '.join(KINDS)}; default: all")
    parser.add_argument("--fresh", action="store_true", help="measure again what is there already")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    unknown = sorted(set(options.kinds) - set(KINDS))
    if unknown:
        parser.error(f"there is no kind {', '.join(unknown)}")
    results = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {}
    for name in options.kinds or KINDS:
        for prompts in PROMPTS:
            own = results.setdefault(name, {})
            if options.fresh or str(prompts) not in own:
                started_at = time.perf_counter()
                own[str(prompts)] = covered(KINDS[name], prompts)
                write(options.out, results)
                took = time.perf_counter() - started_at
                print(f"{name} {prompts}: {own[str(prompts)]['covered']:.3f} ({took:.0f} s)", flush=True)


def write(path: Path, results: dict[str, Any]) -> None:
    """Write the results, and the page made of them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(text(results), encoding="utf-8")


if __name__ == "__main__":
    main()
