"""What a plan says of cards that are too small: what it names makes it fit; where it names nothing, nothing does."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deft.planning import advice, memory, passes
from deft.planning.documents import Card, Memory, Remark
from deft.planning.lengths import capped
from deft.planning.memory import Pass
from deft.planning.plan import Planner
from deft.planning.shapes import shape_of
from deft.planning.source import Examples, open_model
from deft.planning.work import Counter
from deft.specs import JobSpec, Lora, ScoreSpec, TokenOptions, job_spec
from tests.deft.planning.test_memory import llama_3_8b
from tests.models import TINY_CONFIG

LAYERS = {"num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 8192}
LLAMA_3_8B = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32}
LLAMA_3_70B = {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64}
LLAMA_3_405B = {"hidden_size": 16384, "intermediate_size": 53248, "num_hidden_layers": 126, "num_attention_heads": 128}
SIZES = {"8B": LLAMA_3_8B, "31B": {**LLAMA_3_70B, "num_hidden_layers": 34}, "70B": LLAMA_3_70B, "405B": LLAMA_3_405B}

SCORE = {"kind": "score", "dataset": "data", "model": "m"}
EVALUATE = {
    "kind": "evaluate",
    "dataset": "data",
    "model": "m",
    "systems": [],
    "options": {"pairs": 100, "prompts": 20},
}
TRAIN = {"kind": "train", "data": "data", "model": "m", "deft": None}
LARGE_PASSES = {"gradient_checkpointing": "off", "micro_batch_size": 64, "batch_size": 64}
SPECS: dict[str, dict[str, Any]] = {
    "score": SCORE,
    "score in float32": {**SCORE, "precision": "fp32"},
    "evaluate": EVALUATE,
    "train": TRAIN,
    "train in float32": {**TRAIN, "optimisation": {"precision": "fp32"}},
    "train without checkpointing": {**TRAIN, "optimisation": {"gradient_checkpointing": "off"}},
    "train large passes": {**TRAIN, "optimisation": LARGE_PASSES},
    "train large passes in float32, merged": {
        **TRAIN,
        "merge": True,
        "optimisation": {**LARGE_PASSES, "precision": "fp32"},
    },
    "train all weights": {**TRAIN, "lora": None, "optimisation": LARGE_PASSES},
    "train all weights in float32": {**TRAIN, "lora": None, "optimisation": {"precision": "fp32"}},
}


def planned(root: Path, size: str, document: dict[str, Any]) -> tuple[JobSpec, Memory]:
    folder = root / size
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**TINY_CONFIG, **LAYERS, **SIZES[size]}))
    spec = job_spec.validate_python(document)
    planner = Planner(open_model("m", folder, has_weights=False), {})
    planner.outputs["data"] = Examples(5000, capped(spec.tokens))  # type: ignore[union-attr]
    if document["kind"] == "evaluate":
        planner._held_out = lambda _spec: planner.outputs["data"]  # type: ignore[method-assign]
    planner.plan(spec)
    (need,) = planner.memory.values()
    return spec, need


def changed(document: dict[str, Any], settings: dict[str, str]) -> dict[str, Any]:
    """Return *document* with *settings*, by their paths."""
    copy = json.loads(json.dumps(document))
    for path, value in settings.items():
        *above, name = path.split("/")
        place = copy
        for part in above:
            place = place.setdefault(part, {})
        place[name] = json.loads(value) if value in ("true", "false") or value.isdigit() else value
    return copy


def all_changes(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every spec that settings make of *document*, with passes of one example."""
    kind, is_full = document["kind"], document.get("lora", {}) is None
    above = "optimisation/" if kind == "train" else ""
    for precision, quantisation in itertools.product(("fp32", "bf16"), ("none",) if is_full else ("none", "nf4")):
        settings = {f"{above}quantisation": quantisation}
        if kind != "evaluate":
            settings[f"{above}precision"] = precision
        if kind == "train":
            settings |= {"optimisation/gradient_checkpointing": "on", "optimisation/micro_batch_size": "1"}
            settings |= {"merge": "false"}
        yield changed(document, settings)


def card_of(need: Memory, gib: int) -> Card:
    return next(card for card in need.cards if card.card_gib == gib)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", SPECS)
def test_what_a_plan_names_makes_it_fit_and_nothing_does_where_it_names_nothing(
    tmp_path: Path, name: str, size: str
) -> None:
    document = SPECS[name]
    spec, need = planned(tmp_path, size, document)
    for card in need.cards:
        if card.fits:
            assert (card.remedy, card.remedy_pass_examples) == (None, None)
        elif card.remedy is None:
            others = [planned(tmp_path, size, each)[1] for each in all_changes(document)]
            assert not any(card_of(other, card.card_gib).fits or fits_divided(other, card) for other in others)
        else:
            settings = advice._settings(spec, need, card)
            if card.remedy == "sharding":
                settings["optimisation/gradient_checkpointing"] = "on"
            again = planned(tmp_path, size, changed(document, settings))[1]
            fits = fits_divided(again, card) if card.remedy == "sharding" else card_of(again, card.card_gib).fits
            assert fits, (settings, card)


def fits_divided(need: Memory, card: Card) -> bool:
    return any((each.smallest_card_gib or 10**6) <= card.card_gib for each in need.sharded)


def remarks(root: Path, size: str, document: dict[str, Any]) -> list[Remark]:
    spec, need = planned(root, size, document)
    return advice.memory_remarks(spec, [need])


@pytest.mark.parametrize(
    ("size", "document", "words", "pointer"),
    [
        ("70B", SCORE, "it would with quantisation nf4", "/quantisation"),
        ("70B", EVALUATE, "it would with quantisation nf4", "/quantisation"),
        ("70B", TRAIN, "it would with optimisation.quantisation nf4", "/optimisation/quantisation"),
        ("31B", SPECS["score in float32"], "it would with precision bf16", "/precision"),
        ("31B", SPECS["train in float32"], "it would with optimisation.precision bf16", "/optimisation/precision"),
        (
            "8B",
            SPECS["train large passes"],
            "it would with optimisation.micro_batch_size 13",
            "/optimisation/micro_batch_size",
        ),
        (
            "70B",
            SPECS["train large passes in float32, merged"],
            "it would with optimisation.quantisation nf4, merge false, optimisation.gradient_checkpointing auto and "
            "optimisation.micro_batch_size 13",
            "/optimisation/quantisation",
        ),
        ("405B", SCORE, "before any pass it holds 756.0 GiB: a smaller model takes less", "/model"),
        ("405B", {**TRAIN, "lora": None}, "GiB: LoRA adapters or a smaller model take less", "/lora"),
        ("8B", {**TRAIN, "lora": None}, "processes, a card each (DEFT_TRAIN_PROCESSES)", None),
    ],
)
def test_the_remark_names_settings_that_the_spec_has(
    tmp_path: Path, size: str, document: dict[str, Any], words: str, pointer: str | None
) -> None:
    (remark,) = remarks(tmp_path, size, document)
    assert (remark.code, remark.pointer) == ("does_not_fit", pointer)
    assert words in remark.message
    assert "max_total_tokens" not in remark.message


def test_shorter_rows_are_named_where_a_card_holds_all_but_one_example() -> None:
    shape = llama_3_8b()
    need = memory.training_memory(shape, Lora(), "bf16", 2 * shape.parameters, Pass(10**6, 10**6, 10**6), "auto")
    (remark,) = advice.memory_remarks(job_spec.validate_python(TRAIN), [need])
    assert "shorter max_total_tokens" in remark.message
    assert remark.pointer == "/tokens/max_total_tokens"


def test_both_are_named_where_one_is_not_enough(tmp_path: Path) -> None:
    spec, need = planned(tmp_path, "31B", SPECS["score in float32"])
    card = card_of(need, 24)
    assert card.remedy == "half_precision_nf4"
    assert advice._settings(spec, need, card) == {"precision": "bf16", "quantisation": "nf4"}


@pytest.mark.parametrize("size", ["8B", "70B"])
def test_no_four_bits_are_offered_beside_a_harness_that_takes_none(tmp_path: Path, size: str) -> None:
    _, alone = planned(tmp_path, size, EVALUATE)
    _, beside = planned(tmp_path, size, {**EVALUATE, "lm_eval": {"tasks": ["mmlu"]}})
    assert "nf4" in {card.remedy for card in alone.cards}
    assert {card.remedy for card in beside.cards} == {None}


@pytest.mark.parametrize("stage", [{}, {"optimisation": {}}])
def test_what_is_named_for_a_pipeline_with_a_stage_of_its_own_is_a_spec(tmp_path: Path, stage: dict[str, Any]) -> None:
    _, need = planned(tmp_path, "70B", SPECS["train large passes in float32, merged"])
    optimisation: dict[str, Any] = {"precision": "fp32", "gradient_checkpointing": "off"}
    if "optimisation" in stage:
        stage = {"optimisation": optimisation}
    document = {"kind": "pipeline", "dataset": "d", "model": "m", "optimisation": optimisation, "sft": stage}
    settings = advice._settings(job_spec.validate_python(document), need, card_of(need, 80))
    assert settings["optimisation/quantisation"] == "nf4"
    assert settings["optimisation/micro_batch_size"] == "13"
    own = {name.removeprefix("sft/"): value for name, value in settings.items() if name.startswith("sft/")}
    arms = {name: value for name, value in settings.items() if name.startswith("optimisation/")}
    assert own == (arms if "optimisation" in stage else {})
    job_spec.validate_python(changed(document, settings))


def test_a_pipeline_that_tunes_all_weights_is_not_offered_four_bits(tmp_path: Path) -> None:
    _, need = planned(tmp_path, "70B", SCORE)
    assert need.cards[0].remedy == "nf4"
    shape = shape_of({**TINY_CONFIG, **LAYERS, **LLAMA_3_70B})
    assert shape is not None
    sample, spec = capped(TokenOptions()), ScoreSpec.model_validate(SCORE)
    full = passes.scoring_memory(
        Counter(shape, 0, True, is_full=True, may_quantise=False), sample, 5000, spec, shape.parameters
    )
    assert full.peak_bytes == need.peak_bytes
    assert [card.remedy for card in full.cards] == [None] * 4
