"""Prompt sets in an evaluation of a tiny model: two turns, repeats, safety rates, overlap, an endpoint's answers."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from deft.data.datasets import import_files
from deft.endpoints import Endpoint
from deft.errors import InvalidInput, Unavailable
from deft.evaluation.generation import Decoding, Questions
from deft.evaluation.run import run_evaluate
from deft.evaluation.served import by_server
from deft.models.loading import load_base, weights_hash
from deft.reports import Silent
from deft.specs import EvaluateSpec, Server
from tests.judge_server import Scripted, judge_server
from tests.models import byte_tokenizer, save_tiny_llama

MT_BENCH = [
    {"question_id": i, "category": "writing", "turns": [f"Write line {i}.", "Now another."], "reference": ["a", "b"]}
    for i in range(3)
]
TRAINED = "Is this number 3 safe?"


def _set(folder: Path, name: str, content: str) -> Path:
    (folder / name).write_text(content)
    import_files([folder / name], folder / Path(name).stem)
    return folder / Path(name).stem


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    import torch
    from peft import LoraConfig, get_peft_model

    folder = tmp_path_factory.mktemp("sets")
    model = save_tiny_llama(folder / "model")
    torch.manual_seed(0)
    policy = get_peft_model(load_base(model), LoraConfig(r=2, target_modules=["q_proj", "down_proj"]))
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.2)
    policy.save_pretrained(folder / "adapter")
    (folder / "adapter" / "training.json").write_text(json.dumps({"base_weights_hash": weights_hash(model)}))
    pairs = [{"prompt": f"Say {i}.", "chosen": "Yes.", "rejected": "No."} for i in range(5)]
    pairs.append({"prompt": TRAINED, "chosen": "Yes.", "rejected": "No."})
    rows = [f"{i},Is this number {i} safe?,t{i % 2},{'safe' if i < 12 else 'unsafe'}" for i in range(24)]
    return {
        "model": model,
        "adapter.0": folder / "adapter",
        "dataset": _set(folder, "pairs.jsonl", "".join(json.dumps(pair) + "\n" for pair in pairs)),
        "prompt_set.0": _set(folder, "bench.jsonl", "".join(json.dumps(row) + "\n" for row in MT_BENCH)),
        "prompt_set.1": _set(folder, "xstest.csv", "\n".join(["id,prompt,type,label", *rows]) + "\n"),
    }


def spec_of(**options: Any) -> EvaluateSpec:
    return EvaluateSpec.model_validate(
        {
            "model": "m",
            "dataset": "ds_1",
            "rows": {"split": "all"},
            "systems": [{"name": "deft", "arm": "deft", "adapter": "ad_1"}],
            "prompt_sets": ["ds_bench", "ds_xstest"],
            "tokens": {"max_prompt_tokens": 200, "max_total_tokens": 300},
            "options": {"metrics": ["length"], "prompts": 2, "max_new_tokens": 6, "bootstrap": 100, **options},
        }
    )


def _run(spec: EvaluateSpec, inputs: dict[str, Path], out: Path, endpoint: Endpoint | None = None) -> dict[str, Any]:
    out.mkdir()
    return run_evaluate(spec, inputs=inputs, out=out, checkpoints=None, report=Silent(), endpoint=endpoint)


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def evaluated(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("out") / "evaluation"
    return out, _run(spec_of(), inputs, out)


def test_every_system_answers_every_turn_of_every_prompt(evaluated: tuple) -> None:
    lines = _lines(evaluated[0] / "generations.jsonl")
    for system in ("base", "deft"):
        own = [(line["set"], line["row"], line["turn"]) for line in lines if line["system"] == system]
        assert len(own) == len(set(own)) == 2 + 3 * 2 + 24
    asked = _lines(evaluated[0] / "prompts.jsonl")
    assert [one["set"] for one in asked] == ["held_out"] * 2 + ["ds_bench"] * 3 + ["ds_xstest"] * 24
    assert asked[2]["further"] == ["Now another."]
    assert asked[2]["reference"] == ["a", "b"]


def test_a_second_turn_follows_the_models_own_first_answer(evaluated: tuple, inputs: dict[str, Path]) -> None:
    from deft.evaluation.conversations import Speaker, in_memory, layout
    from deft.evaluation.generation import Decoding, Questions, end_ids
    from deft.examples import Example
    from deft.models.loading import load_tokenizer
    from deft.tokens import encode_examples, end_token_id

    lines = [line for line in _lines(evaluated[0] / "generations.jsonl") if line["set"] == "ds_bench"]
    said = {(line["row"], line["turn"]): line["text"] for line in lines if line["system"] == "base"}
    model, tokenizer, spec = load_base(inputs["model"]), load_tokenizer(inputs["model"]), spec_of()
    speaker = Speaker(
        in_memory(model, tokenizer, Decoding(6, end_ids(model, end_token_id(tokenizer)))),
        tokenizer,
        layout(spec.tokens, tokenizer),
    )
    messages = [
        {"role": "user", "content": "Write line 1."},
        {"role": "assistant", "content": said[1, 1]},
        {"role": "user", "content": "Now another."},
    ]
    (encoded,) = encode_examples([Example(messages, ())], tokenizer, speaker.options)  # type: ignore[arg-type]
    (answer,) = speaker.answering(Questions([encoded.prompt_ids], [False]), lambda _: None)
    assert answer.text == said[1, 2]


def test_the_summary_tells_of_each_set_and_the_metrics_have_slices(evaluated: tuple) -> None:
    out, summary = evaluated
    bench, xstest = summary["prompt_sets"]
    assert (bench["prompt_set"], bench["prompts"], bench["answers"], bench["trained_on"]) == ("ds_bench", 3, 12, None)
    assert xstest["answers"] == 48
    rows = json.loads((out / "metrics.json").read_text())
    lengths = {(row["system"], row["slice"]): row for row in rows if row["metric"] == "length"}
    assert set(lengths) == {(s, p) for s in ("base", "deft") for p in ("all", "set:ds_bench", "set:ds_xstest")}
    lines = [
        line for line in _lines(out / "generations.jsonl") if (line["system"], line["set"]) == ("deft", "ds_xstest")
    ]
    assert lengths["deft", "set:ds_xstest"]["value"] == pytest.approx(sum(x["tokens"] for x in lines) / 24)
    assert lengths["deft", "all"]["settings_hash"] != lengths["deft", "set:ds_bench"]["settings_hash"]


def test_every_settings_hash_is_of_settings_that_stand_beside_the_metrics(
    evaluated: tuple, inputs: dict[str, Path], tmp_path: Path
) -> None:
    from deft.evaluation.settings import hash_of

    unlabelled = spec_of().model_copy(update={"prompt_sets": ["ds_bench"]})
    _run(unlabelled, {name: path for name, path in inputs.items() if name != "prompt_set.1"}, tmp_path / "out")
    for out in (evaluated[0], tmp_path / "out"):
        told = json.loads((out / "evaluation.json").read_text())["settings"]
        safety = out / "safety.json"
        assert safety.is_file() == (out == evaluated[0])
        known = {hash_of(each) for each in told.values()}
        known |= {hash_of(json.loads(safety.read_text())["settings"])} if safety.is_file() else set()
        rows = json.loads((out / "metrics.json").read_text())
        assert {row["settings_hash"] for row in rows} <= known
        of_sets = {row["settings_hash"] for row in rows if row["slice"].startswith("set:")}
        assert of_sets == {hash_of(told["set:*"])}


def test_safety_rates_stand_in_the_metrics_and_in_a_file_of_their_own(evaluated: tuple) -> None:
    from deft.safety.refusals import kind_of

    out, summary = evaluated
    found = json.loads((out / "safety.json").read_text())
    kinds = [
        kind_of(x["text"])
        for x in _lines(out / "generations.jsonl")
        if (x["system"], x["set"]) == ("deft", "ds_xstest")
    ]
    incoherent = next(
        r for r in found["rates"] if (r["system"], r["metric"], r["slice"]) == ("deft", "incoherent", "all")
    )
    assert incoherent["value"] == pytest.approx(kinds.count("incoherent") / 24)
    in_metrics = {(r["system"], r["metric"], r["slice"]) for r in json.loads((out / "metrics.json").read_text())}
    assert {(r["system"], r["metric"], r["slice"]) for r in found["rates"]} <= in_metrics
    assert all(row["against"] == "base" for row in found["differences"])
    evaluation = json.loads((out / "evaluation.json").read_text())
    assert evaluation["settings"]["over_refusal"] == found["settings"]
    assert found["settings"]["base_weights"] == evaluation["settings"]["length"]["base_weights"]
    assert all(row["slice"] == "all" for row in summary["safety"])


def test_safety_rates_are_sums_of_values_in_the_parquet(evaluated: tuple) -> None:
    import pyarrow.parquet as pq

    rows = pq.read_table(evaluated[0] / "values.parquet").to_pylist()
    rates = json.loads((evaluated[0] / "safety.json").read_text())["rates"]
    assert rates
    for rate in rates:
        own = [
            row["sums"]
            for row in rows
            if (row["system"], row["metric"]) == (rate["system"], rate["metric"])
            and rate["slice"] in ("all", f"category:{row['category']}")
        ]
        hits, counted = (sum(each) for each in zip(*own, strict=True))
        assert rate["value"] == pytest.approx(hits / counted)
    held_out = [row for row in rows if row["set"] is None]
    assert {row["metric"] for row in held_out} == {"length", "ended"}
    assert {row["kind"] for row in rows if row["metric"] == "length"} == {None}


def test_no_prompt_of_a_set_stands_in_summary_or_numbers(evaluated: tuple) -> None:
    out, summary = evaluated
    for name in ("metrics.json", "safety.json", "evaluation.json", "comparison.json"):
        assert "Write line" not in (out / name).read_text()
    assert "Is this number" not in json.dumps(summary)


def test_repeats_are_drawn_by_seed_and_stored_apart(inputs: dict[str, Path], tmp_path: Path) -> None:
    sampling = {"temperature": 1.0, "repeats": 3, "seed": 1}
    for name in ("one", "two"):
        _run(spec_of(sampling=sampling), inputs, tmp_path / name)
    one, two = (_lines(tmp_path / name / "generations.jsonl") for name in ("one", "two"))
    assert one == two
    own = [x for x in one if (x["system"], x["set"], x["row"]) == ("base", "ds_xstest", 0)]
    assert [x["sample"] for x in own] == [0, 1, 2]
    assert len({x["text"] for x in own}) > 1


def test_overlap_with_training_prompts_is_reported(inputs: dict[str, Path], tmp_path: Path) -> None:
    document = spec_of().model_dump(mode="json")
    document["apart_from"] = {"dataset": "ds_2", "rows": {"split": "all"}}
    document["dataset"] = "ds_1"
    other = tmp_path / "other"
    other.mkdir()
    (other / "o.jsonl").write_text(json.dumps({"prompt": "Fresh.", "chosen": "Yes.", "rejected": "No."}) + "\n")
    import_files([other / "o.jsonl"], other / "dataset")
    given = {**inputs, "apart_from": inputs["dataset"], "dataset": other / "dataset"}
    summary = _run(EvaluateSpec.model_validate(document), given, tmp_path / "out")
    assert [one["trained_on"] for one in summary["prompt_sets"]] == [0, 1]


def test_answers_that_do_not_fit_are_refused_before_anything_runs(inputs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as refusal:
        _run(spec_of(max_new_tokens=1000), inputs, tmp_path / "out")
    assert refusal.value.findings[0].pointer == "/options/max_new_tokens"


def test_a_server_answers_in_the_models_place(inputs: dict[str, Path], tmp_path: Path) -> None:
    """The script answers with the name that it serves a system by, so each answer tells who was asked."""
    server = {"endpoint": "vllm", "models": {"base": "served-base", "deft": "served-deft"}}
    with judge_server(Scripted(lambda name: f"from {name}")) as script:
        spec = spec_of(server=server, max_new_tokens=40)
        _run(spec, inputs, tmp_path / "out", Endpoint(script.url, "k"))
    lines = _lines(tmp_path / "out" / "generations.jsonl")
    assert {(x["system"], x["text"], x["is_ended"]) for x in lines} == {
        ("base", "from served-base", True),
        ("deft", "from served-deft", True),
    }
    assert all(isinstance(body["prompt"][0], int) and body["temperature"] == 0 for body in script.asked)
    assert len(script.asked) == 2 * (2 + 3 * 2 + 24)


def test_an_answer_of_a_server_is_cut_where_its_own_prompt_asks_for_that() -> None:
    said = "Yes.\n\nHuman: And you?"
    server, tokenizer = Server(endpoint="vllm", models={"base": "b"}), byte_tokenizer()
    with judge_server(Scripted(lambda _: said)) as script:
        ask = by_server(Endpoint(script.url, "k"), server, "base", tokenizer, Decoding(40, frozenset({2})))
        found = ask(Questions([[5], [6], [7]], [False, True, False]), lambda _: None)
    assert [answer.text for answer in found] == [said, "Yes.", said]


def test_a_key_that_the_server_repeats_is_not_kept(inputs: dict[str, Path], tmp_path: Path) -> None:
    key = "sk-never-shown"
    server = {"endpoint": "vllm", "models": {"base": "b", "deft": "d"}}
    with judge_server(Scripted(lambda _: f"Bearer {key} it was")) as script:
        _run(spec_of(server=server, max_new_tokens=40), inputs, tmp_path / "out", Endpoint(script.url, key))
    assert {x["text"] for x in _lines(tmp_path / "out" / "generations.jsonl")} == {"Bearer [key] it was"}
    assert all(key.encode() not in path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())


def test_a_prompt_that_the_server_refuses_is_told_with_its_length(inputs: dict[str, Path], tmp_path: Path) -> None:
    server = {"endpoint": "vllm", "models": {"base": "b", "deft": "d"}, "concurrency": 1}
    with judge_server(Scripted(lambda _: "yes", refusals=[400])) as script, pytest.raises(InvalidInput) as refusal:
        _run(spec_of(server=server, max_new_tokens=40), inputs, tmp_path / "out", Endpoint(script.url, "k"))
    (finding,) = refusal.value.findings
    assert (refusal.value.error_code, finding.code, finding.pointer) == (*["server_refused"] * 2, "/options/server")
    tokens = len(script.asked[0]["prompt"])
    told = f"1 refused, the first of them row [0-5] of held_out: status 400 for {tokens} tokens and an answer of "
    assert re.fullmatch(f"{told}at most 40", finding.found)
    assert len(script.asked) == 2  # the other prompt was asked too, and kept


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"choices": []}, "no answer in the reply"),
        ({"choices": [{"index": 0, "text": None}]}, "no answer in the reply"),
        ({"choices": [{"index": 0, "text": "", "finish_reason": "content_filter"}]}, "the answer was filtered"),
    ],
)
def test_a_prompt_that_the_server_answers_without_a_choice_is_refused_alone(
    inputs: dict[str, Path], tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    left = [change]

    def block_the_first(document: dict[str, Any]) -> None:
        document.update(left.pop() if left else {})

    server = {"endpoint": "vllm", "models": {"base": "b", "deft": "d"}, "concurrency": 1}
    scripted = Scripted(lambda _: "yes", change=block_the_first)
    with judge_server(scripted) as script, pytest.raises(InvalidInput) as refusal:
        _run(spec_of(server=server, max_new_tokens=40), inputs, tmp_path / "out", Endpoint(script.url, "k"))
    (finding,) = refusal.value.findings
    assert finding.code == "server_refused"
    assert re.match(f"1 refused, the first of them row [0-5] of held_out: {reason} for", finding.found)
    assert len(script.asked) == 2  # the other prompt was asked too, and kept


@pytest.mark.parametrize(
    "outage",
    [
        {"choices": None, "error": {"message": "no", "code": 500}},
        {"choices": [{"index": 0, "text": "", "finish_reason": "abort"}]},
    ],
)
def test_an_outage_of_a_server_that_is_told_with_status_200_is_none_of_a_prompt(
    inputs: dict[str, Path], tmp_path: Path, outage: dict[str, Any]
) -> None:
    server = {"endpoint": "vllm", "models": {"base": "b", "deft": "d"}, "concurrency": 1}
    scripted = Scripted(lambda _: "yes", change=lambda document: document.update(outage))
    with judge_server(scripted) as script, pytest.raises(Unavailable, match="not answer as an OpenAI-compatible"):
        _run(spec_of(server=server, max_new_tokens=40), inputs, tmp_path / "out", Endpoint(script.url, "k"))


def test_a_server_must_serve_every_system() -> None:
    with pytest.raises(ValueError, match="a served model for each of base, deft, and for nothing else"):
        spec_of(server={"endpoint": "vllm", "models": {"base": "b"}})


def test_without_the_endpoint_the_job_says_what_is_missing(inputs: dict[str, Path], tmp_path: Path) -> None:
    server = {"endpoint": "vllm", "models": {"base": "b", "deft": "d"}}
    with pytest.raises(InvalidInput) as refusal:
        _run(spec_of(server=server), inputs, tmp_path / "out")
    assert refusal.value.findings[0].pointer == "/options/server/endpoint"


def test_sets_alone_are_answered_and_nothing_held_out(inputs: dict[str, Path], tmp_path: Path) -> None:
    summary = _run(spec_of(prompts=0), inputs, tmp_path / "out")
    assert summary["sentence"].endswith("Drift of `deft`: KL not measured, log p(chosen) not measured.")
    rows = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert {row["system"] for row in rows} == {"base", "deft"}
    assert not [line for line in _lines(tmp_path / "out" / "generations.jsonl") if line["set"] == "held_out"]
