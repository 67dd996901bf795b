"""The operation on a tiny model with real adapters, from dataset folder to files."""

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from deft.data.datasets import import_files
from deft.data.splits import chosen_rows
from deft.distribution import Distribution, count, difference, save
from deft.errors import Interrupted, InvalidInput
from deft.evaluation.changes import read_measured
from deft.evaluation.run import run_evaluate
from deft.models.loading import load_base, load_tokenizer, weights_hash
from deft.promotion import decide
from deft.reports import Silent
from deft.specs import EvaluateSpec
from deft.specs.releases import PolicySpec
from deft.tokens import encode_examples
from tests.models import save_tiny_llama

WORDS = ["tea", "rain", "a cat", "the sea", "bread", "snow", "a song", "stone", "the moon", "salt", "wind", "glass"]
PRIVATE_WORD = "xylophone"


class Listener(Silent):
    """Keeps what an operation reports; asks it to stop once *stop_at* progress reports have come."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.phases: list[str] = []
        self.seen: list[tuple[int, int, str]] = []
        self.stop_at = stop_at

    def phase(self, name: str) -> None:
        self.phases.append(name)

    def progress(self, done: int, total: int, unit: str) -> None:
        self.seen.append((done, total, unit))

    @property
    def is_stopping(self) -> bool:  # type: ignore[override]
        return self.stop_at is not None and len(self.seen) >= self.stop_at


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    lines = []
    for index, word in enumerate(WORDS):
        turn = f"\n\nHuman: Tell me about {word}, {PRIVATE_WORD}.\n\nAssistant:"
        lines.append({"chosen": f"{turn} I like {word}.", "rejected": f"{turn} No, not {word}, never {index}."})
    lines.append({"chosen": f"{turn} Another answer.", "rejected": f"{turn} Yet another one."})  # the last prompt again
    source = folder / "pairs.jsonl"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = folder / "dataset"
    out.mkdir()
    import_files([source], out)
    return out


def _adapter(folder: Path, model: Path, seed: int, omega: float, base_hash: str) -> Path:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    policy = get_peft_model(load_base(model), LoraConfig(r=2, target_modules=["q_proj", "v_proj", "down_proj"]))
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.05)
    policy.save_pretrained(folder)
    (folder / "training.json").write_text(json.dumps({"omega": omega, "base_weights_hash": base_hash}))
    return folder


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory, dataset: Path) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("evaluation")
    model = save_tiny_llama(folder / "model")
    base_hash = weights_hash(model)
    found = {"model": model, "dataset": dataset, "scoring": folder / "scoring"}
    for index, omega in enumerate((1.5, 0.0, 0.0)):
        found[f"adapter.{index}"] = _adapter(folder / f"adapter-{index}", model, index, omega, base_hash)
    from deft.data.datasets import read_examples

    spec = EvaluateSpec(model="m", dataset="d")
    tokenized = encode_examples([e for _, e in read_examples(dataset)], load_tokenizer(model), spec.tokens)
    counts = count(tokenized, 259, {0, 1, 2})
    found["scoring"].mkdir()
    save(found["scoring"] / "distribution.safetensors", Distribution(counts, difference(counts), {}))
    return found


def _spec(**changes: object) -> EvaluateSpec:
    systems = [
        {"name": "deft", "arm": "deft", "adapter": "ad_1"},
        {"name": "random", "arm": "random", "adapter": "ad_2"},
        {"name": "random-2", "arm": "random", "adapter": "ad_3"},
    ]
    options = {"prompts": 4, "max_new_tokens": 8, "bootstrap": 100, **changes.pop("options", {})}  # type: ignore[dict-item]
    document = {
        "model": "m",
        "dataset": "ds_1",
        "scoring": "sc_1",
        "rows": {"split": "all"},
        "tokens": {"max_prompt_tokens": 300, "max_total_tokens": 400},
        "systems": systems,
        "options": options,
    }
    return EvaluateSpec.model_validate(document | changes)


def _run(spec: EvaluateSpec, inputs: dict[str, Path], out: Path, report: Silent | None = None) -> dict:
    out.mkdir()
    return run_evaluate(spec, inputs=inputs, out=out, checkpoints=None, report=report or Silent())


@pytest.fixture(scope="module")
def evaluated(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict, Listener]:
    out, listener = tmp_path_factory.mktemp("out") / "evaluation", Listener()
    return out, _run(_spec(), inputs, out, listener), listener


def _json(path: Path) -> list | dict:
    return json.loads(path.read_text())


def test_a_tuned_model_is_judged_by_its_own_head_beside_adapters(inputs: dict[str, Path], tmp_path: Path) -> None:
    """Of two copies of the base the one with another head differs in everything, the untouched one in nothing."""
    given = {**inputs, "adapter.1": tmp_path / "same", "adapter.2": tmp_path / "other"}
    for name in ("adapter.1", "adapter.2"):
        model = load_base(inputs["model"])
        if name == "adapter.2":
            generator = torch.Generator().manual_seed(0)
            model.lm_head.weight.data.add_(0.05 * torch.randn(model.lm_head.weight.shape, generator=generator))
        model.save_pretrained(given[name])
        load_tokenizer(inputs["model"]).save_pretrained(given[name])
        record = {"omega": 0.0, "base_weights_hash": weights_hash(inputs["model"])}
        (given[name] / "training.json").write_text(json.dumps(record))
    _run(_spec(), given, tmp_path / "out")
    found = {}
    for row in _json(tmp_path / "out" / "metrics.json"):
        found[row["system"], row["metric"]] = row["value"]
    assert found["random", "kl"] == found["random", "margin"] == found["random", "chosen_logp_change"] == 0
    assert found["random-2", "kl"] > 0.01
    assert found["random-2", "chosen_logp_change"] != 0
    pairs = pl.read_parquet(tmp_path / "out" / "pairs.parquet").to_dicts()
    r_d = {
        name: [row["r_d_chosen"] for row in pairs if row["system"] == name] for name in ("base", "random", "random-2")
    }
    assert r_d["random"] == r_d["base"]
    assert not set(r_d["random-2"]) & set(r_d["base"])


def test_files_are_those_of_the_contract(evaluated: tuple) -> None:
    out, _, _ = evaluated
    names = {
        "metrics.json",
        "pairs.parquet",
        "generations.jsonl",
        "comparison.json",
        "evaluation.json",
        "prompts.jsonl",
        "values.parquet",
    }
    assert {path.name for path in out.iterdir()} == names


def test_every_system_has_every_metric_but_what_the_base_has_by_definition(evaluated: tuple) -> None:
    out, _, _ = evaluated
    found: dict[str, set[str]] = {}
    for row in _json(out / "metrics.json"):
        found.setdefault(row["system"], set()).add(row["metric"])
    own = {"length", "ended", "entropy", "distinct_1", "distinct_2", "repeated", "silent"}
    generated = own | {"bleu", "bleu_char_pro"}
    assert found["base"] == generated | {"r_d_accuracy"}
    assert found["shorter"] == {"preference_accuracy"}
    pairwise = {"preference_accuracy", "margin", "chosen_logp_change", "chosen_logp_change_per_token", "r_d_accuracy"}
    for system in ("deft", "random", "random-2"):
        assert found[system] == generated | pairwise | {"kl"}


def test_metrics_follow_from_the_pairs_file(evaluated: tuple) -> None:
    out, _, _ = evaluated
    pairs = pl.read_parquet(out / "pairs.parquet")
    rows = {(row["system"], row["metric"]): row for row in _json(out / "metrics.json")}
    base = pairs.filter(pl.col("system") == "base").sort("row")
    assert base["margin"].null_count() == len(base) == len(WORDS) + 1
    for system in ("deft", "random", "random-2"):
        own = pairs.filter(pl.col("system") == system).sort("row")
        change = (own["chosen_logp"] - base["chosen_logp"]).to_numpy()
        margin = 0.1 * (change - (own["rejected_logp"] - base["rejected_logp"]).to_numpy())
        np.testing.assert_allclose(own["margin"].to_numpy(), margin, atol=1e-9)
        assert np.abs(margin).max() > 1e-3
        assert rows[system, "margin"]["value"] == pytest.approx(margin.mean())
        assert rows[system, "preference_accuracy"]["value"] == pytest.approx((margin > 0).mean())
        assert rows[system, "chosen_logp_change"]["value"] == pytest.approx(change.mean())
        expected = change.sum() / own["chosen_tokens"].sum()
        assert rows[system, "chosen_logp_change_per_token"]["value"] == pytest.approx(expected)
        right = (own["r_d_chosen"] > own["r_d_rejected"]).to_numpy().mean()
        assert rows[system, "r_d_accuracy"]["value"] == pytest.approx(right)
        assert rows[system, "margin"]["n"] == len(WORDS) + 1


def test_each_system_is_the_base_with_its_own_adapter(evaluated: tuple, inputs: dict[str, Path]) -> None:
    """Swapping adapters on one base gives what a fresh base with one adapter gives."""
    from deft.data.datasets import read_examples
    from deft.models.loading import load_policy

    out, _, _ = evaluated
    pairs = pl.read_parquet(out / "pairs.parquet")
    tokenizer = load_tokenizer(inputs["model"])
    (example,) = encode_examples([read_examples(inputs["dataset"])[3][1]], tokenizer, _spec().tokens)
    ids = example.prompt_ids + example.response_ids[0] + [2]
    for system, adapter in {"base": None, "deft": "adapter.0", "random": "adapter.1", "random-2": "adapter.2"}.items():
        base = load_base(inputs["model"])
        model = load_policy(base, inputs[adapter]) if adapter else base
        with torch.no_grad():
            logps = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        start = len(example.prompt_ids)
        expected = sum(logps[place - 1, ids[place]].item() for place in range(start, len(ids)))
        row = pairs.filter((pl.col("system") == system) & (pl.col("row") == 3))
        assert row["chosen_logp"].item() == pytest.approx(expected, abs=1e-3)


def test_r_d_is_marked_where_the_adapter_was_trained_on_it(evaluated: tuple) -> None:
    out, _, _ = evaluated
    marks = {
        row["system"]: row["is_trained_on"] for row in _json(out / "metrics.json") if row["metric"] == "r_d_accuracy"
    }
    assert marks == {"base": False, "deft": True, "random": False, "random-2": False}


def test_answers_are_kept_by_prompt_and_system_with_kl_for_all_but_the_base(evaluated: tuple) -> None:
    out, _, _ = evaluated
    lines = [json.loads(line) for line in (out / "generations.jsonl").read_text().splitlines()]
    by_system: dict[str, list[dict]] = {}
    for line in lines:
        by_system.setdefault(line["system"], []).append(line)
    assert set(by_system) == {"base", "deft", "random", "random-2"}
    rows = [line["row"] for line in by_system["base"]]
    assert len(set(rows)) == 4
    for system, own in by_system.items():
        assert [line["row"] for line in own] == rows
        assert all(line["tokens"] <= 8 for line in own)
        assert all((line["kl"] is None) == (system == "base") for line in own)
    value = next(r for r in _json(out / "metrics.json") if r["system"] == "deft" and r["metric"] == "kl")["value"]
    own = by_system["deft"]
    positions = sum(line["tokens"] + line["is_ended"] for line in own)
    assert value == pytest.approx(sum(line["kl"] for line in own) / positions)
    assert value > 0


def test_lists_are_judged_with_every_response(inputs: dict[str, Path], tmp_path: Path) -> None:
    rows = [
        {"prompt": f"Say {word}.", "responses": [word, f"not {word}", "no", "never"][: 2 + index % 3]}
        for index, word in enumerate(WORDS[:6])
    ]
    (tmp_path / "lists.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "lists").mkdir()
    import_files([tmp_path / "lists.jsonl"], tmp_path / "lists")
    out = tmp_path / "out"
    metrics = ["preference_accuracy", "ranking_accuracy", "margin", "r_d_accuracy"]
    options = {"prompts": 0, "metrics": metrics}
    summary = _run(_spec(options=options), {**inputs, "dataset": tmp_path / "lists"}, out)
    assert (summary["pairs"], summary["pair_prompts"]) == (2 * (1 + 2 + 3), 6)
    assert "12 pairs of 6 prompts" in summary["sentence"]
    own = pl.read_parquet(out / "pairs.parquet").filter(pl.col("system") == "deft")
    assert own.select("row", "rejected").rows() == [(r, k) for r in range(6) for k in range(1, 2 + r % 3)]
    values = {row["metric"]: row for row in _json(out / "metrics.json") if row["system"] == "deft"}
    by_row = own.group_by("row").agg(
        (pl.col("margin") > 0).mean(), right=(pl.col("r_d_chosen") > pl.col("r_d_rejected")).mean()
    )
    assert values["preference_accuracy"]["value"] == pytest.approx(by_row["margin"].mean())
    assert values["r_d_accuracy"]["value"] == pytest.approx(by_row["right"].mean())
    assert 0 <= values["ranking_accuracy"]["low"] <= values["ranking_accuracy"]["value"] <= 1


def test_a_prompt_that_stands_twice_is_answered_once(inputs: dict[str, Path], tmp_path: Path) -> None:
    summary = _run(_spec(options={"prompts": 50, "metrics": ["length"]}), inputs, tmp_path / "out")
    assert summary["answered_prompts"] == len(WORDS)
    assert summary["pairs"] == 0


def test_comparison_speaks_of_the_focus_and_pools_draws(evaluated: tuple) -> None:
    out, summary, _ = evaluated
    comparison = _json(out / "comparison.json")
    assert comparison["focus"] == "deft"
    assert comparison["sentence"] == summary["sentence"]
    assert "`deft` is" in comparison["sentence"]
    assert "not compared with training on everything" in comparison["sentence"]
    assert [row["arm"] for row in comparison["table"]] == ["base", "shorter", "deft", "random"]
    assert [row["draws"] for row in comparison["table"]] == [1, 1, 1, 2]
    random = [
        row["value"] for row in _json(out / "metrics.json") if row["arm"] == "random" and row["metric"] == "margin"
    ]
    assert comparison["table"][3]["cells"]["margin"]["value"] == pytest.approx(np.mean(random))


def test_any_two_sides_can_be_compared_later_as_the_comparison_compares_its_own(
    evaluated: tuple, tmp_path: Path
) -> None:
    """From values.parquet alone: two draws of `random`, the luck of a run, the very numbers of comparison.json."""
    folder = shutil.copytree(evaluated[0], tmp_path / "copy")
    told = _json(folder / "comparison.json")["differences"]
    (folder / "comparison.json").unlink()
    measured = read_measured(folder)
    found = [each for each in told if each["slice"] == "all" and (each["metric"], each["against"]) != ("kl", "base")]
    assert {(each["arm"], each["against"]) for each in found} == {("deft", "random"), ("deft", "base")}
    for each in found:
        change = measured.difference(measured.runs(each["arm"]), measured.runs(each["against"]), each["metric"])
        numbers = tuple(each[name] for name in ("difference", "low", "high"))
        assert (change.value, change.low, change.high) == pytest.approx(numbers, abs=1e-9), each["metric"]
        assert (change.is_paired, change.has_luck) == (True, True)
        assert (change.p, change.effect_size) == pytest.approx((each["p"], each["effect_size"]), abs=1e-9)


def test_the_gate_goes_by_the_numbers_of_the_comparison(evaluated: tuple) -> None:
    """Against the arm of two draws, with the luck of a run: what the evaluation itself says of it."""
    told = {each["against"]: each for each in _json(evaluated[0] / "comparison.json")["differences"] if _is_main(each)}
    for against in ("random", "base"):
        rules = {"name": "p", "forgetting": {"metric": "margin", "at_most": 1e6}, "safety": {"at_most": 1.0}}
        policy = PolicySpec.model_validate({**rules, "gain": {"at_least": -1.0, "against": against}})
        gain, forgetting, *_ = decide(policy, read_measured(evaluated[0]), "deft")
        assert (gain.value, gain.low, gain.high) == tuple(told[against][n] for n in ("difference", "low", "high"))
        assert (gain.bound, gain.has_luck, gain.is_met) == (gain.low, True, True)
    margin = next(r for r in _json(evaluated[0] / "metrics.json") if (r["system"], r["metric"]) == ("deft", "margin"))
    assert forgetting.value == pytest.approx(-margin["value"])


def _is_main(difference: dict) -> bool:
    return (difference["metric"], difference["slice"]) == ("preference_accuracy", "all")


def test_summary_is_json_without_a_word_of_the_users(evaluated: tuple) -> None:
    out, summary, _ = evaluated
    text = json.dumps(summary, allow_nan=False)
    assert PRIVATE_WORD not in text
    assert PRIVATE_WORD not in (out / "comparison.json").read_text() + (out / "evaluation.json").read_text()
    assert (summary["pairs"], summary["pair_prompts"], summary["answered_prompts"]) == (13, 12, 4)


def test_progress_counts_pairs_and_answers_of_all_systems(evaluated: tuple) -> None:
    _, _, listener = evaluated
    assert listener.phases == ["loading", "likelihoods", "answers", "comparing"]
    assert (52, 52, "pairs") in listener.seen
    assert (16, 16, "answers") in listener.seen
    done = [seen[0] for seen in listener.seen if seen[2] == "pairs"]
    assert done == sorted(done)


@pytest.mark.parametrize("stop_at", [1, 6])
def test_it_stops_between_batches_when_asked(inputs: dict[str, Path], tmp_path: Path, stop_at: int) -> None:
    listener = Listener(stop_at)
    with pytest.raises(Interrupted):
        _run(_spec(), inputs, tmp_path / "out", listener)
    assert len(listener.seen) == stop_at


def test_same_spec_gives_the_same_numbers_and_hashes_and_other_settings_other_hashes(
    evaluated: tuple, inputs: dict[str, Path], tmp_path: Path
) -> None:
    out, _, _ = evaluated
    _run(_spec(), inputs, tmp_path / "again")
    assert (tmp_path / "again" / "metrics.json").read_bytes() == (out / "metrics.json").read_bytes()
    _run(_spec(options={"beta": 0.2}), inputs, tmp_path / "other")
    before, after = (
        {row["metric"]: row["settings_hash"] for row in _json(path / "metrics.json")}
        for path in (out, tmp_path / "other")
    )
    assert {metric for metric in before if before[metric] != after[metric]} == {"preference_accuracy", "margin"}


def test_pairs_are_limited_by_a_seeded_sample(inputs: dict[str, Path], tmp_path: Path) -> None:
    rows = []
    for name, seed in {"a": 0, "b": 0, "c": 1}.items():
        options = {"pairs": 5, "metrics": ["preference_accuracy"], "prompts": 0, "seed": seed}
        _run(_spec(options=options), inputs, tmp_path / name)
        rows.append(pl.read_parquet(tmp_path / name / "pairs.parquet")["row"].unique().sort().to_list())
    assert len(rows[0]) == 5
    assert rows[0] == rows[1] != rows[2]


def test_base_alone_is_measured_and_compared_with_nothing(inputs: dict[str, Path], tmp_path: Path) -> None:
    summary = _run(_spec(systems=[]), inputs, tmp_path / "out")
    assert summary["sentence"].startswith("Only the base was measured")
    assert {row["system"] for row in _json(tmp_path / "out" / "metrics.json")} == {"base", "shorter"}


def test_without_a_scoring_r_d_is_left_out(inputs: dict[str, Path], tmp_path: Path) -> None:
    without = {name: folder for name, folder in inputs.items() if name != "scoring"}
    _run(_spec(scoring=None), without, tmp_path / "out")
    assert "r_d_accuracy" not in {row["metric"] for row in _json(tmp_path / "out" / "metrics.json")}
    assert pl.read_parquet(tmp_path / "out" / "pairs.parquet")["r_d_chosen"].null_count() == 52


def _refused(spec: EvaluateSpec, inputs: dict[str, Path], out: Path) -> tuple[str, str | None]:
    with pytest.raises(InvalidInput) as caught:
        _run(spec, inputs, out)
    return caught.value.error_code, caught.value.findings[0].pointer


def test_an_empty_held_out_split_is_refused(inputs: dict[str, Path], tmp_path: Path) -> None:
    fractions = {"train": 1.0, "reward_model": 0.0, "evaluation": 0.0}
    spec = _spec(rows={"split": "evaluation", "fractions": fractions})
    assert _refused(spec, inputs, tmp_path / "out")[0] == "empty_split"


def test_an_unknown_adapter_is_refused(inputs: dict[str, Path], tmp_path: Path) -> None:
    without = {name: folder for name, folder in inputs.items() if name != "adapter.1"}
    assert _refused(_spec(), without, tmp_path / "a") == ("unknown_adapter", "/systems/1/adapter")
    wrong = inputs | {"adapter.2": inputs["dataset"]}
    assert _refused(_spec(), wrong, tmp_path / "b") == ("unknown_adapter", "/systems/2/adapter")


def test_an_adapter_of_another_base_is_refused(inputs: dict[str, Path], tmp_path: Path) -> None:
    other = save_tiny_llama(tmp_path / "other", seed=9)
    found = _refused(_spec(), inputs | {"model": other}, tmp_path / "out")
    assert found == ("adapter_of_another_base", "/systems/0/adapter")


@pytest.mark.parametrize("index", [0, 1])
def test_an_adapter_that_does_not_fit_the_base_is_refused(index: int, inputs: dict[str, Path], tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    from tests.models import tiny_llama

    wide = get_peft_model(tiny_llama(vocabulary_size=300), LoraConfig(r=2, target_modules=["lm_head"]))
    wide.save_pretrained(tmp_path / "wide")
    with pytest.raises(InvalidInput):
        _run(_spec(), inputs | {f"adapter.{index}": tmp_path / "wide"}, tmp_path / "out")


def test_prompts_and_answers_beyond_the_context_are_refused(inputs: dict[str, Path], tmp_path: Path) -> None:
    found = _refused(_spec(options={"max_new_tokens": 500}), inputs, tmp_path / "out")
    assert found == ("context_too_short", "/options/max_new_tokens")


@pytest.mark.parametrize("options", [{"prompts": 0, "metrics": ["kl", "bleu"]}, {"metrics": ["r_d_accuracy"]}])
def test_metrics_that_nothing_is_left_of_are_refused(options: dict, inputs: dict[str, Path], tmp_path: Path) -> None:
    assert _refused(_spec(options=options, scoring=None), inputs, tmp_path / "out")[0] == "nothing_to_measure"


def test_rows_whose_prompts_were_trained_on_are_left_out_and_said_to_be(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    # The last prompt stands in two rows; a sample of one row of this dataset is one of them or neither.
    trained = {"dataset": "ds_2", "rows": {"split": "all", "sample": 1}}
    spec = _spec(apart_from=trained, scoring=None, options={"metrics": ["margin"], "prompts": 0})
    given = {name: folder for name, folder in inputs.items() if name != "scoring"}
    summary = _run(spec, {**given, "apart_from": inputs["dataset"]}, tmp_path / "out")
    row = chosen_rows(inputs["dataset"], spec.apart_from.rows)[0]
    alike = {11, 12} if row in (11, 12) else {row}
    judged = set(pl.read_parquet(tmp_path / "out" / "pairs.parquet")["row"])
    assert judged == set(range(len(WORDS) + 1)) - alike
    assert summary["rows_left_out"] == len(alike)
    assert "begins with the same user turn" in _json(tmp_path / "out" / "comparison.json")["sentence"]


def test_prompts_that_are_cut_are_counted(inputs: dict[str, Path], tmp_path: Path) -> None:
    limit = len(f"\n\nHuman: Tell me about a cat, {PRIVATE_WORD}.\n\nAssistant:")  # the tokens are bytes
    long = [word for word in [*WORDS, WORDS[-1]] if len(word) > len("a cat")]
    tokens = {"max_prompt_tokens": limit, "max_total_tokens": 400}
    spec = _spec(tokens=tokens, scoring=None, options={"metrics": ["margin", "length"], "prompts": 99})
    given = {name: folder for name, folder in inputs.items() if name != "scoring"}
    summary = _run(spec, given, tmp_path / "out")
    assert 0 < len(long) < len(WORDS)
    assert (summary["pairs_cut"], summary["answered_prompts_cut"]) == (len(long), len(long))


def test_an_evaluation_of_trained_prompts_alone_is_refused(inputs: dict[str, Path], tmp_path: Path) -> None:
    spec = _spec(apart_from={"dataset": "ds_1"})
    with pytest.raises(InvalidInput, match="held out") as error:
        _run(spec, {**inputs, "apart_from": inputs["dataset"]}, tmp_path / "out")
    assert error.value.findings[0].pointer == "/apart_from"


def test_what_the_scoring_warns_of_is_in_the_first_lines(inputs: dict[str, Path], tmp_path: Path) -> None:
    scoring = tmp_path / "scoring"
    shutil.copytree(inputs["scoring"], scoring)
    (scoring / "discrepancy.json").write_text(json.dumps({"warnings": ["Q_diff may be noise."]}))
    spec = _spec(options={"metrics": ["preference_accuracy"], "prompts": 0})
    _run(spec, {**inputs, "scoring": scoring}, tmp_path / "out")
    assert _json(tmp_path / "out" / "comparison.json")["sentences"][1] == "Q_diff may be noise."
