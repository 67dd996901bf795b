"""A scoring under an adapter is that of the base with it, by PEFT's own forward; it is on record, apart from others."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from deft import distribution as distributions
from deft.errors import ArtifactCorrupt, InvalidInput, ModelNotUsable
from deft.models.loading import load_base, load_tokenizer
from deft.operations import run
from deft.reports import Silent
from deft.scoring.run import run_score
from deft.scoring.shards import ScoreCountSpec, ScoreMergeSpec, ScoreShardSpec
from deft.specs import ScoreSpec, SelectSpec
from deft.starts import Start, adapter_hash, scored_under, warnings_of
from deft.subsets import run_select
from tests.deft.scoring.test_run import ROWS, dataset

SPEC = ScoreSpec(dataset="ds_1", model="m", adapter="ad_1")


def make_adapter(folder: Path, model: Path, seed: int = 5, **config: object) -> Path:
    """Write a LoRA adapter whose B is not zero, with dropout, so that training mode would show."""
    torch.manual_seed(seed)
    settings = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.5, "target_modules": ["q_proj", "up_proj"], **config}
    policy = get_peft_model(load_base(model), LoraConfig(task_type="CAUSAL_LM", **settings))  # type: ignore[arg-type]
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    policy.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Path:
    return make_adapter(tmp_path_factory.mktemp("adapter"), tiny_model_folder)


@pytest.fixture(scope="module")
def inputs(data: Path, adapter: Path, tiny_model_folder: Path) -> dict[str, Path]:
    return {"dataset": data, "model": tiny_model_folder, "adapter": adapter}


def score(spec: ScoreSpec, inputs: dict[str, Path], out: Path) -> Path:
    out.mkdir()
    wanted = {name: folder for name, folder in inputs.items() if name != "adapter" or spec.adapter is not None}
    run_score(spec, inputs=wanted, out=out, checkpoints=None, report=Silent())
    return out


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, inputs: dict[str, Path]) -> Path:
    return score(SPEC, inputs, tmp_path_factory.mktemp("tuned") / "out")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, inputs: dict[str, Path]) -> Path:
    return score(SPEC.model_copy(update={"adapter": None}), inputs, tmp_path_factory.mktemp("plain") / "out")


def summary(scoring: Path) -> dict[str, object]:
    document: dict[str, object] = json.loads((scoring / "scoring.json").read_text())
    return document


def test_a_scoring_under_an_adapter_is_that_of_pefts_own_forward(
    tuned: Path, plain: Path, adapter: Path, tiny_model_folder: Path
) -> None:
    policy = PeftModel.from_pretrained(load_base(tiny_model_folder), adapter).eval()
    tokenizer = load_tokenizer(tiny_model_folder)
    q_diff = distributions.load(tuned / "distribution.safetensors").q_diff
    table, hidden = pq.read_table(tuned / "scores.parquet"), np.load(tuned / "hidden.npy")
    for at, (row, response) in enumerate(zip(table["row"].to_pylist(), table["response"].to_pylist(), strict=True)):
        texts = ROWS[row]["prompt"], " " + ROWS[row][("chosen", "rejected")[response]].strip()
        prompt, answer = (tokenizer(text)["input_ids"] for text in texts)
        with torch.no_grad():
            found = policy(input_ids=torch.tensor([prompt + answer]), output_hidden_states=True)
        logp = torch.log_softmax(found.logits[0].double(), -1)[len(prompt) - 1 : -1].mean(0).numpy()
        assert table["r_d"][at].as_py() == pytest.approx(float(q_diff @ logp), abs=1e-5)
        state = found.hidden_states[-1][0, len(prompt) - 1 : -1].mean(0).numpy()
        np.testing.assert_allclose(hidden[at], state, rtol=0, atol=1e-5)

    assert np.abs(hidden - np.load(plain / "hidden.npy")).max() > 0.05
    assert np.array_equal(q_diff, distributions.load(plain / "distribution.safetensors").q_diff)


def test_the_start_is_on_record(tuned: Path, plain: Path, adapter: Path) -> None:
    assert summary(tuned)["adapter_hash"] == adapter_hash(adapter)
    assert summary(plain)["adapter_hash"] is None
    assert summary(tuned)["base_weights_hash"] == summary(plain)["base_weights_hash"]
    assert summary(tuned)["architecture"] == "LlamaForCausalLM"


def test_another_scale_of_the_same_weights_is_another_start(adapter: Path, tmp_path: Path) -> None:
    config = json.loads((adapter / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 16}))
    (tmp_path / "adapter_model.safetensors").write_bytes((adapter / "adapter_model.safetensors").read_bytes())
    assert adapter_hash(tmp_path) != adapter_hash(adapter)


def test_states_of_another_start_are_not_taken_over(
    tuned: Path, plain: Path, inputs: dict[str, Path], tmp_path: Path
) -> None:
    again = score(SPEC.model_copy(update={"extends": "sc_1"}), {**inputs, "extends": tuned}, tmp_path / "again")
    assert summary(again)["rows_reused"] == len(ROWS)
    for number, (adapter, earlier) in enumerate([("ad_1", plain), (None, tuned)]):
        spec = SPEC.model_copy(update={"adapter": adapter, "extends": "sc_1"})
        with pytest.raises(InvalidInput, match="adapter_hash") as error:
            score(spec, {**inputs, "extends": earlier}, tmp_path / f"refused-{number}")
        assert error.value.findings[0].pointer == "/extends"


def test_shards_score_under_the_adapter_and_only_they_need_it(
    tuned: Path, inputs: dict[str, Path], tmp_path: Path
) -> None:
    def made(name: str, spec: object, folders: dict[str, Path]) -> Path:
        (tmp_path / name).mkdir()
        run(spec, inputs=folders, out=tmp_path / name, checkpoints=None, report=Silent())  # type: ignore[arg-type]
        return tmp_path / name

    common = {name: inputs[name] for name in ("dataset", "model")}
    counted = made("counted", ScoreCountSpec(score=SPEC), common)
    parts = {
        f"part.{number}": made(
            f"part-{number}",
            ScoreShardSpec(score=SPEC, counted="c", start=start, stop=stop),
            {**inputs, "counted": counted},
        )
        for number, (start, stop) in enumerate([(0, 5), (5, 12)])
    }
    merge, folders = ScoreMergeSpec(score=SPEC, counted="c", parts=["p", "q"]), {"counted": counted, **parts}
    folders["dataset"] = inputs["dataset"]
    merged = made("merged", merge, folders)
    assert summary(merged)["adapter_hash"] == summary(tuned)["adapter_hash"]
    np.testing.assert_allclose(np.load(merged / "hidden.npy"), np.load(tuned / "hidden.npy"), rtol=0, atol=1e-5)

    told = json.loads((parts["part.1"] / "run.json").read_text())
    (parts["part.1"] / "run.json").write_text(json.dumps({**told, "adapter_hash": None}))
    with pytest.raises(ArtifactCorrupt, match="different weights"):
        made("mixed", merge, folders)


def test_an_adapter_of_another_base_or_on_the_head_is_refused(
    inputs: dict[str, Path], tiny_model_folder: Path, tmp_path: Path
) -> None:
    for number, change in enumerate([{"target_modules": ["q_proj", "lm_head"]}, {"modules_to_save": ["lm_head"]}]):
        on_head = make_adapter(tmp_path / f"head-{number}", tiny_model_folder, **change)
        with pytest.raises(ModelNotUsable, match="head"):
            score(SPEC, {**inputs, "adapter": on_head}, tmp_path / f"out-{number}")

    other = make_adapter(tmp_path / "other", tiny_model_folder)
    (other / "training.json").write_text(json.dumps({"base": {"weights_hash": "0" * 64}}))
    with pytest.raises(InvalidInput) as error:
        score(SPEC, {**inputs, "adapter": other}, tmp_path / "out")
    assert (error.value.error_code, error.value.findings[0].pointer) == ("adapter_of_another_base", "/adapter")


def test_a_subset_says_under_which_start_it_was_ranked_and_training_from_another_warns(
    tuned: Path, plain: Path, adapter: Path, tmp_path: Path
) -> None:
    def select(scoring: Path, end: str) -> Path:
        out = tmp_path / f"{scoring.parent.name}-{end}"
        out.mkdir()
        spec = SelectSpec.model_validate({"scoring": "sc_1", "selection": {"end": end, "keep": 0.5}})
        run_select(spec, inputs={"scoring": scoring}, out=out, report=Silent())
        return out

    base = str(summary(plain)["base_weights_hash"])
    own, bare = Start(base, adapter_hash(adapter)), Start(base)
    ranked = select(tuned, "lowest")
    assert json.loads((ranked / "subset.json").read_text())["scored_under"] == scored_under(tuned)
    assert own.words() in (ranked / "README.md").read_text()
    assert warnings_of(ranked, own) == []
    (warning,) = warnings_of(ranked, bare)
    assert own.words() in warning
    assert len(warnings_of(select(plain, "lowest"), own)) == 1
    assert warnings_of(select(tuned, "random"), bare) == []
