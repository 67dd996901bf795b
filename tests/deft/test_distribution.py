"""M1-M3 against hand-counted numbers."""

from pathlib import Path

import numpy as np
import pytest

from deft.distribution import (
    Counts,
    Distribution,
    checked,
    count,
    count_responses,
    counts_of,
    difference,
    load,
    save,
)
from deft.errors import ArtifactCorrupt, InvalidInput, ModelNotUsable
from deft.scoring.token_table import token_table
from deft.tokens import TokenizedExample


def example(*responses: list[int]) -> TokenizedExample:
    return TokenizedExample([5, 5, 5], list(responses), [False] * len(responses))


def test_counts_and_difference_by_hand() -> None:
    """Chosen: 1 1 2 | 3 -> 1:2/4 2:1/4 3:1/4. Rejected: 2 2 | 3 4 -> 2:2/4 3:1/4 4:1/4.

    Q_diff = [0, 1/2, 1/4 - 1/2, 0, -1/4, 0]: prompts (token 5) are not counted.
    """
    counts = count([example([1, 1, 2], [2, 2]), example([3], [3, 4])], 6, [])
    assert counts.chosen.tolist() == [0, 2, 1, 1, 0, 0]
    assert counts.rejected.tolist() == [0, 0, 2, 1, 1, 0]
    assert counts.rows == 2
    assert difference(counts).tolist() == [0, 0.5, -0.25, 0, -0.25, 0]


def test_special_tokens_are_left_out_of_both_sums() -> None:
    """Without token 2: chosen 1 1 3, rejected 3 4; special ids beyond the vocabulary do no harm."""
    counts = count([example([1, 1, 2], [2, 2]), example([3], [3, 4])], 6, [2, 99])
    np.testing.assert_allclose(difference(counts), [0, 2 / 3, 0, 1 / 3 - 1 / 2, -1 / 2, 0], rtol=0, atol=1e-15)


def test_of_many_responses_the_first_is_chosen_and_all_others_rejected() -> None:
    counts = count([example([1], [2], [3, 3])], 4, [])
    assert counts.chosen.tolist() == [0, 1, 0, 0]
    assert counts.rejected.tolist() == [0, 0, 1, 2]


def test_the_difference_sums_to_zero_and_is_float64() -> None:
    rng = np.random.default_rng(0)
    counts = Counts(rng.integers(0, 10**6, 50_000), rng.integers(0, 10**6, 50_000), 1)
    q_diff = difference(counts)
    assert q_diff.dtype == np.float64
    assert abs(q_diff.sum()) <= 1e-12


def test_a_vector_that_does_not_sum_to_zero_or_is_rounded_is_refused() -> None:
    good = np.array([0.5, -0.5])
    assert checked(good) is good
    for bad in (np.array([0.5, -0.5 + 1e-9]), np.array([np.nan, 0.0]), good.astype(np.float32)):
        with pytest.raises(ValueError, match="Q_diff"):
            checked(bad)


def test_a_token_beyond_the_vocabulary_means_another_tokenizer() -> None:
    with pytest.raises(ModelNotUsable, match="token id 6"):
        count([example([6], [1])], 6, [])


def test_nothing_to_count_is_refused() -> None:
    with pytest.raises(InvalidInput, match="nothing to count"):
        difference(count([example([2], [1])], 3, [2]))


def test_counts_add_up() -> None:
    one, two = example([1, 1, 2], [2, 2]), example([3], [3, 4])
    both = count([one], 6, []) + count([two], 6, [])
    assert both.chosen.tolist() == count([one, two], 6, []).chosen.tolist()
    assert both.rows == 2


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    counts = count([example([1, 1, 2], [2, 2])], 6, [])
    save(tmp_path / "d.safetensors", Distribution(counts, difference(counts), {"dataset_sha256": "abc"}))
    read = load(tmp_path / "d.safetensors")
    assert (read.counts.chosen == counts.chosen).all()
    assert (read.q_diff == difference(counts)).all()
    assert (read.counts.rows, dict(read.facts)) == (1, {"dataset_sha256": "abc"})
    assert read.l1 == pytest.approx(2 / 3 + 2 / 3)


def test_a_damaged_file_is_said_to_be_corrupt(tmp_path: Path) -> None:
    (tmp_path / "d.safetensors").write_bytes(b"not a distribution")
    with pytest.raises(ArtifactCorrupt):
        load(tmp_path / "d.safetensors")


def test_counts_of_a_table_are_those_of_the_responses() -> None:
    responses = [[[1, 1, 2], [2, 5]], [[3], [3, 4], [0]]]
    found, expected = counts_of(token_table(responses, [2]), 6), count_responses(responses, 6, [2])
    assert found.chosen.tolist() == expected.chosen.tolist()
    assert found.rejected.tolist() == expected.rejected.tolist()
    assert found.rows == 2
    with pytest.raises(ModelNotUsable, match="token id 5"):
        counts_of(token_table(responses), 5)
