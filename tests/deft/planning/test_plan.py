"""The planner over whole specs: what each operation works on, what it costs, and that no settings break it."""

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deft.data.datasets import import_files
from deft.errors import InvalidInput
from deft.planning.documents import Queue
from deft.planning.plan import Planner
from deft.planning.source import DataSource, open_model
from deft.planning.summary import plan_document
from deft.specs import (
    DpoMethod,
    Lora,
    Method,
    Optimisation,
    PipelineSpec,
    ProMethod,
    Rows,
    Selection,
    SftMethod,
    SftStage,
    TrainSpec,
)
from tests.models import TINY_CONFIG, write_model_files

QUEUE = Queue(basis="measured", jobs_running=0, jobs_queued_before=0, wait_seconds=0.0)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model_files(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty lists of four responses; the longer the number, the longer the best response."""
    folder = tmp_path_factory.mktemp("lists")
    rows = [
        {"prompt": f"Question {n}?", "responses": ["a" * (n + 1), "bb" * 9, "c" * 7, "d"], "scores": [4, 3, 2, 1]}
        for n in range(60)
    ]
    (folder / "rows.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    import_files([folder / "rows.jsonl"], folder / "dataset")
    return folder / "dataset"


def planned(model: Path, data: Path, spec: Any, reward_models: dict[str, Any] | None = None) -> Planner:
    source = open_model("tiny", model)
    planner = Planner(source, {"ds_1": DataSource(data, source.tokenizer, spec.tokens)})
    planner.reward_models = reward_models or {}
    planner.plan(spec)
    return planner


def training(model: Path, data: Path, method: Method, **fields: Any) -> Planner:
    return planned(model, data, TrainSpec(data="ds_1", model="tiny", method=method, **fields))


def test_each_method_is_planned_with_the_responses_that_it_looks_at(model_folder: Path, lists: Path) -> None:
    tokens = {}
    for method in (SftMethod(), DpoMethod(), DpoMethod(rejected="second"), ProMethod()):
        planner = training(model_folder, lists, method)
        (cost,) = planner.costs
        tokens[method.model_dump_json()] = cost.work.trained_tokens
        assert cost.work.rows == 60
    sft, last, second, pro = tokens.values()
    prompt = 12 - 10 / 60  # ten numbers have one digit
    best = 30.5
    assert sft == pytest.approx(60 * (prompt + best))  # the end token stands for the last, which is not read
    assert last == pytest.approx(sft + 60 * 1)
    assert second == pytest.approx(sft + 60 * 18)
    assert pro == pytest.approx(sft + 60 * (18 + 7 + 1))


def test_pro_needs_no_reference_and_dpo_does(model_folder: Path, lists: Path) -> None:
    pro, dpo = (training(model_folder, lists, method, drift=None).costs[0] for method in (ProMethod(), DpoMethod()))
    assert (pro.forward_flops, pro.work.forward_tokens) == (0.0, 0)
    assert dpo.work.forward_tokens == dpo.work.trained_tokens


def test_the_arm_length_is_longer_and_full_is_everything(model_folder: Path, lists: Path) -> None:
    spec = PipelineSpec(
        dataset="ds_1", model="tiny", selection=Selection(count=6), arms=["deft", "length", "full"], random_draws=1
    )
    planner = planned(model_folder, lists, spec)
    work = {cost.work.name: cost.work for cost in planner.costs}
    scored = len(DataSource(lists, None, spec.tokens).numbers(Rows(split="train")))
    assert (work["score"].rows, work["train:full"].rows, work["train:deft"].rows) == (scored, scored, 6)
    assert work["train:length"].trained_tokens > 1.2 * work["train:deft"].trained_tokens
    assert planner.facts.held_out is not None
    assert {"score", "train", "evaluate"} <= planner.memory.keys()


def test_an_sft_stage_is_planned_and_the_start_is_evaluated(model_folder: Path, lists: Path) -> None:
    settings: dict[str, Any] = {"dataset": "ds_1", "model": "tiny", "arms": ["deft"]}
    with_stage = PipelineSpec(**settings, sft=SftStage(sample=10, optimisation=Optimisation(batch_size=4, epochs=2)))
    plain, started = (
        {cost.work.name: cost.work for cost in planned(model_folder, lists, spec).costs}
        for spec in (PipelineSpec(**settings), with_stage)
    )
    assert started.keys() - plain.keys() == {"sft"}
    assert (started["sft"].rows, started["sft"].steps) == (10, 6)
    assert started["sft"].trained_tokens > 0
    assert started["evaluate"].forward_tokens > 1.2 * plain["evaluate"].forward_tokens


def test_the_micro_batch_asked_for_is_planned(model_folder: Path, lists: Path) -> None:
    sizes = {}
    for size in (1, 4, None):
        planner = training(model_folder, lists, DpoMethod(), optimisation=Optimisation(micro_batch_size=size))
        sizes[size] = planner.memory["train"].pass_tokens
    longest = 12 + 60 + 1
    assert (sizes[1], sizes[4], sizes[None]) == (longest, 4 * longest, 8 * longest)  # one step is all there is to pass


def test_a_window_shorter_than_the_rows_unshares_them(tmp_path: Path, lists: Path, model_folder: Path) -> None:
    windowed = write_model_files(tmp_path, {"model_type": "mistral", "sliding_window": 200})
    shared, apart = (training(folder, lists, DpoMethod()).costs[0].work for folder in (model_folder, windowed))
    prompts = 60 * (12 - 10 / 60)
    assert apart.trained_tokens == pytest.approx(shared.trained_tokens + prompts)


def test_full_precision_takes_twice_the_weights(model_folder: Path, lists: Path) -> None:
    half, full = (
        training(model_folder, lists, DpoMethod(), optimisation=Optimisation(precision=p)).memory["train"]
        for p in ("auto", "fp32")
    )
    assert (half.precision, full.precision) == ("bf16", "fp32")
    assert full.weights_bytes == 2 * half.weights_bytes


junk = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.integers(min_value=10**30, max_value=10**400),
)
FIELDS = [
    *TINY_CONFIG,
    *("head_dim", "logit_scale", "logits_scaling", "final_logit_softcapping", "text_config", "sliding_window"),
    *("is_encoder_decoder", "quantization_config", "output_logit_soft_cap", "attention_bias", "use_sliding_window"),
]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.dictionaries(st.sampled_from(FIELDS), junk, min_size=1, max_size=3))
def test_no_config_breaks_the_planner(tmp_path: Path, model_folder: Path, lists: Path, changes: dict[str, Any]) -> None:
    folder = tmp_path / "model"
    folder.mkdir(exist_ok=True)
    for file in model_folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "config.json").write_text(json.dumps({**TINY_CONFIG, **changes}))
    spec = TrainSpec(data="ds_1", model="tiny", rows=Rows(sample=2), lora=Lora(r=2))
    try:
        planner = planned(folder, lists, spec)
    except InvalidInput as error:
        assert error.findings[0].pointer
        return
    document = plan_document(spec, planner, QUEUE)
    assert json.loads(document.model_dump_json())["data"]["rows_trained"] == 2
