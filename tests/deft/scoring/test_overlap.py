"""Which examples are kept hardly depends on how they were packed, nor on the precision of the forward pass.

The overlap of two selected sets is their Jaccard index. It is 1 over all layouts in float32, whose noise is below 1e-5
of R_d's spread over the examples. The noise of bfloat16 is about 1 % of that spread: of 250 kept, one or two lie so
near the cut that they change places, and the overlap is at least 0.98. Of a small k one place is much: of 50, 0.96.
"""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from deft.reward import head_direction
from deft.scoring.scorer import score_examples
from deft.selection import ScoredRow, select
from deft.specs import Selection
from deft.tokens import TokenizedExample
from tests.models import tiny_llama

E, VOCABULARY = 1000, 259


@pytest.fixture(scope="module")
def examples() -> list[TokenizedExample]:
    rng = np.random.default_rng(0)

    def ids(low: int, high: int) -> list[int]:
        return rng.integers(3, VOCABULARY, rng.integers(low, high)).tolist()

    return [TokenizedExample(ids(4, 12), [ids(3, 20), ids(3, 20)], [False, False]) for _ in range(E)]


def chosen_r_d(dtype: torch.dtype, examples: Sequence[TokenizedExample], **layout: object) -> np.ndarray:
    model = tiny_llama(spread=0.1).to(dtype)
    vector = np.random.default_rng(1).normal(size=VOCABULARY)
    found = score_examples(model, examples, head_direction(model, vector - vector.mean()), **layout)  # type: ignore[arg-type]
    return found.r_d[::2]


@pytest.fixture(scope="module")
def exact(examples: list[TokenizedExample]) -> np.ndarray:
    return chosen_r_d(torch.float64, examples)


def kept(r_d: np.ndarray, keep: float) -> set[int]:
    rows = [ScoredRow(row, float(value), None, 1) for row, value in enumerate(r_d)]
    return {row for row, is_kept in enumerate(select(rows, Selection(keep=keep)).kept) if is_kept}


def jaccard(one: set[int], other: set[int]) -> float:
    return len(one & other) / len(one | other)


@pytest.mark.parametrize(
    ("seed", "layout"),
    [
        (1, {"share": True, "tokens_per_pass": 1500}),
        (2, {"share": False, "tokens_per_pass": 4000}),
        (3, {"share": True, "tokens_per_pass": 20_000}),
    ],
)
def test_any_order_and_packing_keeps_the_same_examples(
    examples: list[TokenizedExample], exact: np.ndarray, seed: int, layout: dict[str, object]
) -> None:
    order = np.random.default_rng(seed).permutation(E)
    r_d = np.empty(E)
    r_d[order] = chosen_r_d(torch.float32, [examples[at] for at in order], **layout)
    assert np.abs(r_d - exact).max() < 1e-5 * exact.std()
    for keep in (0.05, 0.25):
        assert kept(r_d, keep) == kept(exact, keep)


@pytest.mark.parametrize(("dtype", "noise"), [(torch.bfloat16, 0.02), (torch.float16, 0.003)])
def test_sixteen_bits_keep_nearly_the_same_examples(
    examples: list[TokenizedExample], exact: np.ndarray, dtype: torch.dtype, noise: float
) -> None:
    r_d = chosen_r_d(dtype, examples, tokens_per_pass=20_000)
    assert 0 < (r_d - exact).std() < noise * exact.std()
    assert jaccard(kept(r_d, 0.25), kept(exact, 0.25)) >= 0.98
    assert jaccard(kept(r_d, 0.05), kept(exact, 0.05)) >= 0.92  # two places of 50
