"""Plans and layouts: order from (seed, epoch), spans instead of pad ids, one meaning in two layouts."""

import pytest
import torch

from deft.batches import TrainingExample, collate, epoch_order, micro_batches, optimiser_steps, training_examples
from deft.tokens import TokenizedExample

END = 2


def example(prompt: int, *responses: int) -> TrainingExample:
    """Ids that say where they stand: prompts count from 10, the k-th response from 100 * k."""
    return TrainingExample(
        list(range(10, 10 + prompt)),
        [[*range(100 * k, 100 * k + length), END] for k, length in enumerate(responses, 1)],
        list(responses),
    )


def test_whole_responses_end_and_cut_ones_do_not() -> None:
    tokenized = [TokenizedExample([5], [[6, 7], [8], [9]], [False, True, False])]
    (made,) = training_examples(tokenized, END, responses=2)
    assert made.responses == [[6, 7, END], [8]]
    assert made.own == [2, 1]
    assert made.trained_tokens == 4


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
    examples = [example(length, 2, 2) for length in (9, 3, 7, 1, 5)]
    cut = list(micro_batches([0, 1, 2, 3, 4], examples, layout="shared", size=2))
    assert cut == [[3, 1], [4, 2], [0]]
    wide = list(micro_batches([0, 1, 2, 3, 4], examples, layout="shared", size=None, padded_tokens=20))
    assert sorted(index for batch in wide for index in batch) == [0, 1, 2, 3, 4]
    widths = [len(batch) * max(examples[index].width("shared") for index in batch) for batch in wide]
    assert all(width <= 20 for width in widths)
    assert len(wide) < 5
    apart = list(micro_batches([0, 1], examples, layout="apart", size=None, padded_tokens=1))
    assert apart == [[1], [0]], "an example that does not fit still gets a pass of its own"


def test_the_shared_layout_by_hand() -> None:
    batch = collate([example(3, 2, 1)], layout="shared")
    assert batch.input_ids.tolist() == [[10, 11, 12, 100, 101, 200]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 4, 3]]
    assert batch.predicting.tolist() == [2, 3, 4, 2, 5]
    assert batch.targets.tolist() == [100, 101, END, 200, END]
    assert batch.sequence.tolist() == [0, 0, 0, 1, 1]
    assert batch.is_own.tolist() == [True, True, False, True, False]
    assert batch.responses == 2
    sees = batch.attention_mask[0, 0].int().tolist()
    assert sees == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 1, 0],
        [1, 1, 1, 0, 0, 1],
    ]


def test_the_apart_layout_by_hand() -> None:
    batch = collate([example(2, 2, 1)], layout="apart")
    assert batch.input_ids.tolist() == [[10, 11, 100, 101], [10, 11, 200, 0]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert batch.predicting.tolist() == [1, 2, 3, 5, 6]
    assert batch.targets.tolist() == [100, 101, END, 200, END]


@pytest.mark.parametrize("layout", ["shared", "apart"])
def test_responses_are_numbered_through_a_batch_and_padding_predicts_nothing(layout: str) -> None:
    examples = [example(4, 3, 1), example(1, 0, 2), example(2, 2, 2)]
    batch = collate(examples, layout=layout)  # type: ignore[arg-type]
    assert batch.responses == 6
    assert batch.targets.tolist() == [token for one in examples for ids in one.responses for token in ids]
    ids = batch.input_ids.flatten()
    fed = ids[batch.predicting[1:]]
    follows = batch.sequence[1:] == batch.sequence[:-1]
    assert torch.equal(fed[follows], batch.targets[:-1][follows]), "a token is predicted from the one before it"
