"""The arm that spends on random rows what `deft` spends on scoring and training."""

from pathlib import Path
from typing import Any

import pytest

from deft.errors import InvalidInput
from deft.planning.equal_cost import settled
from deft.planning.plan import Planner
from deft.planning.source import DataSource, open_model
from deft.specs import PipelineSpec, Selection
from tests.deft.planning.test_plan import lists, model_folder  # noqa: F401 - the fixtures
from tests.models import write_model_files

ARMS = ["deft", "random", "random_equal_cost"]


def pipeline(**fields: Any) -> PipelineSpec:
    fields = {"arms": ARMS, "random_draws": 1, "selection": Selection(count=4), "drift": None, **fields}
    return PipelineSpec(dataset="ds_1", model="tiny", **fields)


def planner(folder: Path, data: Path, spec: PipelineSpec) -> Planner:
    source = open_model("tiny", folder)
    return Planner(source, {"ds_1": DataSource(data, source.tokenizer, spec.tokens)})


@pytest.mark.parametrize("fields", [{}, {"optimisation": {"epochs": 3}}, {"method": {"type": "pro"}}, {"lora": None}])
def test_it_costs_what_deft_costs_within_one_row(
    model_folder: Path,  # noqa: F811
    lists: Path,  # noqa: F811
    fields: dict[str, Any],
) -> None:
    spec = PipelineSpec.model_validate({**pipeline().model_dump(mode="json"), "deft": {"omega": 0.1}, **fields})
    found = settled(spec, planner(model_folder, lists, spec))
    assert found.equal_cost_count is not None
    planned = planner(model_folder, lists, found)
    planned.plan(found)
    work = {cost.work.name: cost.work for cost in planned.costs}
    own, more = work["score"].flops + work["train:deft"].flops, work["train:random_equal_cost"]
    assert more.rows == found.equal_cost_count > 4
    assert own - more.flops == pytest.approx(0.5 * more.flops / more.rows, abs=0.6 * more.flops / more.rows)
    assert settled(found, planner(model_folder, lists, found)) == found


def test_there_are_no_more_rows_than_were_scored(model_folder: Path, lists: Path) -> None:  # noqa: F811
    spec = pipeline(selection=Selection(count=48))
    source = planner(model_folder, lists, spec)
    scored = planner(model_folder, lists, spec)
    scored.plan(pipeline(selection=Selection(count=48), arms=["deft"]))
    assert settled(spec, source).equal_cost_count == scored.facts.scored.rows  # type: ignore[union-attr]


def test_without_that_arm_or_with_a_number_nothing_changes(model_folder: Path, lists: Path) -> None:  # noqa: F811
    for spec in (pipeline(arms=["deft"]), pipeline(equal_cost_count=7)):
        assert settled(spec, planner(model_folder, lists, spec)) is spec


def test_a_cost_that_is_not_known_is_said(tmp_path: Path, lists: Path) -> None:  # noqa: F811
    folder = write_model_files(tmp_path / "model", {"model_type": "new_family"})
    spec = pipeline()
    with pytest.raises(InvalidInput) as refusal:
        settled(spec, planner(folder, lists, spec))
    (finding,) = refusal.value.findings
    assert (finding.code, finding.pointer) == ("cost_not_known", "/arms")
    assert "equal_cost_count" in finding.fix


def test_the_number_is_of_an_arm_that_is_asked_for() -> None:
    with pytest.raises(ValueError, match="random_equal_cost, which is not asked for"):
        pipeline(arms=["deft"], equal_cost_count=7)
