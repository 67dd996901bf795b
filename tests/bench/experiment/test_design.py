"""The runs are those that the plan registers."""

from pathlib import Path

from bench.experiment import design
from bench.experiment.design import CELLS, FAMILY, TUNED, Run, all_runs, chosen, runs_of

PLAN = (Path(__file__).resolve().parents[3] / "docs" / "experiments" / "PLAN.md").read_text(encoding="utf-8")
RATES = {cell.name: design.LEARNING_RATES[place % 3] for place, cell in enumerate(TUNED)}


def test_there_are_as_many_runs_as_the_plan_says_and_at_most_40() -> None:
    runs = all_runs(RATES)
    assert len(runs) == len(set(runs)) == 34 <= 40
    assert f"there are {len(runs)} trainings, at most 40" in PLAN.replace("\n", " ")


def test_the_plan_names_every_cell_every_comparison_and_the_sizes() -> None:
    assert all(f"`{cell.name}`" in PLAN for cell in CELLS)
    assert all(f"`{arm}` - `{against}`" in PLAN for arm, against in FAMILY)
    sizes = (design.TRAIN_ROWS, design.DEVELOPMENT_ROWS, design.TEST_ROWS)
    assert "{} rows to train, {} for development, {} to test".format(*sizes) in PLAN.replace("\n", " ")
    assert f"of at most {design.LONGEST_ROW:,} characters" in PLAN.replace("\n", " ")


def test_three_seeds_on_the_two_by_two_and_on_both_ends() -> None:
    seeds = {cell.name: [run.seed for run in runs_of(cell, RATES)] for cell in CELLS}
    repeated = {"deft", "no_reward_term", "random_with_term", "random", "opposite"}
    assert {name for name, own in seeds.items() if own == [0, 1, 2]} == repeated
    assert all(own == [0] for name, own in seeds.items() if name not in repeated)


def test_each_cell_differs_from_deft_or_from_no_reward_term_in_one_thing() -> None:
    cells = {cell.name: cell for cell in CELLS}
    for cell in CELLS:
        apart = [
            sum(getattr(cell, field) != getattr(cells[name], field) for field in ("end", "omega", "keep"))
            for name in ("deft", "no_reward_term")
        ]
        assert min(apart) <= 1, cell


def test_the_chosen_run_of_a_tuned_cell_is_one_that_was_tuned() -> None:
    tuned = set(design.tuning())
    assert all(runs_of(cell, RATES)[0] in tuned for cell in TUNED)


def test_the_most_accurate_rate_without_heavy_drift_is_chosen() -> None:
    cell = TUNED[0]
    scores = {Run(cell, rate, 0): (0.6, -0.1) for rate in design.LEARNING_RATES}
    assert chosen(scores | _others(cell))[cell.name] == 1e-4
    scores[Run(cell, 3e-4, 0)] = (0.65, -0.2)
    scores[Run(cell, 1e-3, 0)] = (0.90, -3.0)
    assert chosen(scores | _others(cell))[cell.name] == 3e-4
    drifting = dict.fromkeys(scores, (0.5, -9.0))
    assert chosen(drifting | _others(cell))[cell.name] == 1e-4


def _others(cell: design.Cell) -> dict[Run, tuple[float, float]]:
    return {Run(other, rate, 0): (0.5, 0.0) for other in TUNED if other != cell for rate in design.LEARNING_RATES}
