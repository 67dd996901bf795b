"""Every recipe in its own shape (lengths, batch, schedule, precision) on a two-layer model and made-up dialogues."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from deft import operations
from deft.__main__ import main
from deft.arms import submit_children
from deft.data.datasets import import_files
from deft.reports import Silent
from deft.specs import OUTPUT_KIND, PipelineSpec, TrainSpec, job_spec, references
from deft.training import run as training

ROOT = Path(__file__).parents[2] / "recipes"
ROWS = 66
"""More than a batch of 64, so that every recipe takes a step behind its warm-up."""
RECIPES = sorted(path.stem for path in ROOT.glob("*.json"))


@pytest.fixture(scope="module", autouse=True)
def _quick() -> Iterator[None]:
    """One thread, and no fresh process a training: it costs seconds, and other tests are about it."""
    torch.set_num_threads(1)
    check = training.check_in_fresh_process
    training.check_in_fresh_process = lambda *_: 0.0
    yield
    training.check_in_fresh_process = check


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dialogues in the form in which HH-RLHF is published."""
    root = tmp_path_factory.mktemp("data")
    with (root / "train.jsonl").open("w") as file:
        for n in range(ROWS):
            prompt = f"\n\nHuman: may I have {n} cups?\n\nAssistant: why?\n\nHuman: for tea\n\nAssistant:"
            row = {
                "chosen": f"{prompt} yes, {'please ' * (n % 5)}take {n}",
                "rejected": f"{prompt} no{' no' * (n % 4)}",
            }
            file.write(json.dumps(row) + "\n")
    out = root / "dataset"
    out.mkdir()
    import_files([root / "train.jsonl"], out)
    return out


def spec_of(recipe: str) -> Any:
    return job_spec.validate_json((ROOT / f"{recipe}.json").read_bytes())


def test_every_recipe_is_run_here_and_described() -> None:
    page = (ROOT / "README.md").read_text()
    assert RECIPES == ["deft-dpo-llama3-8b-hh", "dpo-hh-lora", "pro-hh-full", "pro-hh-lora"]
    assert all(f"`{recipe}.json`" in page for recipe in RECIPES)
    assert [spec_of(recipe).name for recipe in RECIPES] == RECIPES


@pytest.mark.parametrize("recipe", [recipe for recipe in RECIPES if isinstance(spec_of(recipe), TrainSpec)])
def test_a_training_recipe_runs(
    recipe: str, dataset: Path, tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, spec = tmp_path / "out", spec_of(recipe)
    inputs = ["--input", f"data={dataset}", "--input", f"model={tiny_model_folder}"]
    status = main([str(ROOT / f"{recipe}.json"), *inputs, "--out", str(out)])
    assert status == 0, capsys.readouterr().err
    summary = json.loads((out / "training.json").read_text())
    steps_in_epoch = -(-ROWS // spec.optimisation.batch_size)
    assert summary["steps"] == spec.optimisation.epochs * steps_in_epoch
    assert (summary["method"], summary["examples"], summary["precision"]) == (spec.method.type, ROWS, "bf16")
    assert summary["layout"] == "shared"
    assert summary["metrics"]["learning_rate"] == pytest.approx(spec.optimisation.learning_rate)
    assert (summary["spec"]["lora"] is None) is (spec.lora is None)
    assert (out / ("model.safetensors" if spec.lora is None else "adapter_model.safetensors")).is_file()


def test_the_whole_recipe_runs(dataset: Path, tiny_model_folder: Path, tmp_path: Path) -> None:
    spec = spec_of("deft-dpo-llama3-8b-hh")
    assert isinstance(spec, PipelineSpec)
    folders: dict[str, Path] = {spec.dataset: dataset}
    summaries: dict[str, Any] = {}
    trained: dict[str, TrainSpec] = {}

    def submit(name: str, child: Any) -> str:
        place = f"{OUTPUT_KIND[child.kind]}-{len(folders)}"
        inputs = {reference.name: folders[reference.id] for reference in references(child)}
        inputs |= {"model": tiny_model_folder} if "model" in operations.input_names(child) else {}
        folders[place] = tmp_path / place
        folders[place].mkdir()
        summaries[name] = operations.run(child, inputs=inputs, out=folders[place], checkpoints=None, report=Silent())
        if isinstance(child, TrainSpec):
            trained[name.removeprefix("train:")] = child
        return place

    short = spec.evaluation.model_copy(update={"prompts": 2, "bootstrap": 100})
    submit_children(spec.model_copy(update={"random_draws": 1, "evaluation": short}), submit)
    assert sorted(trained) == sorted(spec.arms)
    kept = summaries["select:lowest"]["kept"]
    assert kept == -(-summaries["score"]["rows_scored"] // 20)
    for arm, child in trained.items():
        assert (child.optimisation, child.lora, child.tokens, child.method) == (
            spec.optimisation, spec.lora, spec.tokens, spec.method,
        )  # fmt: skip
        assert summaries[f"train:{arm}"]["examples"] == kept
    with_term = {arm for arm in trained if summaries[f"train:{arm}"]["omega"] > 0}
    assert with_term == {"deft", "random_with_term", "opposite", "length"}
    comparison = json.loads(next(tmp_path.glob("evaluation-*/comparison.json")).read_text())
    assert set(spec.arms) <= {row["arm"] for row in comparison["table"]}


def test_the_published_numbers_are_the_published_ones() -> None:
    """PRO's script for HH and the DPO paper's appendix B; LoRA's rate is 10 times theirs, 15 times in a short run."""
    pro, dpo, deft = (spec_of(name) for name in ("pro-hh-lora", "dpo-hh-lora", "deft-dpo-llama3-8b-hh"))
    full = spec_of("pro-hh-full")
    assert (full.lora, full.optimisation.learning_rate) == (None, 5e-6)
    own = {"name": pro.name, "lora": pro.lora, "optimisation": pro.optimisation}
    assert full.optimisation.model_copy(update={"learning_rate": 5e-5}) == pro.optimisation
    assert full.model_copy(update=own) == pro, "the two differ in nothing but what is tuned, and how fast"
    assert (pro.method.sft_weight, pro.optimisation.batch_size, pro.optimisation.epochs) == (0.05, 2 * 7 * 8, 2)
    assert pro.optimisation.learning_rate == pytest.approx(10 * 5e-6)
    assert (dpo.method.beta, dpo.optimisation.batch_size, dpo.optimisation.warmup_fraction) == (0.1, 64, 0.06)
    assert dpo.optimisation.learning_rate == pytest.approx(10 * 1e-6)
    assert deft.optimisation.learning_rate == pytest.approx(15 * 1e-6)
    for spec in (pro, dpo, deft):
        assert (spec.tokens.max_prompt_tokens, spec.tokens.max_total_tokens) == (384, 512)


def test_the_sweep_of_the_page_changes_the_rate_alone(tmp_path: Path) -> None:
    import subprocess

    page = (ROOT / "README.md").read_text()
    line = next(line.strip() for line in page.splitlines() if line.strip().startswith("sed "))
    if shutil.which("sed") is None:
        pytest.skip("no sed")
    script = f"rate=3e-5; {line}"
    subprocess.run(["bash", "-c", script.replace("> sweep", f"> {tmp_path}/sweep")], check=True, cwd=ROOT.parent)
    made = job_spec.validate_json((tmp_path / "sweep-3e-5.json").read_bytes())
    asked = spec_of("deft-dpo-llama3-8b-hh")
    rate = asked.optimisation.model_copy(update={"learning_rate": 3e-5})
    assert made == asked.model_copy(update={"optimisation": rate})
