"""All weights tuned: the same objectives, guards and resume as with an adapter, and a whole model handed out."""

import json
import math
import multiprocessing
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor

from deft.adapters.folder import check_in_fresh_process, probe_difference
from deft.models.files import check_model_folder
from deft.models.loading import load_base, load_tokenizer
from deft.specs import MeasureOmegaSpec, PipelineSpec, TrainSpec
from deft.training.preparation import prepare
from tests.deft import small_runs
from tests.deft.training.test_ranks import LOSS_TOLERANCE, TOLERANCE, run_two

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["deft.training.run", "tests.deft.small_runs"])
FULL: dict[str, Any] = {"lora": None, "optimisation": {"learning_rate": 1e-3}}
MEASURED: dict[str, Any] = {
    "lora": None,
    "deft": {"omega": "auto"},
    "optimisation": {"learning_rate": 1e-3, "checkpoint_steps": 3, "gradient_checkpointing": "on"},
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return small_runs.make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def trained(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, small_runs.Record]:
    out, report = tmp_path_factory.mktemp("trained") / "out", small_runs.Record()
    summary = small_runs.train(small_runs.spec_of(**FULL), inputs, out, report=report)
    return out, summary, report


def test_every_weight_is_tuned_and_the_run_learns(inputs: dict[str, Path], trained: tuple[Any, ...]) -> None:
    out, summary, report = trained
    before, after = (load_file(folder / "model.safetensors") for folder in (inputs["model"], out))
    assert before.keys() == after.keys()
    assert [name for name in before if torch.equal(before[name], after[name])] == []
    assert report.steps[1]["deft/base_loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert report.at_start["deft/probe_kl"] == 0
    assert report.steps[8]["deft/probe_kl"] > 0.01
    assert report.steps[8]["rewards/margins"] > 1
    assert report.steps[8]["deft/r_d"] > report.steps[1]["deft/r_d"] + 0.5
    assert (summary["precision"], summary["processes"]) == ("fp32", 1)


def test_the_folder_is_a_model_that_loads_in_a_fresh_process(trained: tuple[Any, ...], tmp_path: Path) -> None:
    out, summary, _ = trained
    assert check_in_fresh_process(out, None) == 0
    check_model_folder(out)
    assert load_tokenizer(out).chat_template is not None
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md", "probe/probe.safetensors"} <= names
    assert not [name for name in names if "adapter" in name]
    record = json.loads((out / "training.json").read_text())
    assert record["weights_hash"] == summary["weights_hash"] != record["base"]["weights_hash"]
    assert record["spec"]["lora"] is None
    assert {line.split("  ")[1] for line in (out / "SHA256SUMS").read_text().splitlines()} == names - {"SHA256SUMS"}
    assert "| tuned | all weights |" in (out / "README.md").read_text()
    assert json.loads((out / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]

    spoilt = shutil.copytree(out, tmp_path / "spoilt")
    shutil.copy(spoilt / "model.safetensors", spoilt / "kept")
    weights = load_file(spoilt / "kept")
    weights["lm_head.weight"] = weights["lm_head.weight"] * 1.01
    save_file(weights, spoilt / "model.safetensors", {"format": "pt"})
    difference, allowed = probe_difference(spoilt, None)
    assert difference > allowed


@pytest.mark.parametrize("is_tied", [False, True])
def test_a_step_is_that_of_plain_autograd_over_all_logits(is_tied: bool, tmp_path: Path) -> None:
    """One SFT step with the term, by AdamW over whole logits in one pass: the same weights afterwards."""
    inputs = small_runs.make_inputs(tmp_path / "inputs", rows=4)
    config = json.loads((inputs["model"] / "config.json").read_text())
    if is_tied:
        (inputs["model"] / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
        weights = load_file(inputs["model"] / "model.safetensors")
        weights.pop("lm_head.weight")
        save_file(weights, inputs["model"] / "model.safetensors", {"format": "pt"})
    plan = {"epochs": 1, "batch_size": 4, "learning_rate": 1e-3, "max_grad_norm": 1e9, "weight_decay": 0.0}
    spec = small_runs.spec_of(lora=None, method={"type": "sft"}, optimisation=plan)
    small_runs.train(spec, inputs, tmp_path / "out")
    found = load_file(tmp_path / "out" / "model.safetensors")

    model = load_base(inputs["model"]).requires_grad_(True)
    loss = plain_loss(model, spec, inputs)
    loss.backward()
    torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0).step()
    assert ("lm_head.weight" in found) is not is_tied
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(
            found[name], parameter.detach(), atol=2e-5, rtol=0, msg=lambda m, n=name: f"{n}: {m}"
        )


def plain_loss(model: Any, spec: Any, inputs: dict[str, Path]) -> Tensor:
    """SFT less omega times R_d, example by example, by log_softmax over the vocabulary."""
    objective = prepare(spec, inputs=inputs, report=small_runs.Record(), needs_distribution=True).objective
    assert objective.trained is not None
    q_diff = torch.from_numpy(objective.trained.q_diff).float()
    losses, tokens, rewards = [], 0, []
    for example in objective.examples:
        own = example.response_ids[0]
        ids = [*own] if example.is_cut[0] else [*own, objective.end_id]
        logits = model(input_ids=torch.tensor([example.prompt_ids + ids])).logits[0]
        logps = logits[len(example.prompt_ids) - 1 : -1].log_softmax(-1)
        losses.append(-logps[torch.arange(len(ids)), ids].sum())
        rewards.append((logps[: len(own)] @ q_diff).mean())
        tokens += len(ids)
    return torch.stack(losses).sum() / tokens - spec.deft.omega * torch.stack(rewards).mean()


@pytest.mark.faults
def test_a_killed_run_ends_with_the_same_bits(
    inputs: dict[str, Path], trained: tuple[Any, ...], tmp_path: Path
) -> None:
    out, checkpoints = tmp_path / "out", tmp_path / "checkpoints"
    for event, count, status in (("step", 3, -signal.SIGKILL), ("never", 0, 0)):
        shutil.rmtree(out, ignore_errors=True)
        arguments = (FULL, inputs, out, checkpoints, event, count, 1)
        child = CONTEXT.Process(target=small_runs.killed_train, args=arguments)
        child.start()
        child.join(120)
        assert child.exitcode == status
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (out, trained[0]))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_half_precision_rounds_the_files_and_keeps_the_weights_in_float32(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    document = {**FULL, "optimisation": {"learning_rate": 1e-3, "precision": "bf16", "epochs": 1}}
    report = small_runs.Record()
    summary = small_runs.train(small_runs.spec_of(**document), inputs, tmp_path / "out", tmp_path / "steps", report)
    assert summary["precision"] == "bf16"
    assert report.at_start["deft/probe_kl"] == 0
    assert {tensor.dtype for tensor in load_file(tmp_path / "out" / "model.safetensors").values()} == {torch.bfloat16}
    newest = max((tmp_path / "steps").glob("step-*"))
    assert {tensor.dtype for tensor in load_file(newest / "weights.safetensors").values()} == {torch.float32}
    difference, allowed = probe_difference(tmp_path / "out", None)
    assert 0 < difference <= allowed


def test_two_processes_with_half_the_model_each_train_what_one_trains_and_go_on_where_they_stopped(
    tmp_path: Path,
) -> None:
    inputs, alone = small_runs.make_inputs(tmp_path / "inputs", row=small_runs.ranked_list), small_runs.Record()
    expected = small_runs.train(small_runs.spec_of(**MEASURED), inputs, tmp_path / "alone", report=alone)
    stopped = run_two(tmp_path / "all" / "first", MEASURED, inputs, after=3)
    assert [end[0] for *_, end in stopped] == ["Interrupted", "Interrupted"]
    shutil.copytree(tmp_path / "all" / "checkpoints", tmp_path / "checkpoints")
    (steps, _, summary), _ = run_two(tmp_path / "all" / "second", MEASURED, inputs)
    assert sorted(steps) == [5, 6, 7, 8]
    steps |= stopped[0][0]
    assert sorted(steps) == sorted(alone.steps) == list(range(1, 9))
    for step, values in alone.steps.items():
        assert steps[step] == pytest.approx(values, abs=TOLERANCE, rel=TOLERANCE), step
        assert steps[step]["loss"] == pytest.approx(values["loss"], abs=LOSS_TOLERANCE, rel=LOSS_TOLERANCE)
    assert summary["omega"] == pytest.approx(expected["omega"], rel=1e-5)
    assert (summary["omega_source"], summary["processes"]) == ("measured", 2)
    taken_over = small_runs.Record()
    spec = small_runs.spec_of(**MEASURED)
    small_runs.train(spec, inputs, tmp_path / "one", tmp_path / "checkpoints", taken_over)
    assert sorted(taken_over.steps) == [5, 6, 7, 8]
    theirs = load_file(tmp_path / "alone" / "model.safetensors")
    for folder in (tmp_path / "all" / "second" / "out0", tmp_path / "one"):
        ours = load_file(folder / "model.safetensors")
        assert ours.keys() == theirs.keys()
        for name, weight in theirs.items():
            torch.testing.assert_close(ours[name], weight, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("document", "place", "words"),
    [
        ({"merge": True}, "merge", "whole model already"),
        ({"optimisation": {"quantisation": "nf4"}}, "optimisation", "cannot be in four bits"),
        ({"adapter": "ad_1"}, "lora", "an adapter to start from"),
    ],
)
def test_what_contradicts_it_is_refused(document: dict[str, Any], place: str, words: str) -> None:
    with pytest.raises(ValidationError, match=words) as refused:
        TrainSpec.model_validate({"data": "ds_1", "model": "tiny", "lora": None, **document})
    assert refused.value.errors()[0]["loc"] == (place,)
    assert TrainSpec.model_validate({"data": "ds_1", "model": "tiny", **document}).lora is not None


def test_other_specs_take_it_too() -> None:
    assert PipelineSpec.model_validate({"dataset": "ds_1", "model": "tiny", "lora": None}).lora is None
    assert MeasureOmegaSpec.model_validate({"data": "ds_1", "model": "tiny", "lora": None}).lora is None
