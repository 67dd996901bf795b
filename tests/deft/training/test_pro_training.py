"""The operation `train` with PRO on ranked lists: no reference, the term, omega, resume, scores or ranks, weights."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from deft.errors import Interrupted, InvalidInput
from deft.specs import MeasureOmegaSpec
from deft.training import preparation
from deft.training.omega import run_measure_omega
from tests.deft import small_runs

PRO: dict[str, Any] = {"method": {"type": "pro"}, "lora": {"dropout": 0.1}}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch.set_num_threads(1)
    return small_runs.make_inputs(tmp_path_factory.mktemp("inputs"), row=small_runs.ranked_list)


def test_pro_needs_no_reference_and_logs_its_own_metrics(inputs: dict[str, Path], tmp_path: Path) -> None:
    report = small_runs.Record()
    summary = small_runs.train(small_runs.spec_of(**PRO), inputs, tmp_path / "out", report=report)
    assert report.phases == ["load", "train", "save", "check"]
    names = ["loss", "grad_norm", "learning_rate", "deft/r_d", "deft/omega", "logps/chosen", "logps/rejected"]
    names += ["logits/chosen", "logits/rejected", "epoch", "num_tokens"]
    own = ["deft/ranking_loss", "deft/sft_loss", "deft/base_loss"]
    rewards = [f"rewards/{name}" for name in ("chosen", "rejected", "accuracies", "margins")]
    assert all(sorted(report.steps[step]) == sorted(names + own + rewards) for step in range(1, 8))
    first = report.steps[1]
    parts = first["deft/ranking_loss"] + first["deft/sft_loss"] - first["deft/omega"] * first["deft/r_d"]
    assert first["loss"] == pytest.approx(parts, rel=1e-5)
    last = report.steps[max(report.steps)]
    assert last["loss"] < first["loss"]
    assert (summary["method"], summary["rewards"], summary["examples"], summary["layout"]) == (
        "pro",
        "scores",
        13,
        "shared",
    )
    assert summary["responses"] == sum(2 + number % 3 for number in range(13))
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| method | pro, SFT weight 0.05, rewards from scores |" in card


def test_omega_zero_and_no_term_give_the_same_bits_and_a_term_does_not(inputs: dict[str, Path], tmp_path: Path) -> None:
    def weights(name: str, term: Any) -> str:
        spec = small_runs.spec_of(**PRO, deft=term, optimisation={"epochs": 1})
        return str(small_runs.train(spec, inputs, tmp_path / name)["adapter_sha256"])

    plain = weights("plain", None)
    assert weights("zero", {"omega": 0.0}) == plain
    assert weights("term", {"omega": 0.5}) != plain


def test_omega_is_measured_for_pro_as_a_tenth_of_its_gradient(inputs: dict[str, Path], tmp_path: Path) -> None:
    spec = small_runs.spec_of(**PRO, deft={"omega": "auto"}, optimisation={"epochs": 1})
    summary = small_runs.train(spec, inputs, tmp_path / "out")
    found = summary["calibration"]
    assert summary["omega_source"] == "measured"
    assert summary["omega"] == pytest.approx(0.1 * found["base_gradient_norm"] / found["term_gradient_norm"])
    fields = {"data", "scoring", "model", "method", "lora", "optimisation", "tokens"}
    document = {name: value for name, value in spec.model_dump(mode="json").items() if name in fields}
    apart = MeasureOmegaSpec.model_validate({**document, "kind": "measure_omega"})
    (tmp_path / "omega").mkdir()
    measured = run_measure_omega(apart, inputs=inputs, out=tmp_path / "omega", report=small_runs.Record())
    assert measured["omega"] == summary["omega"]


def test_a_run_that_was_stopped_and_resumed_ends_with_the_same_bits(inputs: dict[str, Path], tmp_path: Path) -> None:
    class Stops(small_runs.Record):
        is_stopping = False

        def progress(self, done: int, total: int, unit: str) -> None:
            self.is_stopping = unit == "steps" and done >= 3

    spec, checkpoints = small_runs.spec_of(**PRO), tmp_path / "checkpoints"
    straight = small_runs.train(spec, inputs, tmp_path / "straight")
    with pytest.raises(Interrupted):
        small_runs.train(spec, inputs, tmp_path / "stopped", checkpoints, Stops())
    resumed = small_runs.Record()
    summary = small_runs.train(spec, inputs, tmp_path / "resumed", checkpoints, resumed)
    assert sorted(resumed.steps) == [4, 5, 6, 7, 8]
    assert summary["adapter_sha256"] == straight["adapter_sha256"]


def test_ranks_and_scores_train_differently_and_rows_without_scores_take_ranks(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(name: str, rewards: str, folders: dict[str, Path]) -> Any:
        spec = small_runs.spec_of(method={"type": "pro", "rewards": rewards}, optimisation={"epochs": 1})
        return small_runs.train(spec, folders, tmp_path / name)

    bare = small_runs.make_inputs(
        tmp_path / "bare", row=lambda n: {k: v for k, v in small_runs.ranked_list(n).items() if k != "scores"}
    )
    ranks = run("ranks", "ranks", inputs)
    assert run("scores", "scores", inputs)["adapter_sha256"] != ranks["adapter_sha256"]
    auto = run("auto", "auto", {**inputs, "data": bare["data"]})
    assert (auto["rewards"], auto["adapter_sha256"]) == ("ranks", ranks["adapter_sha256"])
    monkeypatch.setattr(preparation, "load_base", lambda *_, **__: pytest.fail("a model was loaded"))
    with pytest.raises(InvalidInput, match="13 of 13 rows without scores"):
        run("missing", "scores", bare)


def test_checkpoints_are_refused_under_other_scores(inputs: dict[str, Path], tmp_path: Path) -> None:
    def doubled(number: int) -> dict[str, Any]:
        row = small_runs.ranked_list(number)
        return {**row, "scores": [2 * score for score in row["scores"]]}

    spec, checkpoints = small_runs.spec_of(**PRO, optimisation={"epochs": 1}), tmp_path / "checkpoints"
    small_runs.train(spec, inputs, tmp_path / "first", checkpoints)
    other = small_runs.make_inputs(tmp_path / "other", row=doubled)["data"]
    with pytest.raises(InvalidInput, match="data differ"):
        small_runs.train(spec, {**inputs, "data": other}, tmp_path / "second", checkpoints)


def test_pairs_train_under_pro_and_lists_under_dpo(inputs: dict[str, Path], tmp_path: Path) -> None:
    pairs = small_runs.make_inputs(tmp_path / "pairs")
    once = {"epochs": 1}
    pro = small_runs.train(small_runs.spec_of(**PRO, optimisation=once), pairs, tmp_path / "pro")
    assert (pro["rewards"], pro["responses"]) == ("ranks", 26)
    report = small_runs.Record()
    spec = small_runs.spec_of(method={"type": "dpo"}, optimisation=once)
    assert small_runs.train(spec, inputs, tmp_path / "dpo", report=report)["responses"] == 26
    assert report.steps[1]["rewards/margins"] == 0


def test_row_weights_are_used_unless_they_are_switched_off(inputs: dict[str, Path], tmp_path: Path) -> None:
    def row(number: int) -> dict[str, Any]:
        return small_runs.ranked_list(number) | ({"weight": 5.0} if number < 3 else {})

    weighted = small_runs.make_inputs(tmp_path / "weighted", row=row)

    def run(name: str, folders: dict[str, Path], told: small_runs.Record, **plan: Any) -> Any:
        spec = small_runs.spec_of(**PRO, deft={"omega": 20.0}, drift=None, optimisation={"epochs": 1, **plan})
        return small_runs.train(spec, folders, tmp_path / name, report=told)

    report, folders = small_runs.Record(), {**inputs, "data": weighted["data"]}
    plain = run("plain", inputs, small_runs.Record())
    on, off = run("on", folders, report), run("off", folders, small_runs.Record(), row_weights=False)
    assert (plain["rows_with_weight"], on["rows_with_weight"], off["rows_with_weight"]) == (0, 3, 0)
    assert off["adapter_sha256"] == plain["adapter_sha256"] != on["adapter_sha256"]
    for told in report.steps.values():
        parts = told["deft/ranking_loss"] + told["deft/sft_loss"]
        assert told["deft/base_loss"] == pytest.approx(parts, rel=1e-5), "loss and metrics are weighed differently"
        with_term = told["deft/base_loss"] - told["deft/omega"] * told["deft/r_d"]
        assert told["loss"] == pytest.approx(with_term, rel=1e-5), "the term is weighed differently"
    assert on["trained_tokens"] == plain["trained_tokens"]
    record = json.loads((tmp_path / "off" / "training.json").read_text())
    assert record["spec"]["optimisation"]["row_weights"] is False
