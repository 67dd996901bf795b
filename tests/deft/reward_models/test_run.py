"""The operation on tiny models, from a dataset folder to a reward model that is right about rows it has not seen."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from deft.data.datasets import import_files
from deft.errors import Interrupted, InvalidInput, ModelNotUsable
from deft.examples import Example
from deft.reports import Silent
from deft.reward_models import training
from deft.reward_models.model import load_reward_model
from deft.reward_models.rows import learnt_rows
from deft.reward_models.run import run_train_reward_model
from deft.specs import TrainRewardModelSpec
from tests.models import save_tiny_encoder, save_tiny_llama, swap_letters

PRIVATE_WORD = "xylophone"


class Listener(Silent):
    """Keeps what is told, and asks to stop once *stop_at* steps have been told."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.losses: dict[int, float] = {}
        self.kept: list[int] = []
        self.stop_at = stop_at

    def metrics(self, step: int, values: Any) -> None:
        self.losses[step] = values["loss"]

    def checkpoint(self, step: int, folder: Path) -> None:
        self.kept.append(step)

    @property
    def is_stopping(self) -> bool:  # type: ignore[override]
        return self.stop_at is not None and len(self.losses) >= self.stop_at


def _row(number: int) -> dict[str, Any]:
    """A row whose better responses say `yes`; lengths tell nothing."""
    prompt = f"{PRIVATE_WORD} {number}?"
    return {
        "prompt": prompt,
        "chosen": "yes yes",
        "rejected": ("no nono", "nono no")[number % 2],
        "source": "ab"[number % 2],
    }


def _ranked(number: int) -> dict[str, Any]:
    return {"prompt": f"question {number}?", "responses": ["yes yes", "yes no", "no no"], "source": None}


def _dataset(root: Path, row: Any, rows: int) -> Path:
    root.mkdir()
    (root / "rows.jsonl").write_text("".join(json.dumps(row(number)) + "\n" for number in range(rows)))
    out = root / "dataset"
    out.mkdir()
    import_files([root / "rows.jsonl"], out)
    return out


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("rewards")
    return {"model": save_tiny_encoder(root / "encoder"), "dataset": _dataset(root / "data", _row, 48)}


def _spec(**changes: Any) -> TrainRewardModelSpec:
    optimisation = {"learning_rate": 3e-3, "epochs": 3, "batch_size": 8, "checkpoint_steps": 2}
    document = {
        "dataset": "ds_1",
        "model": "tiny",
        "rows": {"split": "all"},
        "held_out": 0.25,
        "tokens": {"max_prompt_tokens": 32, "max_total_tokens": 64},
        "bootstrap": 200,
        **changes,
        "optimisation": {**optimisation, **changes.get("optimisation", {})},
    }
    return TrainRewardModelSpec.model_validate(document)


def _run(spec: TrainRewardModelSpec, inputs: dict[str, Path], out: Path, **more: Any) -> dict[str, Any]:
    out.mkdir(parents=True, exist_ok=True)
    report = more.pop("report", None) or Listener()
    return run_train_reward_model(spec, inputs=inputs, out=out, report=report, **more)


@pytest.fixture(scope="module")
def trained(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("out") / "rm"
    return out, _run(_spec(), inputs, out)


def test_it_is_right_about_rows_it_has_not_seen(trained: tuple[Path, dict[str, Any]]) -> None:
    _, summary = trained
    found = summary["held_out"]
    assert found["value"] == 1.0
    assert found["is_valid"]
    assert (found["rows"], summary["rows"], summary["steps"]) == (12, 36, 15)
    assert set(summary["held_out_by_source"]) == {"a", "b"}
    assert found["length_baseline"] == 0.5


def test_the_folder_is_one_that_anyone_can_load_and_check(trained: tuple[Path, dict[str, Any]]) -> None:
    out, summary = trained
    done = subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=out, check=False)
    assert done.returncode == 0
    assert not list(out.glob("*.bin")) + list(out.glob("*.pt"))
    assert json.loads((out / "config.json").read_text())["id2label"] == {"0": "reward"}
    record = json.loads((out / "reward_model.json").read_text())
    assert record["weights_hash"] == summary["weights_hash"]
    assert record["spec"]["rows"]["split"] == "all"
    card = (out / "README.md").read_text()
    assert "| all | 1.000 |" in card
    assert "length baseline" in card
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(out)
    assert model.config.num_labels == 1
    everything = b"".join(path.read_bytes() for path in out.rglob("*") if path.suffix != ".safetensors")
    assert PRIVATE_WORD.encode() not in everything


def test_rewards_do_not_depend_on_what_is_beside_them(trained: tuple[Path, dict[str, Any]]) -> None:
    judge = load_reward_model(trained[0])
    examples = [Example(f"q {n}?", ("yes yes", "no " * n, "")) for n in range(1, 5)]
    together, _ = judge.rewards(examples)
    for example, row in zip(examples, together, strict=True):
        for response, reward in zip(example.responses, row, strict=True):
            ((alone,),), _ = judge.rewards([Example(example.prompt, (response,))])
            assert alone == pytest.approx(reward, abs=1e-4)
    assert together[0][0] > together[0][1]


def test_held_out_prompts_are_apart_and_on_record(trained: tuple[Path, dict[str, Any]]) -> None:
    table = pq.read_table(trained[0] / "rows.parquet").to_pydict()
    rows = list(zip(table["split_point"], table["held_out"], strict=True))
    held_out, learnt_from = ({p for p, flag in rows if flag is wanted} for wanted in (True, False))
    assert not held_out & learnt_from
    learnt = learnt_rows(trained[0])
    assert learnt is not None
    assert (len(learnt.keys), learnt.points) == (36, learnt_from)
    assert learnt.responses is not None
    assert len(learnt.responses) == learnt.responses["key"].n_unique() == 72


def test_the_same_seed_gives_the_same_bits_and_another_one_others(
    inputs: dict[str, Path], trained: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    short = {"optimisation": {"epochs": 1}}
    first, again = (_run(_spec(**short), inputs, tmp_path / name)["weights_hash"] for name in "ab")
    other = _run(_spec(optimisation={"epochs": 1, "seed": 1}), inputs, tmp_path / "c")["weights_hash"]
    assert first == again != other


def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    inputs: dict[str, Path], trained: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    listener = Listener(stop_at=5)
    with pytest.raises(Interrupted):
        _run(_spec(), inputs, tmp_path / "a", report=listener, checkpoints=tmp_path / "kept")
    assert listener.kept[-1] == 5
    second = Listener()
    summary = _run(_spec(), inputs, tmp_path / "b", report=second, checkpoints=tmp_path / "kept")
    assert min(second.losses) == 6
    assert summary["weights_hash"] == trained[1]["weights_hash"]
    with pytest.raises(InvalidInput):
        _run(_spec(optimisation={"epochs": 1}), inputs, tmp_path / "c", checkpoints=tmp_path / "kept")


def test_a_run_that_was_stopped_does_not_go_on_under_another_tokenizer(inputs: dict[str, Path], tmp_path: Path) -> None:
    own = {**inputs, "model": shutil.copytree(inputs["model"], tmp_path / "model")}
    with pytest.raises(Interrupted):
        _run(_spec(), own, tmp_path / "a", report=Listener(stop_at=2), checkpoints=tmp_path / "kept")
    swap_letters(own["model"])
    with pytest.raises(InvalidInput, match="its tokenizer differ") as caught:
        _run(_spec(), own, tmp_path / "b", checkpoints=tmp_path / "kept")
    assert caught.value.error_code == "checkpoint_of_another_run"


def test_a_decoder_with_lora_learns_from_ranked_lists(tmp_path: Path) -> None:
    inputs = {"model": save_tiny_llama(tmp_path / "llama"), "dataset": _dataset(tmp_path / "data", _ranked, 24)}
    spec = _spec(lora={"r": 4, "alpha": 16.0}, optimisation={"learning_rate": 2e-2, "epochs": 3})
    summary = _run(spec, inputs, tmp_path / "out")
    assert summary["held_out"]["pairs"] == 3 * summary["held_out"]["rows"]
    assert summary["held_out"]["value"] > 0.6
    assert summary["layout"] == "sequence"
    assert not any("lora" in name for name in load_file(tmp_path / "out" / "model.safetensors"))
    before = load_file(inputs["model"] / "model.safetensors")
    after = load_file(tmp_path / "out" / "model.safetensors")
    assert not torch.equal(before["model.layers.0.mlp.up_proj.weight"], after["model.layers.0.mlp.up_proj.weight"])


def test_a_reward_model_can_go_on_from_another(
    inputs: dict[str, Path], trained: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    summary = _run(_spec(optimisation={"epochs": 1, "learning_rate": 1e-6}), {**inputs, "model": trained[0]}, tmp_path)
    assert summary["held_out"]["value"] == 1.0
    assert summary["base_weights_hash"] == trained[1]["weights_hash"]


def test_a_classifier_with_two_labels_gets_a_new_head(inputs: dict[str, Path], tmp_path: Path) -> None:
    two = save_tiny_encoder(tmp_path / "two", labels=2)
    options = {"epochs": 1, "learning_rate": 1e-9}
    _run(_spec(optimisation=options), {**inputs, "model": two}, tmp_path / "out")
    before, after = (load_file(folder / "model.safetensors") for folder in (two, tmp_path / "out"))
    assert (before["classifier.weight"].shape, after["classifier.weight"].shape) == ((2, 32), (1, 32))
    assert after["classifier.weight"].abs().max() > 0
    assert not any(torch.allclose(row, after["classifier.weight"][0], atol=1e-3) for row in before["classifier.weight"])
    torch.testing.assert_close(before["bert.pooler.dense.weight"], after["bert.pooler.dense.weight"], atol=1e-6, rtol=0)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["id2label"] == {"0": "reward"}


@pytest.mark.parametrize("setting", ["intermediate_size", "max_position_embeddings"])
def test_other_weights_of_another_shape_than_the_heads_are_refused(
    inputs: dict[str, Path], tmp_path: Path, setting: str
) -> None:
    two = save_tiny_encoder(tmp_path / "two", labels=2)
    config = json.loads((two / "config.json").read_text())
    (two / "config.json").write_text(json.dumps({**config, setting: config[setting] // 2}))
    with pytest.raises(ModelNotUsable, match="other shapes"):
        _run(_spec(), {**inputs, "model": two}, tmp_path / "out")


def test_a_base_that_is_too_short_is_refused(inputs: dict[str, Path], tmp_path: Path) -> None:
    short = {**inputs, "model": save_tiny_encoder(tmp_path / "short", positions=40)}
    with pytest.raises(ModelNotUsable, match="context"):
        _run(_spec(), short, tmp_path / "b")


def test_one_prompt_is_too_few(inputs: dict[str, Path], tmp_path: Path) -> None:
    dataset = _dataset(tmp_path / "data", lambda number: {**_row(0), "rejected": f"no {number}"}, 4)
    with pytest.raises(InvalidInput) as caught:
        _run(_spec(), {**inputs, "dataset": dataset}, tmp_path / "out")
    assert caught.value.error_code == "too_few_prompts"


def test_a_step_that_takes_too_much_memory_is_done_with_fewer_rows_at_once(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    computed = training.logits_of

    def logits_of(model: Any, rows: Any) -> torch.Tensor:
        sizes.append(len(rows))
        if len(rows) > 3:
            raise torch.OutOfMemoryError
        return computed(model, rows)

    whole = _run(_spec(optimisation={"epochs": 1}), inputs, tmp_path / "a")
    monkeypatch.setattr(training, "logits_of", logits_of)
    parts = _run(_spec(optimisation={"epochs": 1}), inputs, tmp_path / "b")
    assert max(sizes) == 8
    assert sizes[-1] <= 3
    assert parts["steps"] == whole["steps"]
    assert parts["metrics"]["loss"] == pytest.approx(whole["metrics"]["loss"], rel=0.2)
    monkeypatch.setattr(training, "logits_of", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError()))
    with pytest.raises(torch.OutOfMemoryError):
        _run(_spec(), inputs, tmp_path / "c")
