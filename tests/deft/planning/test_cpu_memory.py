"""What a plan says of a training on a CPU, against two runs that were measured (docs/diary.md)."""

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
LONGEST = Sample("counted", (Sizes(310, (142, 124), (False, False), False),))
"""The longest example of the measured runs: 576 tokens in one row, behind one prompt."""


def planned(config: dict[str, Any], *, cores: int = 2, lora: Lora | None = None, **optimisation: Any) -> int:
    shape, lora = shape_of(config), lora or Lora()
    assert shape is not None
    counter = Counter(shape, shape.lora_parameters(lora), is_shared=True)
    plan = Optimisation(**optimisation)
    return cpu_training_bytes(counter, LONGEST, 24, lora, plan, shape.parameters, cores=cores)


@pytest.mark.parametrize(("config", "measured_mib"), [(SMALL, 972), (SMOLLM2, 3863)], ids=["small", "SmolLM2"])
def test_the_plan_for_two_cores_is_near_what_two_cores_took(config: dict[str, Any], measured_mib: int) -> None:
    assert planned(config) == pytest.approx(measured_mib * MIB, rel=0.2)


def test_as_many_passes_are_counted_as_run_side_by_side() -> None:
    one, two, eight = (planned(SMOLLM2, cores=cores) for cores in (1, 2, 8))
    assert eight - one == pytest.approx(7 * (two - one))
    assert planned(SMOLLM2, cores=64) == eight
    assert planned(SMOLLM2, batch_size=1) == planned(SMOLLM2, lora=Lora(dropout=0.1)) == one
    assert planned(SMOLLM2, micro_batch_size=8) > planned(SMOLLM2, cores=8) * 0.9
    assert cpu_lanes(3, Lora(), cores=8) == 3
