"""Gradient checkpointing changes no bit of a run, is on where it is asked for or needed, and is refused elsewhere."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from deft.errors import InvalidInput
from deft.folders import sha256_of
from deft.planning import memory
from deft.specs import Lora, Optimisation
from deft.training import recomputation
from deft.training.omega import measure_omega
from deft.training.preparation import prepare
from deft.training.recomputation import is_wanted, needed_bytes, recompute_where_needed, recomputes
from tests.deft import small_runs

ON: dict[str, Any] = {"gradient_checkpointing": "on"}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return small_runs.make_inputs(tmp_path_factory.mktemp("inputs"))


def adapter_hash(out: Path) -> str:
    return sha256_of(out / "adapter_model.safetensors")


@pytest.mark.parametrize("method", ["dpo", "sft"])  # the prompt shared by two responses in a row; rows of their own
def test_a_run_with_it_has_the_bits_of_one_without(method: str, inputs: dict[str, Path], tmp_path: Path) -> None:
    common: dict[str, Any] = {"method": {"type": method}, "lora": {"dropout": 0.2}, "drift": None}
    plain = small_runs.train(small_runs.spec_of(**common, optimisation={"epochs": 1}), inputs, tmp_path / "off")
    spec = small_runs.spec_of(**common, optimisation={"epochs": 1, **ON})
    found = small_runs.train(spec, inputs, tmp_path / "on", tmp_path / "checkpoints")
    assert (plain["gradient_checkpointing"], found["gradient_checkpointing"]) == (False, True)
    assert found["metrics"] == plain["metrics"]
    assert adapter_hash(tmp_path / "on") == adapter_hash(tmp_path / "off")
    shutil.rmtree(tmp_path / "checkpoints" / "step-000004")
    small_runs.train(spec, inputs, tmp_path / "resumed", tmp_path / "checkpoints")
    assert adapter_hash(tmp_path / "resumed") == adapter_hash(tmp_path / "off")


def test_layers_are_computed_again_for_a_gradient_and_only_then(inputs: dict[str, Path]) -> None:
    omegas, calls = [], []
    for asked in ("off", "on"):
        spec = small_runs.spec_of(deft={"omega": "auto"}, optimisation={"gradient_checkpointing": asked})
        prepared = prepare(spec, inputs=inputs, report=small_runs.Record(), needs_distribution=True)
        seen: list[int] = []
        for name, module in prepared.model.named_modules():
            if name.endswith(".mlp"):
                module.register_forward_pre_hook(lambda *_, seen=seen: seen.append(1))
        found = measure_omega(prepared.model, prepared.objective, prepared.steps[:1], report=small_runs.Record())
        omegas.append(found.omega)
        calls.append(len(seen))
        seen.clear()
        with torch.no_grad():
            prepared.objective.parts(prepared.model, [0], prepared.objective.size_of([0]), at_start=True)
        assert len(seen) == 2, "once a layer"
    assert omegas[0] == omegas[1]
    assert calls[1] == 3 * calls[0], "forward, and once more for each of the two gradients"


@pytest.mark.parametrize(
    ("asked", "needed", "usable", "is_on"),
    [
        ("auto", 9, 10, False),
        ("auto", 11, 10, True),
        ("auto", 11, None, False),  # a CPU
        ("auto", None, 10, False),  # a family that the planner does not know
        ("on", None, None, True),
        ("off", 11, 10, False),
    ],
)
def test_when_it_is_on(asked: str, needed: int | None, usable: int | None, is_on: bool) -> None:
    assert is_wanted(asked, needed, usable) is is_on


def test_the_need_is_that_of_the_largest_example_alone(inputs: dict[str, Path]) -> None:
    spec = small_runs.spec_of()
    prepared = prepare(spec, inputs=inputs, report=small_runs.Record(), needs_distribution=False)
    objective = prepared.objective
    tokens, row = objective.largest_example()
    assert tokens == row == max(objective.pack([i], prepared.model).tokens for i in range(len(objective.examples)))
    shape = recomputation.shape_of(prepared.model.get_base_model().config.to_dict())
    assert shape is not None
    planned = memory.Pass(tokens, row, tokens)
    expected = memory.training_memory(shape, spec.lora, "fp32", 4 * shape.parameters, planned).peak_bytes
    assert needed_bytes(prepared.model, objective, spec.lora) == expected
    assert not recomputes(prepared.model)


def test_a_model_without_layers_of_that_kind_is_refused_where_it_is_asked_for(
    inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepare(small_runs.spec_of(), inputs=inputs, report=small_runs.Record(), needs_distribution=False)
    monkeypatch.setattr(recomputation, "GradientCheckpointingLayer", nn.LSTM)
    with pytest.raises(InvalidInput, match="LlamaForCausalLM cannot be computed again") as caught:
        recompute_where_needed(prepared.model, prepared.objective, Lora(), Optimisation(**ON))
    assert caught.value.findings[0].pointer == "/optimisation/gradient_checkpointing"
