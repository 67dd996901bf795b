"""The operation `train`: what it writes, what it refuses, and that the plain objective is untouched by the term."""

import json
import platform
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from deft import distribution as distributions
from deft.adapters.__main__ import main as check_adapter
from deft.errors import ArtifactCorrupt, InvalidInput, ModelNotUsable, TrainingDiverged
from deft.folders import sha256_of
from tests.deft import small_runs


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch.set_num_threads(1)
    return small_runs.make_inputs(tmp_path_factory.mktemp("inputs"))


def without(inputs: dict[str, Path], name: str) -> dict[str, Path]:
    return {key: folder for key, folder in inputs.items() if key != name}


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("method", ["dpo", "sft"])
def test_omega_zero_and_no_term_give_the_same_bits_and_a_term_does_not(
    method: str, inputs: dict[str, Path], tmp_path: Path
) -> None:
    def weights(name: str, term: Any, folders: dict[str, Path]) -> str:
        spec = small_runs.spec_of(deft=term, method={"type": method}, lora={"dropout": 0.1})
        return str(small_runs.train(spec, folders, tmp_path / name)["adapter_sha256"])

    plain = weights("plain", None, without(inputs, "scoring"))
    assert weights("zero", {"omega": 0.0}, inputs) == plain
    assert weights("watched", None, inputs) == plain, "logging R_d changed the run"
    assert weights("term", {"omega": 0.5}, inputs) != plain


def test_the_term_raises_r_d_of_the_chosen(inputs: dict[str, Path], tmp_path: Path) -> None:
    def last_r_d(omega: float) -> float:
        report = small_runs.Record()
        spec = small_runs.spec_of(deft={"omega": omega}, optimisation={"epochs": 3})
        small_runs.train(spec, inputs, tmp_path / str(omega), report=report)
        return report.steps[max(report.steps)]["deft/r_d"]

    assert last_r_d(100.0) > last_r_d(0.0)


@pytest.mark.parametrize("method", ["dpo", "sft"])
def test_the_loss_with_the_term_does_not_depend_on_the_micro_batches(
    method: str, inputs: dict[str, Path], tmp_path: Path
) -> None:
    def losses(size: int) -> list[float]:
        report = small_runs.Record()
        plan = {"micro_batch_size": size, "learning_rate": 1e-3}
        spec = small_runs.spec_of(deft={"omega": 50.0}, method={"type": method}, optimisation=plan)
        small_runs.train(spec, inputs, tmp_path / f"{method}{size}", report=report)
        return [values["loss"] for values in report.steps.values()]

    one_by_one = losses(1)
    assert losses(4) == pytest.approx(one_by_one, abs=1e-4)
    assert losses(3) == pytest.approx(one_by_one, abs=1e-4)


def test_a_base_with_dropout_starts_at_ln_2(inputs: dict[str, Path], tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    from tests.models import byte_tokenizer

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=259, n_embd=32, n_layer=2, n_head=2, n_positions=256, resid_pdrop=0.5)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    byte_tokenizer().save_pretrained(tmp_path / "gpt2")
    report = small_runs.Record()
    folders = {**without(inputs, "scoring"), "model": tmp_path / "gpt2"}
    small_runs.train(small_runs.spec_of(deft=None), folders, tmp_path / "out", report=report)

    assert report.steps[1]["loss"] == pytest.approx(0.6931472, abs=1e-5)


def test_metrics_have_trls_names_at_every_step(inputs: dict[str, Path], tmp_path: Path) -> None:
    report = small_runs.Record()
    small_runs.train(small_runs.spec_of(), inputs, tmp_path / "out", report=report)
    assert sorted(report.steps) == list(range(1, 9))
    names = ["loss", "grad_norm", "learning_rate", "epoch", "num_tokens"]
    names += [f"{what}/{which}" for what in ("logps", "logits") for which in ("chosen", "rejected")]
    names += [f"rewards/{name}" for name in ("chosen", "rejected", "accuracies", "margins")]
    names += ["deft/base_loss", "deft/r_d", "deft/omega"]
    probe = [f"deft/probe_{name}" for name in ("kl", "entropy", "length", "r_d")]
    assert all(sorted(report.steps[step]) == sorted(names) for step in range(1, 8))
    assert sorted(report.steps[8]) == sorted(names + probe), "the last step is looked at"
    assert sorted(report.at_start) == sorted(probe)
    assert report.steps[1]["rewards/margins"] == 0
    assert report.phases == ["load", "reference", "train", "save", "check"]


def test_a_start_adapter_is_part_of_the_reference(inputs: dict[str, Path], tmp_path: Path) -> None:
    sft = small_runs.spec_of(method={"type": "sft"}, deft=None)
    small_runs.train(sft, inputs, tmp_path / "sft")
    report = small_runs.Record()
    spec = small_runs.spec_of(adapter="ad_1", deft=None)
    started = {**inputs, "adapter": tmp_path / "sft"}
    small_runs.train(spec, started, tmp_path / "dpo", report=report)
    assert report.steps[1]["loss"] == pytest.approx(0.6931472, abs=1e-7)
    fresh = small_runs.Record()
    small_runs.train(small_runs.spec_of(deft=None), inputs, tmp_path / "fresh", report=fresh)
    assert report.steps[1]["logps/chosen"] > fresh.steps[1]["logps/chosen"], "the start adapter was not used"


def _words(path: Path) -> set[bytes]:
    """Return the words of the texts in a file, which may be binary: a short name stands in random bytes by chance."""
    return {word for text in re.findall(rb"[ -~]{12,}", path.read_bytes()) for word in re.findall(rb"[\w-]+", text)}


def test_the_adapter_folder_is_portable_and_reloads_in_a_fresh_process(
    inputs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from deft.training.run import run_train

    model = tmp_path / "model"
    model.mkdir()
    for file in inputs["model"].iterdir():
        (model / file.name).write_bytes(file.read_bytes())
    facts = {"name": "someone/Llama-3-Tiny", "revision": "abc", "license": "llama3"}
    (model / "deft-model.json").write_text(json.dumps(facts))
    out = tmp_path / "out"
    out.mkdir()
    folders = {**inputs, "model": model}
    summary = run_train(small_runs.spec_of(), inputs=folders, out=out, report=small_runs.Record())
    assert summary["probe_difference"] <= 1e-5

    config = json.loads((out / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "someone/Llama-3-Tiny"
    assert config["revision"] == "abc"
    assert config["target_modules"] == sorted(
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    )
    assert (config["bias"], config["modules_to_save"], config["use_dora"]) == ("none", None, False)
    record = json.loads((out / "training.json").read_text())
    assert record["base"]["weights_hash"] == summary["base_weights_hash"]
    assert record["spec"]["deft"]["omega"] == 0.5
    card = (out / "README.md").read_text()
    assert "# Llama 3 " in card
    assert "Built with Meta Llama 3" in card
    assert "Meta Llama 3 Community License" in (out / "NOTICE").read_text()
    assert record["vllm"] == {"loads": True, "because": [], "max_lora_rank": 8}
    assert "Loads in vLLM: yes" in card
    assert "--max-lora-rank 8 " in card
    assert "share of pairs with a positive margin" in card
    for path in files_below(out):
        assert str(tmp_path).encode() not in path.read_bytes(), path.name
        assert platform.node().encode() not in _words(path), path.name
    sums = dict(reversed(line.split("  ")) for line in (out / "SHA256SUMS").read_text().splitlines())  # type: ignore[misc]
    files = {path.relative_to(out).as_posix(): path for path in files_below(out)}
    assert sums == {name: sha256_of(path) for name, path in files.items() if name != "SHA256SUMS"}
    assert {
        "tensorboard/events.out.tfevents.deft",
        "tokenizer.json",
        "chat_template.jinja",
        "probe.safetensors",
        "adapter_model.safetensors",
    } <= sums.keys()

    assert check_adapter([str(out), "--base", str(model)]) == 0
    assert "reproduced, max abs difference: 0" in capsys.readouterr().out
    from safetensors.torch import load_file, save_file

    weights = load_file(out / "adapter_model.safetensors")
    first = next(name for name in weights if "lora_B" in name)
    save_file({**weights, first: weights[first] + 0.01}, out / "adapter_model.safetensors", metadata={"format": "pt"})
    assert check_adapter([str(out), "--base", str(model)]) == 1
    from deft.adapters.folder import check_in_fresh_process

    with pytest.raises(ArtifactCorrupt, match="fresh process"):
        check_in_fresh_process(out, model)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_merged_model_stands_alone_and_gives_the_adapters_logits(
    precision: str, inputs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    spec = small_runs.spec_of(merge=True, optimisation={"precision": precision, "epochs": 1})
    summary = small_runs.train(spec, inputs, out)
    assert summary["merged_probe_difference"] == 0.0, "the check was not asked for the merged model"
    names = {path.name for path in files_below(out / "merged")}
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja", "README.md"} <= names
    assert not any("adapter" in name for name in names)
    assert all(f"merged/{name}" in (out / "SHA256SUMS").read_text() for name in names)
    assert all(str(tmp_path).encode() not in path.read_bytes() for path in files_below(out / "merged"))
    assert check_adapter([str(out), "--merged"]) == 0
    assert check_adapter([str(out), "--base", str(inputs["model"])]) == 0
    other = tmp_path / "other"
    other.mkdir()
    for name in ("training.json", "probe.safetensors"):
        (other / name).write_bytes((out / name).read_bytes())
    (other / "merged").symlink_to(inputs["model"])
    assert check_adapter([str(other), "--merged"]) == 1, "the base alone passed as the merged model"
    assert capsys.readouterr().out.count("NOT reproduced") == 1


def test_a_run_that_blows_up_names_the_step_and_what_to_change(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deft.training.objective import Objective

    parts, seen = Objective.parts, 0

    def explode(self: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal seen
        seen += 1
        found = parts(self, *arguments, **options)
        return type(found)(found.base * float("nan") if seen > 5 else found.base, found.r_d, found.facts)

    monkeypatch.setattr(Objective, "parts", explode)
    with pytest.raises(TrainingDiverged, match=r"step 2 is nan: lower optimisation\.learning_rate"):
        small_runs.train(small_runs.spec_of(), inputs, tmp_path / "out")


def test_an_adapter_that_does_not_learn_ends_after_fifty_steps(inputs: dict[str, Path], tmp_path: Path) -> None:
    report = small_runs.Record()
    plan = {"learning_rate": 1e-30, "batch_size": 1, "epochs": 5}
    with pytest.raises(TrainingDiverged, match="margin between chosen and rejected was 0"):
        small_runs.train(small_runs.spec_of(optimisation=plan), inputs, tmp_path / "out", report=report)
    assert max(report.steps) == 49


def test_a_term_without_a_distribution_is_refused_with_the_fix(inputs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="name a scoring") as caught:
        small_runs.train(small_runs.spec_of(), without(inputs, "scoring"), tmp_path / "out")
    assert caught.value.findings[0].pointer == "/scoring"


def test_a_distribution_of_another_tokenizer_or_vocabulary_is_refused(inputs: dict[str, Path], tmp_path: Path) -> None:
    good = distributions.load(inputs["scoring"] / "distribution.safetensors")
    folder = tmp_path / "scoring"
    folder.mkdir()
    other = distributions.Distribution(good.counts, good.q_diff, {"tokenizer_sha256": "0" * 64})
    distributions.save(folder / "distribution.safetensors", other)
    with pytest.raises(InvalidInput, match="tokenizer 000000000000"):
        small_runs.train(small_runs.spec_of(), {**inputs, "scoring": folder}, tmp_path / "one")
    counts = distributions.Counts(good.counts.chosen[:200], good.counts.rejected[:200], good.counts.rows)
    short = distributions.Distribution(counts, distributions.difference(counts), good.facts)
    distributions.save(folder / "distribution.safetensors", short)
    with pytest.raises(ModelNotUsable, match="200 tokens"):
        small_runs.train(small_runs.spec_of(), {**inputs, "scoring": folder}, tmp_path / "two")


@pytest.mark.parametrize("change", ["tokenizer", "vocabulary"])
def test_without_the_term_a_distribution_that_does_not_fit_is_left_out(
    change: str, inputs: dict[str, Path], tmp_path: Path
) -> None:
    found = distributions.load(inputs["scoring"] / "distribution.safetensors")
    if change == "tokenizer":
        found = replace(found, facts={"tokenizer_sha256": "0" * 64})
    else:
        counts = distributions.Counts(found.counts.chosen[:200], found.counts.rejected[:200], found.counts.rows)
        found = distributions.Distribution(counts, distributions.difference(counts), found.facts)
    (tmp_path / "scoring").mkdir()
    distributions.save(tmp_path / "scoring" / "distribution.safetensors", found)
    told = {}
    for name, folder in (("fitting", inputs["scoring"]), ("not", tmp_path / "scoring")):
        report = small_runs.Record()
        spec = small_runs.spec_of(deft=None, optimisation={"epochs": 1})
        small_runs.train(spec, {**inputs, "scoring": folder}, tmp_path / name, report=report)
        told[name] = {metric for metric in report.steps[1] if metric.startswith("deft/")}
    assert told["fitting"] > told["not"]


@pytest.mark.parametrize("names", [["q_proj", "query"], ["lm_head"]])
def test_unknown_target_modules_are_refused_with_the_models_own(
    names: list[str], inputs: dict[str, Path], tmp_path: Path
) -> None:
    spec = small_runs.spec_of(lora={"target_modules": names})
    with pytest.raises(InvalidInput, match="down_proj, gate_proj, k_proj"):
        small_runs.train(spec, inputs, tmp_path / "out")


def test_an_adapter_of_another_base_is_refused(inputs: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "training.json").write_text(json.dumps({"base": {"weights_hash": "f" * 64}}))
    spec = small_runs.spec_of(adapter="ad_1")
    with pytest.raises(InvalidInput, match="trained on this model"):
        small_runs.train(spec, {**inputs, "adapter": tmp_path}, tmp_path / "out")


def test_running_out_of_memory_says_which_settings_help(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deft import operations
    from deft.errors import OutOfMemory
    from deft.training.objective import Objective

    def allocate(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Objective, "parts", allocate)
    report = small_runs.Record()
    (tmp_path / "out").mkdir()
    with pytest.raises(
        OutOfMemory,
        match=r"change optimisation.micro_batch_size, then optimisation.gradient_checkpointing, then",
    ) as raised:
        operations.run(
            small_runs.spec_of(), inputs=inputs, out=tmp_path / "out", checkpoints=tmp_path / "state", report=report
        )
    assert [(finding.pointer, finding.found) for finding in raised.value.findings] == [
        ("/optimisation/micro_batch_size", "decided by memory"),
        ("/optimisation/gradient_checkpointing", "auto"),
        ("/tokens/max_total_tokens", "96"),
        ("/optimisation/precision", "auto"),
        ("/optimisation/quantisation", "none"),
        ("/lora/r", "4"),
    ]
    assert report.notes == ["out of memory in step 1: once again with half the micro-batch"]


@pytest.mark.parametrize("place", ["omega", "reference", "step 3"])
def test_one_retry_with_half_the_micro_batch_gives_the_same_adapter(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    from safetensors.torch import load_file

    from deft.training.objective import Objective

    spec = small_runs.spec_of(
        deft={"omega": "auto"}, optimisation={"micro_batch_size": 4, "epochs": 1, "learning_rate": 1e-3}
    )
    small_runs.train(spec, inputs, tmp_path / "straight")
    report, pack = small_runs.Record(), Objective.pack
    sizes: list[int] = []

    def small_device(self: Objective, indices: Any, model: Any) -> Any:
        is_here = report.phases[-1] == {"omega": "measure_omega", "reference": "reference"}.get(place, "train")
        if is_here and len(indices) > 2 and (place != "step 3" or max(report.steps, default=0) == 2):
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.append(len(indices))
        return pack(self, indices, model)

    monkeypatch.setattr(Objective, "pack", small_device)
    summary = small_runs.train(spec, inputs, tmp_path / "retried", report=report)
    assert report.notes == [f"out of memory in {place}: once again with half the micro-batch"]
    assert summary["micro_batches_halved_in"] == place
    assert max(sizes[-2:]) <= 2
    one, other = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("straight", "retried"))
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, atol=2e-5, rtol=1e-3)
