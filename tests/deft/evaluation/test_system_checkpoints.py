"""An evaluation that is interrupted between systems ends as one that was not, asks nobody twice and mixes no runs."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from deft.data.datasets import import_files
from deft.errors import Interrupted, InvalidInput
from deft.evaluation import run as evaluation
from deft.evaluation.system_checkpoints import SystemCheckpoints
from deft.reports import Silent
from deft.specs import EvaluateSpec
from tests.deft.small_runs import with_other_settings
from tests.models import save_tiny_llama, tiny_llama


class Stopped(Silent):
    """Asks to stop once it has heard of the checkpoints of *systems*."""

    def __init__(self, systems: int) -> None:
        self.systems = systems
        self.kept: list[int] = []

    def checkpoint(self, step: int, folder: Path) -> None:
        assert (folder / "manifest.json").is_file()
        self.kept.append(step)

    @property
    def is_stopping(self) -> bool:  # type: ignore[override]
        return len(self.kept) >= self.systems


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("kept")
    rows = [{"prompt": f"question {n}?", "chosen": f"yes {n}", "rejected": "no"} for n in range(6)]
    (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (root / "dataset").mkdir()
    import_files([root / "rows.jsonl"], root / "dataset")
    for seed in (1, 2):
        save_tiny_llama(root / f"tuned-{seed}", seed=seed)
        (root / f"tuned-{seed}" / "training.json").write_text(json.dumps({"omega": 0, "weights_hash": str(seed)}))
    tuned = {f"adapter.{seed - 1}": root / f"tuned-{seed}" for seed in (1, 2)}
    return {"model": save_tiny_llama(root / "model"), "dataset": root / "dataset", **tuned}


def _spec(**options: Any) -> EvaluateSpec:
    systems = [{"name": name, "arm": name, "adapter": f"tm_{name}"} for name in ("one", "two")]
    own = {"metrics": ["length", "kl", "entropy", "bleu"], "prompts": 4, "max_new_tokens": 5, "bootstrap": 100}
    document = {"model": "m", "dataset": "d", "rows": {"split": "all"}, "systems": systems, "options": own | options}
    return EvaluateSpec.model_validate(document | {"tokens": {"max_prompt_tokens": 40, "max_total_tokens": 60}})


def _run(
    spec: EvaluateSpec, inputs: Mapping[str, Path], root: Path, report: Any = None, cache: Path | None = None
) -> Path:
    out = root / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    told, kept = report or Silent(), root / "kept"
    evaluation.run_evaluate(spec, inputs=inputs, out=out, checkpoints=kept, report=told, cache=cache)
    return out


def _summary(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "evaluation.json").read_text())
    return found


def _files(out: Path) -> list[bytes]:
    return [(out / name).read_bytes() for name in ("metrics.json", "generations.jsonl", "values.parquet")]


NAMES = ("base", "one", "two")
USED = [{"system": name, "engine": "sorted_batches", "because": "options.engine asks for it"} for name in NAMES]


@pytest.mark.parametrize("has_cache", [False, True])
def test_it_ends_as_one_that_was_not_interrupted(inputs: dict[str, Path], tmp_path: Path, has_cache: bool) -> None:
    """Stopped when the second system has answered: the third's answers were under way, and are there as well."""
    cache, spec = tmp_path / "cache" if has_cache else None, _spec(engine="sorted_batches")
    whole = _run(spec, inputs, tmp_path / "whole")
    with pytest.raises(Interrupted):
        _run(spec, inputs, tmp_path / "parts", Stopped(2), cache)
    listener = Stopped(99)
    again = _run(spec, inputs, tmp_path / "parts", listener, cache)
    assert _files(again) == _files(whole)
    assert [_summary(out)["reused"]["answers"] for out in (whole, again)] == [0, 3 * 4]
    assert _summary(again)["generated_by"] == _summary(whole)["generated_by"] == USED
    assert listener.kept == [3]


def test_without_what_a_lost_cache_held_everything_is_asked_again_and_is_no_progress(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    whole = _files(_run(_spec(), inputs, tmp_path / "whole"))
    with pytest.raises(Interrupted):
        _run(_spec(), inputs, tmp_path / "parts", Stopped(2), tmp_path / "cache")
    shutil.rmtree(tmp_path / "cache")
    listener = Stopped(99)
    again = _run(_spec(), inputs, tmp_path / "parts", listener, tmp_path / "cache")
    assert _files(again) == whole
    assert _summary(again)["reused"]["answers"] == 0
    assert listener.kept == [3]


def test_a_checkpoint_is_told_only_where_an_attempt_is_further_than_those_before(tmp_path: Path) -> None:
    """Three attempts without a new checkpoint are a job's last (store.attempts)."""
    told = Stopped(99)
    first = SystemCheckpoints(tmp_path, {"spec": "s"}, told)
    first.add_answered()
    first.add_answered()
    first.add_results("base", "text")
    second = SystemCheckpoints(tmp_path, {"spec": "s"}, told, dict(first.results), newest=first.newest)
    second.add_answered()
    second.add_answered()
    second.add_results("one", "text")
    assert told.kept == [1, 2, 3, 4]
    held = json.loads((tmp_path / "step-000004" / "lm_eval.json").read_text())
    assert held == {"base": "text", "one": "text"}


def test_the_engine_is_on_record_and_changes_no_answer(inputs: dict[str, Path], tmp_path: Path) -> None:
    sorted_ones = _run(_spec(engine="sorted_batches"), inputs, tmp_path / "sorted")
    continuous = _run(_spec(engine="continuous_batching"), inputs, tmp_path / "continuous")
    assert _files(continuous) == _files(sorted_ones)
    assert _summary(continuous)["generated_by"] == [
        {"system": name, "engine": "continuous_batching", "because": None} for name in NAMES
    ]


def test_answers_to_prompt_sets_are_taken_again_too(inputs: dict[str, Path], tmp_path: Path) -> None:
    questions = [{"question_id": n, "category": "c", "turns": [f"Ask {n}?", "And then?"]} for n in range(3)]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions))
    import_files([tmp_path / "questions.jsonl"], tmp_path / "set")
    spec = EvaluateSpec.model_validate(_spec(metrics=["length"]).model_dump(mode="json") | {"prompt_sets": ["ds_q"]})
    given = {**inputs, "prompt_set.0": tmp_path / "set"}
    whole = _files(_run(spec, given, tmp_path / "whole"))
    with pytest.raises(Interrupted):
        _run(spec, given, tmp_path / "parts", Stopped(3 + 2))
    listener = Stopped(99)
    again = _run(spec, given, tmp_path / "parts", listener)
    assert _files(again) == whole
    assert _summary(again)["reused"]["answers"] == 3 * 4 + 2 * 6 + 3  # of the last system the turn under way
    assert listener.kept == [3 + 3]


def test_checkpoints_of_another_evaluation_are_refused(inputs: dict[str, Path], tmp_path: Path) -> None:
    _run(_spec(), inputs, tmp_path)
    with pytest.raises(InvalidInput, match="settings and spec differ"):
        _run(_spec(max_new_tokens=6), inputs, tmp_path)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("config.json", {"rms_norm_eps": 0.01}),
        ("generation_config.json", {"eos_token_id": 70}),
        ("chat_template.jinja", None),
    ],
)
def test_checkpoints_of_a_model_that_changed_meanwhile_are_refused(
    inputs: dict[str, Path], tmp_path: Path, name: str, change: dict[str, Any] | None
) -> None:
    model = tmp_path / "model"
    shutil.copytree(inputs["model"], model)
    _run(_spec(), {**inputs, "model": model}, tmp_path)
    path = model / name
    if change is None:
        path.write_text("{{ messages }}", encoding="utf-8")
    else:
        earlier = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        path.write_text(json.dumps(earlier | change), encoding="utf-8")
    with pytest.raises(InvalidInput, match="settings differ"):
        _run(_spec(), {**inputs, "model": model}, tmp_path)


def _tuned(folder: Path, seed: int) -> None:
    """A tuned model whose record says the same of all weights."""
    save_tiny_llama(folder, seed=seed)
    (folder / "training.json").write_text(json.dumps({"omega": 0, "weights_hash": "w"}))


def _adapter(folder: Path, seed: int) -> None:
    """An adapter as PEFT saves it, with weights drawn by *seed*."""
    base, settings = tiny_llama(), LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    torch.manual_seed(seed)
    get_peft_model(base, settings).save_pretrained(folder)


def _recorded(folder: Path, seed: int) -> None:
    """An adapter whose record says the same of all weights."""
    _adapter(folder, seed)
    (folder / "training.json").write_text(json.dumps({"omega": 0, "adapter_sha256": "w"}))


def _edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


@pytest.mark.parametrize(
    ("make", "change"),
    [
        pytest.param(_tuned, lambda folder: _tuned(folder, 9), id="weights of a tuned model"),
        pytest.param(
            _tuned, lambda folder: _edit(folder / "config.json", rms_norm_eps=0.01), id="settings of a tuned model"
        ),
        pytest.param(_recorded, lambda folder: _recorded(folder, 9), id="weights of an adapter"),
        pytest.param(
            _recorded, lambda folder: _edit(folder / "adapter_config.json", lora_alpha=99), id="settings of an adapter"
        ),
        pytest.param(_adapter, lambda folder: _adapter(folder, 9), id="weights of an adapter without a record"),
    ],
)
def test_checkpoints_of_a_system_that_changed_meanwhile_are_refused(
    inputs: dict[str, Path],
    tmp_path: Path,
    make: Callable[[Path, int], None],
    change: Callable[[Path], None],
) -> None:
    systems = {f"adapter.{index}": tmp_path / f"system-{index}" for index in range(2)}
    for seed, folder in enumerate(systems.values(), start=1):
        make(folder, seed)
    spec = _spec(metrics=["length"])
    with pytest.raises(Interrupted):
        _run(spec, {**inputs, **systems}, tmp_path, Stopped(2))
    change(systems["adapter.0"])
    with pytest.raises(InvalidInput, match="systems differ"):
        _run(spec, {**inputs, **systems}, tmp_path)


def test_checkpoints_of_adapters_hold_whatever_else_lies_beside_them(inputs: dict[str, Path], tmp_path: Path) -> None:
    systems = {f"adapter.{index}": tmp_path / f"system-{index}" for index in range(2)}
    for seed, folder in enumerate(systems.values(), start=1):
        _adapter(folder, seed)
    spec = _spec(metrics=["length"])
    with pytest.raises(Interrupted):
        _run(spec, {**inputs, **systems}, tmp_path, Stopped(2))
    (systems["adapter.0"] / "README.md").write_text("Another card.", encoding="utf-8")
    listener = Stopped(99)
    again = _run(spec, {**inputs, **systems}, tmp_path, listener)
    assert _summary(again)["reused"]["answers"] == 3 * 4
    assert listener.kept == [3]


def test_numbers_under_other_settings_of_the_same_weights_are_not_alike(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    def hashes(model: Path, name: str) -> set[str]:
        out = _run(_spec(), {**inputs, "model": model}, tmp_path / name)
        return {row["settings_hash"] for row in json.loads((out / "metrics.json").read_text(encoding="utf-8"))}

    one = hashes(inputs["model"], "one")
    assert one == hashes(inputs["model"], "again")
    assert not one & hashes(with_other_settings(inputs["model"], tmp_path / "model"), "other")
