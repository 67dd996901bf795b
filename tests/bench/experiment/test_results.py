"""From numbers of rows to the registered comparisons, on made-up runs with a known effect."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.experiment import design, results
from bench.experiment.design import Run
from deft.evaluation.comparison import VERDICT_METRIC, gather
from deft.evaluation.metrics import Measurement

ROWS = 120
RATES = {cell.name: 1e-4 if cell.name == "opposite" else 3e-4 for cell in design.TUNED}


def _evaluation(folder: Path, runs: list[Run], effects: dict[str, float]) -> Path:
    """pairs.parquet of runs whose margins are positive more often by *effects*."""
    generator = np.random.default_rng(0)
    lines = []
    for place, run in enumerate(runs):
        for row in range(ROWS):
            right = generator.random() < 0.5 + effects.get(run.cell.name, 0.0)
            numbers = {"margin": 1.0 if right else -1.0, "chosen_logp_change": -2.0, "chosen_tokens": 10}
            lines.append({"row": row, "prompt": row, "system": f"run-{place}", **numbers})
    lines += [{**lines[0], "system": "base", "margin": None}]
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(lines), folder / "pairs.parquet")
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    pq.write_table(pa.table({"source": ["a", "b", "c"] * (ROWS // 3)}), folder / "examples.parquet")
    return folder


@pytest.fixture
def numbers(tmp_path: Path, data: Path) -> pa.Table:
    runs = [Run(cell, 1e-4, seed) for cell in design.REPEATED for seed in design.SEEDS]
    folder = _evaluation(tmp_path / "test", runs, {"deft": 0.3, "no_reward_term": 0.3})
    return results.numbers_of(folder, runs, data)


def test_numbers_hold_cell_seed_source_and_margin_and_no_text(numbers: pa.Table) -> None:
    assert numbers.num_rows == 15 * ROWS
    columns = "cell learning_rate seed source row prompt margin chosen_logp_change chosen_tokens"
    assert numbers.column_names == columns.split()
    assert not any(pa.types.is_string(field.type) for field in numbers.schema if field.name not in ("cell", "source"))


def test_a_known_effect_of_the_selection_is_found_and_the_term_is_not_blamed(numbers: pa.Table) -> None:
    found = {(each["arm"], each["against"]): each for each in results.report(numbers, resamples=200)["comparisons"]}
    assert list(found) == list(design.FAMILY)
    assert found["no_reward_term", "random"]["verdict"] == "clear gain"
    assert found["deft", "no_reward_term"]["verdict"] == "within noise"
    assert found["deft", "random"]["difference"] == pytest.approx(0.3, abs=0.1)


def test_p_is_corrected_over_the_five_comparisons(numbers: pa.Table) -> None:
    found = results.report(numbers, resamples=200)["comparisons"]
    ordered = sorted(found, key=lambda each: each["p"])
    largest = 0.0
    for place, each in enumerate(ordered):
        largest = max(largest, min(1.0, each["p"] * (len(design.FAMILY) - place)))
        assert each["p_adjusted"] == pytest.approx(largest)
    assert any(each["p"] < 0.05 < each["p_adjusted"] or each["p"] < each["p_adjusted"] < 1 for each in found)


def test_a_p_below_its_level_beside_an_interval_that_holds_zero_is_within_noise() -> None:
    rows = np.array([2, 2, 2, 3, 2, 2, 2, 2, 3, 1], np.float64)
    right = {"deft": np.array([1, 2, 1, 3, 2, 1, 2, 0, 2, 1], np.float64), "random": rows / 2}
    few = [
        Measurement(VERDICT_METRIC, f"{arm}-0", arm, np.column_stack([own, rows]), 21, (0.0, 1.0))
        for arm, own in right.items()
    ]
    (found,) = results.comparisons(gather(few, resamples=1000, seed=0))
    assert found["p_adjusted"] < 0.05
    assert found["low"] < 0 < found["difference"]
    assert found["verdict"] == "within noise"


def _drifted(numbers: pa.Table, cell: str, seed: int) -> pa.Table:
    """The same with a fall of log p(chosen) of 5 nats a token in one run."""
    rows = numbers.to_pylist()
    for each in rows:
        if (each["cell"], each["seed"]) == (cell, seed):
            each["chosen_logp_change"] = -5.0 * each["chosen_tokens"]
    return pa.Table.from_pylist(rows, numbers.schema)


@pytest.mark.parametrize(("cell", "told"), [("deft", "not shown to help"), ("random", "helps")])
def test_a_gain_with_heavy_drift_is_not_one_that_deft_is_said_to_have(numbers: pa.Table, cell: str, told: str) -> None:
    found = results.report(_drifted(numbers, cell, 1), resamples=200)
    assert (found["comparisons"][0]["verdict"], found["comparisons"][0]["heavy_drift"]) == ("clear gain", [f"{cell}-1"])
    assert found["conclusions"]["DEFT"] == told
    assert results.report(numbers, resamples=200)["conclusions"]["DEFT"] == "helps"


def _comparison(arm: str, against: str, difference: float, verdict: str) -> dict[str, Any]:
    return {"arm": arm, "against": against, "difference": difference, "verdict": verdict, "heavy_drift": []}


@pytest.mark.parametrize(
    ("on_selected", "on_random", "told"),
    [
        ((0.1, "clear gain"), (0.02, "within noise"), "helps"),
        ((0.1, "clear gain"), (-0.02, "within noise"), "not shown"),
        ((0.02, "within noise"), (0.03, "within noise"), "not shown"),
        ((-0.02, "within noise"), (-0.2, "clear loss"), "harms"),
        ((0.0, "within noise"), (0.2, "clear gain"), "helps"),
    ],
)
def test_the_term_counts_where_one_comparison_is_clear_and_the_other_not_opposite(
    on_selected: tuple[float, str], on_random: tuple[float, str], told: str
) -> None:
    found = [_comparison(*sides, 0.0, "within noise") for sides in design.FAMILY]
    found[2], found[3] = _comparison(*design.FAMILY[2], *on_selected), _comparison(*design.FAMILY[3], *on_random)
    said = results.conclusions(found)
    assert said["the term"] == told
    assert (said["the selection"], said["the end"]) == ("not shown", "not shown to matter")


def test_every_source_has_its_own_table(numbers: pa.Table) -> None:
    found = results.report(numbers, resamples=100)
    assert list(found["sources"]) == ["a", "b", "c"]
    assert found["sources"]["a"]["table"][1]["cells"]["preference_accuracy"]["n"] == ROWS // 3
    described = found["sources"]["a"]["described"]
    assert [(each["arm"], each["against"]) for each in described] == list(design.FAMILY)
    assert not {"p", "verdict"} & described[0].keys()


def test_development_scores_are_accuracy_and_drift(tmp_path: Path, data: Path) -> None:
    run = Run(design.TUNED[0], 1e-4, 0)
    folder = _evaluation(tmp_path / "development", [run], {"deft": 0.5})
    numbers = results.numbers_of(folder, [run], data)
    assert results.development_scores(numbers, [run]) == {run: (1.0, pytest.approx(-0.2))}


def test_cells_of_one_seed_stand_beside_the_cell_that_they_change_one_thing_of(tmp_path: Path, data: Path) -> None:
    runs = [run for cell in design.CELLS for run in design.runs_of(cell, RATES)]
    folder = _evaluation(tmp_path / "all", runs, {"deft": 0.3, "keep_10": 0.3, "full": 0.2})
    numbers = results.numbers_of(folder, runs, data)
    described = {each["arm"]: each for each in results.report(numbers, resamples=100)["described"]}
    names = ["length", "keep_10", "keep_25", "keep_50", "keep_100", "omega_ten_times", "full"]
    assert list(described) == names
    assert [described[name]["against"] for name in names] == ["deft"] * 6 + ["no_reward_term"]
    assert described["full"]["difference"] == pytest.approx(0.2, abs=0.1)
    assert described["keep_25"]["high"] < 0


FACTS = {
    "omega": 1.5,
    "learning_rates": RATES,
    "development": [{"run": "deft-lr0.0001-seed0", "accuracy": 0.75, "change_per_token": -0.125}],
}


def test_the_page_names_the_runs_that_drifted_heavily_beside_the_verdict(tmp_path: Path, numbers: pa.Table) -> None:
    results.write(_drifted(_drifted(numbers, "deft", 1), "random", 0), tmp_path, FACTS)
    lines = (tmp_path / "README.md").read_text().splitlines()
    compared = {line.split(" | ")[0]: line for line in lines[lines.index("## The registered comparisons") :][:12]}
    assert compared["| `deft` - `random`"].endswith(" | clear gain; heavy drift: `deft-1`, `random-0` |")
    assert compared["| `deft` - `no_reward_term`"].endswith("; heavy drift: `deft-1` |")
    results.write(numbers, tmp_path, FACTS)
    assert "heavy drift" not in (tmp_path / "README.md").read_text()


def test_results_are_written_as_numbers_and_as_a_page(tmp_path: Path, numbers: pa.Table) -> None:
    found = results.write(numbers, tmp_path, FACTS)
    assert json.loads((tmp_path / "results.json").read_text()) == found
    page = (tmp_path / "README.md").read_text()
    assert "| `deft-lr0.0001-seed0` | 0.750 | -0.125 |" in page
    first = found["comparisons"][0]
    told = f"{first['difference']:+.3f} [{first['low']:+.3f}, {first['high']:+.3f}] | {first['p']:.3f}"
    assert f"| `deft` - `random` | {told}" in page
    assert f"| `opposite` | 3 | {RATES['opposite']:g} |" in page
    assert all(len(line) <= 120 for line in page.splitlines() if not line.startswith("|"))
