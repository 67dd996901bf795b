"""The plan of steps: order from (seed, epoch), nothing lost, end tokens counted."""

import torch

from deft.tokens import TokenizedExample
from deft.training.batches import epoch_order, micro_batches, optimiser_steps, trained_tokens, with_responses


def test_whole_responses_end_and_cut_ones_do_not() -> None:
    example = with_responses(TokenizedExample([5], [[6, 7], [9], [8]], [False, False, True]), [0, 2])
    assert example == TokenizedExample([5], [[6, 7], [8]], [False, True])
    assert trained_tokens(example) == 4


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    torch.manual_seed(1)
    first = epoch_order(20, seed=3, epoch=1)
    torch.manual_seed(2)
    assert epoch_order(20, seed=3, epoch=1) == first
    assert sorted(first) == list(range(20))
    assert first != epoch_order(20, seed=3, epoch=0)
    assert first != epoch_order(20, seed=4, epoch=1)


def test_every_epoch_visits_every_example_and_keeps_its_short_batch() -> None:
    steps = optimiser_steps(10, batch_size=4, epochs=2, seed=0)
    assert [len(step) for step in steps] == [4, 4, 2, 4, 4, 2]
    for epoch in (steps[:3], steps[3:]):
        assert sorted(index for step in epoch for index in step) == list(range(10))


def test_micro_batches_hold_similar_lengths_and_lose_nothing() -> None:
    lengths, every = [9, 3, 7, 1, 5], [0, 1, 2, 3, 4]
    assert list(micro_batches(every, lengths, size=2)) == [[3, 1], [4, 2], [0]]
    assert list(micro_batches(every, lengths, size=None, padded_tokens=10)) == [[3, 1], [4], [2], [0]]
    assert list(micro_batches(every, lengths, size=None, rows=[2] * 5, padded_tokens=20)) == [[3, 1], [4], [2], [0]]
    rows = [1, 2, 1, 4, 1]  # (4 + 2) x 3 = 18, (4 + 2 + 1) x 5 > 18, (1 + 1) x 7 = 14, (1 + 1 + 1) x 9 > 18
    assert list(micro_batches(every, lengths, size=None, rows=rows, padded_tokens=18)) == [[3, 1], [4, 2], [0]]
    assert list(micro_batches(every, lengths, size=None, rows=rows, padded_tokens=17)) == [[3], [1, 4], [2], [0]]
    assert list(micro_batches([0, 4], lengths, size=None, padded_tokens=1)) == [[4], [0]], (
        "one that is too long goes alone"
    )
