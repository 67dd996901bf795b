"""Which rows and which distribution a training takes, and that its plan depends on nothing else."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from deft.training.preparation import Prepared, prepare
from tests.deft import small_runs


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch.set_num_threads(1)
    return small_runs.make_inputs(tmp_path_factory.mktemp("inputs"), rows=20)


def prepared(inputs: dict[str, Path], **changes: Any) -> Prepared:
    spec = small_runs.spec_of(**changes)
    return prepare(spec, inputs=inputs, report=small_runs.Record(), needs_distribution=True)


def test_of_a_dataset_the_rows_asked_for_are_taken(inputs: dict[str, Path]) -> None:
    assert prepared(inputs).rows == list(range(20))
    train = prepared(inputs, rows={"split": "train"}).rows
    assert 0 < len(train) < 20
    sample = prepared(inputs, rows={"split": "train", "sample": 3}).rows
    assert len(sample) == 3
    assert set(sample) < set(train)


def test_a_subset_is_taken_whole_with_its_own_distribution(inputs: dict[str, Path], tmp_path: Path) -> None:
    subset = tmp_path / "subset"
    shutil.copytree(inputs["data"], subset)
    shutil.copy(inputs["scoring"] / "distribution.safetensors", subset)
    (subset / "subset.json").write_text(json.dumps({}))
    folders = {"model": inputs["model"], "data": subset}
    assert prepared(folders, rows={"split": "train", "sample": 3}).rows == list(range(20))
    assert prepared(folders).objective.direction is not None


def test_arms_that_differ_in_the_term_only_share_plan_data_and_start(inputs: dict[str, Path]) -> None:
    one, other = prepared(inputs, deft={"omega": 1.0}), prepared(inputs, deft=None)
    assert one.steps == other.steps
    assert one.data_hash == other.data_hash
    weights = [dict(each.model.named_parameters()) for each in (one, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert prepared(inputs, optimisation={"seed": 1}).steps != one.steps
    assert prepared(inputs, tokens={"max_prompt_tokens": 5, "max_total_tokens": 20}).data_hash != one.data_hash
