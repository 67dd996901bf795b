"""R_d by the scorer, for every family of models, against full logits of one response at a time.

Lengths on both sides of the sliding windows and of the context, so that a layout that breaks one would show.
"""

from typing import Any

import numpy as np
import pytest
import torch

from deft.models.prompt_sharing import SHARING_FAMILIES
from deft.packing import shares_prompts
from deft.reward import head_direction
from deft.scoring.scorer import score_examples
from deft.tokens import TokenizedExample
from tests.families import FAMILIES, WINDOW, V, tiny

LENGTHS = {
    "short": [(3, 2, 4), (2, 5, 1), (1, 1, 6)],
    "long": [(12, 5, 9), (3, 14, 2), (20, 40, 30)],
}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def examples(lengths: list[tuple[int, int, int]]) -> list[TokenizedExample]:
    rng = np.random.default_rng(4)
    made = [[rng.integers(0, V, size).tolist() for size in sizes] for sizes in lengths]
    return [TokenizedExample(prompt, [chosen, rejected], [False, False]) for prompt, chosen, rejected in made]


def q_diff() -> Any:
    values = np.random.default_rng(5).normal(size=V) / V
    return values - values.mean()


@torch.no_grad()
def naive(model: Any, example: TokenizedExample, response: list[int], q: Any) -> float:
    """M4-M5 as written: the mean log-distribution of full logits, float64, against Q_diff."""
    logits = model(input_ids=torch.tensor([example.prompt_ids + response]), use_cache=False).logits[0].double()
    logps = torch.log_softmax(logits, -1)[len(example.prompt_ids) - 1 : -1]
    return float(sum(q[v] * logps[:, v].mean().item() for v in range(V)))


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("family", FAMILIES)
def test_scores_of_every_family_are_those_of_full_logits(family: str, lengths: str) -> None:
    model, rows, q = tiny(family), examples(LENGTHS[lengths]), q_diff()
    found = score_examples(model, rows, head_direction(model, q), tokens_per_pass=60)
    expected = [naive(model, row, response, q) for row in rows for response in row.response_ids]
    np.testing.assert_allclose(found.r_d, expected, rtol=0, atol=2e-5)
    assert np.abs(expected).max() > 1e-3
    assert (found.hidden is None) == (FAMILIES[family][2] == "softcap")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_is_shared_by_the_families_on_the_list_and_never_beyond_a_window(family: str) -> None:
    model = tiny(family)
    is_listed = FAMILIES[family][0] in SHARING_FAMILIES
    assert shares_prompts(model, WINDOW) == is_listed
    assert shares_prompts(model, WINDOW + 1) == (is_listed and FAMILIES[family][1].get("sliding_window") is None)


def test_every_family_on_the_list_is_tested_here() -> None:
    assert {model_type for model_type, _, _ in FAMILIES.values()} >= SHARING_FAMILIES
