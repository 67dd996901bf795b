"""The child jobs of a pipeline with an SFT stage, run one after the other on a tiny model, have that stage as start."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from deft import operations
from deft.arms import submit_children
from deft.specs import OperationSpec, PipelineSpec, references
from deft.starts import adapter_hash
from tests.deft import small_runs

SPEC = {
    "dataset": "data",
    "model": "m",
    "arms": ["deft"],
    "split": {"train": 0.7, "reward_model": 0.0, "evaluation": 0.3},
    "selection": {"keep": 0.5},
    "tokens": small_runs.TOKENS,
    "lora": {"r": 2},
    "drift": None,
    "sft": {"optimisation": {"learning_rate": 1e-2, "batch_size": 4}, "drift": None},
    "optimisation": {"learning_rate": 1e-3, "batch_size": 4},
    "evaluation": {"metrics": ["preference_accuracy"], "prompts": 0, "bootstrap": 100},
}


def run_all(spec: PipelineSpec, folders: dict[str, Path], root: Path) -> dict[str, dict[str, Any]]:
    """Run every child job of *spec* in its order, on the *folders* by id; return their summaries by name."""
    summaries: dict[str, dict[str, Any]] = {}

    def submit(name: str, child: OperationSpec) -> str:
        out = root / name.replace(":", ".")
        out.mkdir()
        inputs: Mapping[str, Path] = {each.name: folders[each.id] for each in references(child)}
        if hasattr(child, "model") and child.kind != "check_data":
            inputs = {**inputs, "model": folders["m"]}
        report = small_runs.Record()
        summaries[name] = operations.run(child, inputs=inputs, out=out, checkpoints=None, report=report)
        folders[f"job_{out.name}"] = out
        return f"job_{out.name}"

    submit_children(spec, submit)
    return summaries


def test_a_pipeline_with_an_sft_stage_scores_calibrates_and_trains_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deft.training.run.check_in_fresh_process", lambda *_: 0.0)  # it costs seconds
    made = small_runs.make_inputs(tmp_path / "inputs", rows=24)
    folders = {"data": made["data"], "m": made["model"]}
    (tmp_path / "jobs").mkdir()
    found = run_all(PipelineSpec.model_validate(SPEC), folders, tmp_path / "jobs")

    own = adapter_hash(folders["job_sft"])
    assert found["sft"]["method"] == "sft"
    assert found["score"]["adapter_hash"] == own
    assert found["score"]["rows_scored"] == found["sft"]["examples"]
    assert found["train:deft"]["scored_under"]["adapter_hash"] == own
    assert found["train:deft"]["warnings"] == []
    assert found["train:deft"]["omega"] == found["measure_omega"]["omega"]
    assert found["evaluate"]["systems"] == ["base", "start", "deft"]
    told = json.loads((folders["job_evaluate"] / "metrics.json").read_text())
    assert {row["arm"] for row in told} >= {"start", "deft"}
