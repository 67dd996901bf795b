"""LongRoPE changes the numbers of all sequences of a pass: token limits beyond its switch are refused beforehand."""

from typing import Any

import numpy as np
import pytest
from transformers import AutoConfig, AutoModelForCausalLM

from deft.errors import InvalidInput, ModelNotUsable
from deft.models.fit import check_answers_fit
from deft.models.loading import check_fit
from deft.models.rope import switching_tokens
from deft.planning.source import ModelSource
from deft.reward import head_direction
from deft.scoring.scorer import score_examples
from deft.specs import TokenOptions
from deft.tokens import TokenizedExample
from tests.models import byte_tokenizer

LONG = {"type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0, 3.0, 2.0, 5.0]}
PHI3 = {
    "model_type": "phi3",
    "vocab_size": 259,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "max_position_embeddings": 4096,
    "original_max_position_embeddings": 600,
    "pad_token_id": 0,
    "rope_scaling": LONG,
}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (PHI3, 600),
        (PHI3 | {"rope_scaling": {**LONG, "type": "su"}}, 600),
        (PHI3 | {"rope_scaling": {**LONG, "type": "yarn"}}, 600),
        ({"rope_parameters": {"rope_type": "longrope", "original_max_position_embeddings": 512}}, 512),
        ({"rope_parameters": {"full_attention": LONG}, "max_position_embeddings": 700}, 700),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}, "max_position_embeddings": 700}, None),
        ({"rope_scaling": {"rope_type": "yarn", "original_max_position_embeddings": 512}}, None),
        ({"rope_scaling": None}, None),
    ],
)
def test_the_switch_is_read_from_published_and_written_settings(settings: dict[str, Any], expected: int | None) -> None:
    assert switching_tokens(settings) == expected


def test_a_limit_beyond_the_switch_is_refused_by_plan_and_by_the_loaded_model() -> None:
    settings = {key: value for key, value in PHI3.items() if key != "model_type"} | {"rope_scaling": dict(LONG)}
    model, tokenizer = AutoModelForCausalLM.from_config(AutoConfig.for_model("phi3", **settings)), byte_tokenizer()
    source = ModelSource("phi", PHI3, None)
    fits, beyond = TokenOptions(max_total_tokens=600), TokenOptions(max_total_tokens=601)
    assert check_fit(model, tokenizer, fits) == 259
    source.check(fits, None)
    for check in (lambda: check_fit(model, tokenizer, beyond), lambda: source.check(beyond, None)):
        with pytest.raises(ModelNotUsable, match="at most 600") as refused:
            check()
        (finding,) = refused.value.findings
        assert (finding.code, finding.found, finding.pointer) == (
            "rotary_factors_change",
            "601",
            "/tokens/max_total_tokens",
        )


def test_answers_that_cross_the_switch_are_refused() -> None:
    sizes: dict[str, Any] = {"longest_prompt_tokens": 500, "context_tokens": 4096, "switching_tokens": 600}
    check_answers_fit(max_new_tokens=100, pointer="/at", **sizes)
    with pytest.raises(InvalidInput, match="together at most 600"):
        check_answers_fit(max_new_tokens=101, pointer="/at", **sizes)


def test_a_sequence_beyond_the_switch_is_refused_where_it_is_scored() -> None:
    settings = {key: value for key, value in PHI3.items() if key != "model_type"}
    settings |= {"rope_scaling": dict(LONG), "original_max_position_embeddings": 12}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("phi3", **settings))
    direction = head_direction(model, np.zeros(259))
    fits = TokenizedExample([5] * 8, [[6] * 4, [7]], [False, False])
    beyond = TokenizedExample([5] * 8, [[6], [7] * 5], [False, False])
    assert len(score_examples(model, [fits], direction).r_d) == 2
    with pytest.raises(ModelNotUsable, match="found a sequence of 13 tokens, expected at most 12"):
        score_examples(model, [fits, beyond], direction)
