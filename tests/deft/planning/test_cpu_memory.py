"""What a plan says of a training on a CPU, against runs that were measured (docs/diary.md)."""

from typing import Any

import pytest

from deft.planning.lengths import Sample, Sizes
from deft.planning.passes import cpu_lanes, cpu_training_bytes
from deft.planning.shapes import shape_of
from deft.planning.work import Counter
from deft.specs import Lora, Optimisation

MIB = 2**20
SMOLLM2: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": 64,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
    "vocab_size": 49152,
}
SMALL = {
    **SMOLLM2,
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
}
LLAMA = {
    **SMOLLM2,
    "hidden_size": 384,
    "intermediate_size": 1024,
    "num_hidden_layers": 8,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "tie_word_embeddings": False,
    "vocab_size": 8000,
}
WIDE = {
    **LLAMA,
    "hidden_size": 2048,
    "intermediate_size": 2304,
    "num_hidden_layers": 5,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "head_dim": 128,
}
LONGEST = Sample("counted", (Sizes(310, (142, 124), (False, False), False),))
"""The longest example of the measured runs: 576 tokens in one row, behind one prompt."""


OTHERS = Sample("counted", (Sizes(319, (152, 149), (False, False), False),))
MORE = Sample("counted", (Sizes(344, (166, 166), (False, False), False),))
"""Those of the runs with checkpointing: 620 tokens in one row for SmolLM2, 676 for the model of 8 layers."""


def planned(
    config: dict[str, Any],
    *,
    cores: int = 2,
    lora: Lora | None = None,
    sample: Sample = LONGEST,
    **optimisation: Any,
) -> int:
    shape, lora = shape_of(config), lora or Lora()
    assert shape is not None
    counter = Counter(shape, shape.lora_parameters(lora), is_shared=True)
    plan = Optimisation(**optimisation)
    return cpu_training_bytes(counter, sample, 24, lora, plan, shape.parameters, cores=cores)


@pytest.mark.parametrize(("config", "measured_mib"), [(SMALL, 972), (SMOLLM2, 3863)], ids=["small", "SmolLM2"])
def test_the_plan_for_two_cores_is_near_what_two_cores_took(config: dict[str, Any], measured_mib: int) -> None:
    assert planned(config) == pytest.approx(measured_mib * MIB, rel=0.2)


@pytest.mark.parametrize(
    ("checkpointing", "cores", "measured_mib"),
    [("off", 2, 1172), ("on", 1, 803), ("on", 2, 1045), ("on", 4, 1284)],
)
def test_the_plan_for_a_small_model_is_near_what_it_took(checkpointing: str, cores: int, measured_mib: int) -> None:
    found = planned(LLAMA, sample=MORE, cores=cores, lora=Lora(r=16), gradient_checkpointing=checkpointing)
    assert found == pytest.approx(measured_mib * MIB, rel=0.15)


def test_the_plan_for_wider_passes_is_near_what_they_took() -> None:
    found = planned(LLAMA, sample=MORE, lora=Lora(r=8), batch_size=8, micro_batch_size=4)
    assert found == pytest.approx(2396 * MIB, rel=0.2)


def test_the_plan_counts_no_holes_where_every_tensor_is_mapped_by_itself() -> None:
    settings: dict[str, Any] = {"batch_size": 8, "micro_batch_size": 8, "gradient_checkpointing": "on"}
    found = planned(WIDE, sample=MORE, lora=Lora(r=16), **settings)
    assert found == pytest.approx(2247 * MIB, rel=0.2)


@pytest.mark.parametrize(("checkpointing", "measured_mib"), [("off", 3469), ("on", 2443)])
def test_the_plan_for_smollm2_is_near_what_it_took(checkpointing: str, measured_mib: int) -> None:
    found = planned(SMOLLM2, sample=OTHERS, lora=Lora(r=16), batch_size=4, gradient_checkpointing=checkpointing)
    assert found == pytest.approx(measured_mib * MIB, rel=0.2)


def test_all_weights_tuned_is_near_what_it_took() -> None:
    shape = shape_of(LLAMA)
    assert shape is not None
    counter = Counter(shape, 0, is_shared=True, is_full=True)
    found = cpu_training_bytes(counter, MORE, 24, None, Optimisation(), shape.parameters, cores=2)
    assert found == pytest.approx(1526 * MIB, rel=0.2)


def test_as_many_passes_are_counted_as_run_side_by_side() -> None:
    one, two, eight = (planned(SMOLLM2, cores=cores) for cores in (1, 2, 8))
    assert eight - one == pytest.approx(7 * (two - one))
    assert planned(SMOLLM2, cores=64) == eight
    assert planned(SMOLLM2, batch_size=1) == planned(SMOLLM2, lora=Lora(dropout=0.1)) == one
    assert planned(SMOLLM2, micro_batch_size=8) > planned(SMOLLM2, cores=8) * 0.9
    assert cpu_lanes(3, Lora(), cores=8) == 3
