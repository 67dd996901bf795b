"""An evaluation with reward models, a BART and a general text, on tiny models: numbers, marks, refusals."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file

from deft.data.datasets import import_files, read_examples
from deft.errors import InvalidInput, ModelNotUsable
from deft.evaluation.bartscore import load_bart
from deft.evaluation.run import run_evaluate
from deft.examples import Example
from deft.folders import MANIFEST, seal
from deft.models.loading import load_base, load_tokenizer, weights_hash
from deft.reports import Silent
from deft.reward_models.model import load_reward_model
from deft.reward_models.rows import Row, write_rows
from deft.specs import EvaluateSpec
from tests.models import save_tiny_bart, save_tiny_encoder, save_tiny_llama, swap_letters

WORDS = ["tea", "rain", "a cat", "the sea", "bread", "snow", "a song", "stone"]


def _write_dataset(root: Path, name: str, rows: list[dict[str, Any]]) -> Path:
    out = root / name
    out.mkdir(parents=True)
    (root / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    import_files([root / f"{name}.jsonl"], out)
    return out


def _row(index: int, word: str) -> dict[str, Any]:
    turn = f"\n\nHuman: Tell me about {word}.\n\nAssistant:"
    own = {"chosen": f"{turn} I like {word}.", "rejected": f"{turn} No, not {word}, {index}."}
    return {**own, "source": ("first", "second")[index % 2]}


def _reward_model(folder: Path, seed: int, *, learnt: list[Row] | None = None, held_out: dict[str, Any]) -> Path:
    """A folder like that of a train_reward_model job."""
    save_tiny_encoder(folder, labels=1, seed=seed)
    tokens = {"max_prompt_tokens": 128, "max_total_tokens": 200}
    (folder / "reward_model.json").write_text(json.dumps({"held_out": held_out, "spec": {"tokens": tokens}}))
    write_rows(folder / "rows.parquet", learnt or [], [])
    seal(folder, {"id": f"rm_{seed}", "kind": "reward_model", "summary": {}})
    return folder


def _accuracy(low: float) -> dict[str, Any]:
    own = {"value": 0.8, "low": low, "high": 0.9, "length_baseline": 0.6, "length_baseline_prefers": "shorter"}
    return own | {"is_valid": low > 0.6, "pairs": 40, "rows": 40, "prompts": 40}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("others")
    texts = [{"prompt": f"General text number {n}", "chosen": "goes on.", "rejected": "x"} for n in range(6)]
    rows = [Row(n, Example(f"p {n}", ("a", "b")), 0.1 * n, f"key-{n}") for n in range(4)]
    return {
        "model": save_tiny_llama(root / "model"),
        "dataset": _write_dataset(root, "dataset", [_row(*each) for each in enumerate(WORDS)]),
        "general_dataset": _write_dataset(root, "general", texts),
        "adapter.0": _tuned(root / "tuned"),
        "bartscore_model": save_tiny_bart(root / "bart"),
        "reward_model.0": _reward_model(root / "a", 1, learnt=rows[:2], held_out=_accuracy(0.7)),
        "reward_model.1": save_tiny_encoder(root / "registered", labels=1, seed=2),
        "training_reward_model.0": _reward_model(root / "c", 3, learnt=rows[2:], held_out=_accuracy(0.5)),
    }


def _tuned(folder: Path) -> Path:
    save_tiny_llama(folder, seed=1)
    (folder / "training.json").write_text(json.dumps({"omega": 0}))
    return folder


def _spec(**changes: Any) -> EvaluateSpec:
    options = {"prompts": 6, "max_new_tokens": 6, "bootstrap": 100, **changes.pop("options", {})}
    document = {
        "model": "m",
        "dataset": "ds_1",
        "rows": {"split": "all"},
        "tokens": {"max_prompt_tokens": 300, "max_total_tokens": 400},
        "systems": [{"name": "deft", "arm": "deft", "adapter": "tm_1"}],
        "reward_models": ["rm_1", "model_2"],
        "training_reward_models": ["rm_3"],
        "bartscore_model": "bart",
        "general_dataset": "ds_2",
        "options": options,
    }
    return EvaluateSpec.model_validate(document | changes)


@pytest.fixture(scope="module")
def evaluated(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("out")
    return out, run_evaluate(_spec(), inputs=inputs, out=out, checkpoints=None, report=Silent())


def _rows_of(out: Path, **wanted: str) -> list[dict[str, Any]]:
    found = json.loads((out / "metrics.json").read_text())
    return [row for row in found if all(row[key] == value for key, value in wanted.items())]


def _value(out: Path, metric: str, system: str = "deft", of: str = "all") -> float:
    (row,) = _rows_of(out, metric=metric, system=system, slice=of)
    return float(row["value"])


def _answers(out: Path, inputs: dict[str, Path], system: str) -> list[tuple[Example, str]]:
    examples = dict(read_examples(inputs["dataset"]))
    lines = [json.loads(line) for line in (out / "generations.jsonl").read_text().splitlines()]
    return [(examples[line["row"]], line["text"]) for line in lines if line["system"] == system]


def test_rewards_are_those_of_the_stored_answers(
    evaluated: tuple[Path, dict[str, Any]], inputs: dict[str, Path]
) -> None:
    out, _ = evaluated
    judge = load_reward_model(inputs["reward_model.0"])
    asked = [Example(e.prompt, (text,)) for e, text in _answers(out, inputs, "deft")]
    logits = np.array([judge.rewards([example])[0][0][0] for example in asked])
    assert _value(out, "reward_logit:rm_1") == pytest.approx(logits.mean(), abs=1e-4)
    assert _value(out, "reward:rm_1") == pytest.approx((100 / (1 + np.exp(-logits))).mean(), abs=1e-3)
    assert 0 <= _rows_of(out, metric="reward:rm_1", system="base", slice="all")[0]["low"] <= 100


def test_bartscore_has_three_directions(evaluated: tuple[Path, dict[str, Any]], inputs: dict[str, Path]) -> None:
    out, _ = evaluated
    scorer = load_bart(inputs["bartscore_model"])
    pairs = [(text, e.responses[0]) for e, text in _answers(out, inputs, "deft")]
    recall = scorer.log_likelihoods([text for text, _ in pairs], [reference for _, reference in pairs]).mean()
    precision = scorer.log_likelihoods([reference for _, reference in pairs], [text for text, _ in pairs]).mean()
    assert _value(out, "bartscore_recall") == pytest.approx(recall, abs=1e-4)
    assert _value(out, "bartscore_precision") == pytest.approx(precision, abs=1e-4)
    assert _value(out, "bartscore_f") == pytest.approx((recall + precision) / 2, abs=1e-4)


def test_perplexity_is_that_of_the_texts_token_by_token(
    evaluated: tuple[Path, dict[str, Any]], inputs: dict[str, Path]
) -> None:
    model, tokenizer = load_base(inputs["model"]), load_tokenizer(inputs["model"])
    total, tokens = 0.0, 0
    for number in range(6):
        ids = tokenizer(f"General text number {number}\ngoes on.", return_tensors="pt")["input_ids"]
        with torch.no_grad():
            logps = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
        total -= float(logps.gather(-1, ids[0, 1:, None]).sum())
        tokens += ids.shape[1] - 1
    assert _value(evaluated[0], "perplexity", "base") == pytest.approx(np.exp(total / tokens), rel=1e-4)
    assert _value(evaluated[0], "perplexity", "deft") != pytest.approx(np.exp(total / tokens), rel=1e-2)


def test_every_number_has_slices_by_source(evaluated: tuple[Path, dict[str, Any]]) -> None:
    out, _ = evaluated
    sliced = {row["slice"] for row in _rows_of(out, metric="preference_accuracy", system="deft")}
    assert sliced == {"all", "source:first", "source:second"}
    rows = _rows_of(out, metric="reward:rm_1", system="deft")
    whole = next(row for row in rows if row["slice"] == "all")
    parts = [row for row in rows if row["slice"] != "all"]
    assert sum(row["n"] for row in parts) == whole["n"] == 6
    assert sum(row["n"] * row["value"] for row in parts) / 6 == pytest.approx(whole["value"])
    assert {row["slice"] for row in _rows_of(out, metric="perplexity")} == {"all"}, "texts of one source"


def test_tables_can_be_computed_again_from_the_values(evaluated: tuple[Path, dict[str, Any]]) -> None:
    out, _ = evaluated
    values = pl.read_parquet(out / "values.parquet")
    for metric in ("reward:rm_1", "preference_accuracy", "kl", "entropy", "bleu_char_pro", "distinct_1", "length"):
        own = values.filter((pl.col("metric") == metric) & (pl.col("system") == "deft"))["sums"].to_list()
        assert sum(s[0] for s in own) / sum(s[1] for s in own) == pytest.approx(_value(out, metric)), metric


def test_a_reward_model_that_was_trained_on_is_marked_for_all_but_the_base(
    evaluated: tuple[Path, dict[str, Any]],
) -> None:
    marks = {row["system"]: row["is_trained_on"] for row in _rows_of(evaluated[0], metric="reward:rm_3", slice="all")}
    assert marks == {"base": False, "deft": True}
    assert not any(row["is_trained_on"] for row in _rows_of(evaluated[0], metric="reward:rm_1"))


def test_held_out_accuracy_stands_beside_and_says_which_are_valid(evaluated: tuple[Path, dict[str, Any]]) -> None:
    out, summary = evaluated
    found = {model["id"]: model for model in summary["reward_models"]}
    assert set(found) == {"rm_1", "model_2", "rm_3"}
    assert found["rm_1"]["is_valid"]
    assert not found["rm_3"]["is_valid"]
    assert found["rm_1"]["held_out_accuracy"]["measured_on"] == "own_held_out_rows"
    measured = found["model_2"]["held_out_accuracy"]
    assert (measured["measured_on"], measured["pairs"]) == ("evaluation_rows", len(WORDS))
    compared = json.loads((out / "comparison.json").read_text())
    valid = {one["metric"]: one["is_valid"] for one in compared["differences"]}
    assert (valid["reward:rm_1"], valid["reward:rm_3"], valid["kl"]) == (True, False, True)
    sentences = compared["sentences"]
    (said,) = [s for s in sentences if "`rm_1`" in s]
    assert "right in 0.800 of 40 held-out pairs of its own (95 % interval 0.700 to 0.900)" in said
    (said,) = [s for s in sentences if "`rm_3`" in s]
    assert "took part in training" in said


def test_settings_of_rewards_name_the_weights(evaluated: tuple[Path, dict[str, Any]]) -> None:
    out, summary = evaluated
    hashes = {row["metric"]: row["settings_hash"] for row in _rows_of(out, system="deft", slice="all")}
    assert len({hashes[f"reward:{name}"] for name in ("rm_1", "model_2", "rm_3")}) == 3
    settings = json.loads((out / "evaluation.json").read_text())["settings"]
    assert settings["reward:rm_1"]["reward_model"] == summary["reward_models"][0]["weights_hash"]


@pytest.mark.parametrize("change", ["tokenizer", "tokens"])
def test_settings_of_rewards_and_bartscore_name_how_texts_are_read(
    inputs: dict[str, Path], tmp_path: Path, change: str
) -> None:
    spec = _spec(
        reward_models=["rm_1"],
        training_reward_models=[],
        general_dataset=None,
        options={"metrics": ["reward", "bartscore", "length"], "prompts": 2},
    )
    copies = {name: shutil.copytree(inputs[name], tmp_path / name) for name in ("reward_model.0", "bartscore_model")}
    own = {**{name: inputs[name] for name in ("model", "dataset", "adapter.0")}, **copies}

    def measured(name: str) -> dict[str, tuple[str, float]]:
        (tmp_path / name).mkdir()
        run_evaluate(spec, inputs=own, out=tmp_path / name, checkpoints=None, report=Silent())
        rows = _rows_of(tmp_path / name, system="deft", slice="all")
        return {row["metric"]: (row["settings_hash"], row["value"]) for row in rows}

    before = measured("before")
    changed = {"reward:rm_1", "reward_logit:rm_1"}
    if change == "tokenizer":
        changed |= {"bartscore_precision", "bartscore_recall", "bartscore_f"}
        for folder in copies.values():
            swap_letters(folder)
    else:
        path = copies["reward_model.0"] / "reward_model.json"
        record = json.loads(path.read_text(encoding="utf-8"))
        record["spec"]["tokens"]["max_prompt_tokens"] = 8
        path.write_text(json.dumps(record), encoding="utf-8")
    after = measured("after")
    for metric in before:
        same = [one == other for one, other in zip(before[metric], after[metric], strict=True)]
        assert same == [metric not in changed] * 2, metric


def _refused(spec: EvaluateSpec, inputs: dict[str, Path], out: Path) -> InvalidInput:
    out.mkdir()
    with pytest.raises(InvalidInput) as caught:
        run_evaluate(spec, inputs=inputs, out=out, checkpoints=None, report=Silent())
    assert not list(out.iterdir())
    return caught.value


def test_training_and_evaluation_share_no_weights(inputs: dict[str, Path], tmp_path: Path) -> None:
    copy = shutil.copytree(inputs["training_reward_model.0"], tmp_path / "copy")
    error = _refused(_spec(), {**inputs, "reward_model.1": copy}, tmp_path / "out")
    assert error.error_code == "reward_models_share_weights"
    assert error.findings[0].pointer == "/reward_models/1"


def test_a_rounded_copy_shares_weights(inputs: dict[str, Path], tmp_path: Path) -> None:
    copy = shutil.copytree(inputs["training_reward_model.0"], tmp_path / "copy")
    (copy / MANIFEST).unlink()  # its id would tell
    weights = load_file(copy / "model.safetensors")
    save_file({name: tensor.half() for name, tensor in weights.items()}, copy / "model.safetensors")
    error = _refused(_spec(), {**inputs, "reward_model.1": copy}, tmp_path / "out")
    assert (error.error_code, error.findings[0].pointer) == ("reward_models_share_weights", "/reward_models/1")


def test_what_was_trained_from_the_other_shares_weights(inputs: dict[str, Path], tmp_path: Path) -> None:
    own = shutil.copytree(inputs["reward_model.0"], tmp_path / "own")
    record = json.loads((own / "reward_model.json").read_text(encoding="utf-8"))
    record["base_weights_hash"] = weights_hash(inputs["training_reward_model.0"])
    (own / "reward_model.json").write_text(json.dumps(record), encoding="utf-8")
    error = _refused(_spec(), {**inputs, "reward_model.0": own}, tmp_path / "out")
    assert (error.error_code, error.findings[0].pointer) == ("reward_models_share_weights", "/reward_models/0")


def test_training_and_evaluation_share_no_rows(inputs: dict[str, Path], tmp_path: Path) -> None:
    rows = [Row(n, Example(f"p {n}", ("c", "a")), 0.1 * n, f"pair-{n}") for n in (1, 2)]
    other = _reward_model(tmp_path / "other", 9, learnt=rows, held_out=_accuracy(0.7))
    error = _refused(_spec(), {**inputs, "reward_model.0": other}, tmp_path / "out")
    assert error.error_code == "reward_models_share_rows"
    assert error.findings[0].found == "1 responses of rm_3: row 2 there, 2 here"


def test_a_wrong_head_is_refused_before_anything_is_generated(inputs: dict[str, Path], tmp_path: Path) -> None:
    causal = {**inputs, "reward_model.1": inputs["model"]}
    error = _refused(_spec(), causal, tmp_path / "out")
    assert isinstance(error, ModelNotUsable)
    assert (error.error_code, error.findings[0].pointer) == ("wrong_head", "/reward_models/1")


def test_one_cannot_be_named_for_both() -> None:
    with pytest.raises(ValueError, match="trained on"):
        _spec(reward_models=["rm_3"])


def test_metrics_whose_fields_are_not_given_are_left_out(inputs: dict[str, Path], tmp_path: Path) -> None:
    nothing = {"reward_models": [], "training_reward_models": [], "bartscore_model": None, "general_dataset": None}
    own = {name: inputs[name] for name in ("model", "dataset", "adapter.0")}
    run_evaluate(_spec(**nothing), inputs=own, out=tmp_path, checkpoints=None, report=Silent())
    metrics = {row["metric"] for row in json.loads((tmp_path / "metrics.json").read_text())}
    assert {"entropy", "distinct_1", "distinct_2", "bleu_char_pro"} <= metrics
    assert not [m for m in metrics if m.startswith(("reward", "bartscore", "perplexity"))]


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json"])
def test_a_reward_model_that_does_not_load_loses_nothing_else(
    inputs: dict[str, Path], tmp_path: Path, file: str
) -> None:
    broken = shutil.copytree(inputs["reward_model.1"], tmp_path / "broken")
    (broken / file).write_bytes(b"\0" * 64)
    spec = _spec(options={"metrics": ["reward", "bleu"], "prompts": 2})
    (tmp_path / "out").mkdir()
    own = {**inputs, "reward_model.1": broken}
    summary = run_evaluate(spec, inputs=own, out=tmp_path / "out", checkpoints=None, report=Silent())
    failed = summary["reward_models"][1]
    assert (failed["id"], failed["failure"]["code"]) == ("model_2", "model_not_usable")
    metrics = {row["metric"] for row in _rows_of(tmp_path / "out")}
    assert {"bleu", "reward:rm_1", "reward:rm_3"} <= metrics
    assert "reward:model_2" not in metrics
    assert "Reward model `model_2` could not judge" in summary["sentence"]


def test_training_reward_models_alone_are_measured_too(inputs: dict[str, Path], tmp_path: Path) -> None:
    spec = _spec(reward_models=[], options={"metrics": ["reward"], "prompts": 2})
    own = {name: folder for name, folder in inputs.items() if not name.startswith("reward_model")}
    run_evaluate(spec, inputs=own, out=tmp_path, checkpoints=None, report=Silent())
    assert {row["metric"] for row in _rows_of(tmp_path)} == {"reward:rm_3"}
