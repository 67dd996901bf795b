"""The rule for shared rows, from settings alone: a listed family, and nothing like a window shorter than the row."""

from typing import Any

import pytest

from deft.models.prompt_sharing import may_share


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, True),
        ({"sliding_window": 100, "layer_types": ["sliding_attention", "full_attention"]}, True),
        ({"sliding_window": 99, "layer_types": ["sliding_attention"]}, False),
        ({"sliding_window": None, "use_sliding_window": False, "max_window_layers": 28}, True),
        ({"sliding_window": 100, "sliding_window_pattern": 4}, True),
        ({"num_local_experts": 8, "rope_local_base_freq": 10}, True),
        ({"window_size": 64}, False),
        ({"local_attention": 64}, False),
        ({"attention_chunk_size": 64}, False),
        ({"attention_window": [64, 64]}, False),
        ({"layer_types": ["full_attention", "chunked_attention"]}, False),
        ({"layer_types": ["sliding_attention"]}, False),
        ({"attention_layers": ["global", "local"]}, False),
    ],
)
def test_only_known_layers_and_windows_as_long_as_the_row_are_shared(settings: dict[str, Any], expected: bool) -> None:
    assert may_share("llama", settings, 100) is expected


def test_a_family_that_no_test_covers_is_not_shared() -> None:
    assert not may_share("gpt_neo", {}, 8)
