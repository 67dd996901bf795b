"""Which examples make up a step, and how they become tensors. Pure: a function of ids, settings and (seed, epoch).

Two layouts of a forward pass, one meaning. *Shared*: one row an example, `prompt | response | response | ...`, every
response seeing the prompt and itself, its positions counted on from the prompt. *Apart*: one row a response, `prompt |
response`. Which tokens are predicted and trained comes from spans, never from pad ids: a tokenizer's pad may be its end
token. Knows tensors, but no model and no loss. Letters: B rows, T columns, P predicted positions (flat), S responses.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from deft.tokens import TokenizedExample

PADDED_TOKENS = 8192
"""Padded tokens of one forward pass on a GPU where `micro_batch_size` is null."""

Layout = Literal["shared", "apart"]


@dataclass(frozen=True, slots=True)
class TrainingExample:
    """One example's ids: the prompt, and its responses (best first), each with its end token unless it was cut."""

    prompt: list[int]
    responses: list[list[int]]
    own: list[int]
    """Tokens of each response without the end token: what R_d is taken over."""

    @property
    def trained_tokens(self) -> int:
        """Number of response tokens that the losses see."""
        return sum(len(response) for response in self.responses)

    def width(self, layout: Layout) -> int:
        """Columns that the example needs; the last token of a response predicts nothing and is not fed."""
        fed = [len(response) - 1 for response in self.responses]
        return len(self.prompt) + (sum(fed) if layout == "shared" else max(fed))

    @property
    def rows_apart(self) -> int:
        """Rows that the example needs when its responses stand apart."""
        return len(self.responses)


@dataclass(frozen=True, slots=True)
class Batch:
    """One forward pass, of B rows by T columns, and the P positions whose next token is in a response."""

    input_ids: Tensor
    """[B, T] int64."""
    position_ids: Tensor
    """[B, T] int64."""
    attention_mask: Tensor
    """[B, 1, T, T] bool, who sees whom (shared); or [B, T] int64, what is no padding (apart)."""
    predicting: Tensor
    """[P] int64, index into the flattened [B * T] of the position that predicts each response token."""
    targets: Tensor
    """[P] int64, the response tokens."""
    sequence: Tensor
    """[P] int64, the response (0..S-1; example by example, best first) that each belongs to."""
    is_own: Tensor
    """[P] bool, False at appended end tokens."""
    responses: int
    """S."""

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on *device*."""
        names = ("input_ids", "position_ids", "attention_mask", "predicting", "targets", "sequence", "is_own")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


def training_examples(
    tokenized: Sequence[TokenizedExample], end_token: int, *, responses: int
) -> list[TrainingExample]:
    """Keep the first *responses* of each example and append *end_token* to those that are whole."""
    return [
        TrainingExample(
            prompt=example.prompt_ids,
            responses=[
                ids if is_cut else [*ids, end_token]
                for ids, is_cut in zip(example.response_ids[:responses], example.is_cut, strict=False)
            ],
            own=[len(ids) for ids in example.response_ids[:responses]],
        )
        for example in tokenized
    ]


def epoch_order(examples: int, *, seed: int, epoch: int) -> list[int]:
    """Return the order in which an epoch visits its examples: a function of (seed, epoch) and of nothing else."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
    order: list[int] = torch.randperm(examples, generator=generator).tolist()
    return order


def optimiser_steps(examples: int, *, batch_size: int, epochs: int, seed: int) -> list[list[int]]:
    """Return the examples of every optimiser step of the run; the last, shorter batch of an epoch is kept."""
    return [
        order[start : start + batch_size]
        for epoch in range(epochs)
        for order in [epoch_order(examples, seed=seed, epoch=epoch)]
        for start in range(0, examples, batch_size)
    ]


def micro_batches(
    step: Sequence[int],
    examples: Sequence[TrainingExample],
    *,
    layout: Layout,
    size: int | None,
    padded_tokens: int = PADDED_TOKENS,
) -> Iterator[list[int]]:
    """Cut the examples of one optimiser *step* into forward passes, similar lengths together.

    *size* examples each; None: as many as fit in *padded_tokens* with their padding, at least one.
    """
    batch: list[int] = []
    for index in sorted(step, key=lambda i: (examples[i].width(layout), i)):
        if batch and _is_full([*batch, index], examples, layout, size, padded_tokens):
            yield batch
            batch = []
        batch.append(index)
    yield batch


def _is_full(
    batch: list[int], examples: Sequence[TrainingExample], layout: Layout, size: int | None, padded_tokens: int
) -> bool:
    if size is not None:
        return len(batch) > size
    rows = sum(1 if layout == "shared" else examples[i].rows_apart for i in batch)
    return rows * examples[batch[-1]].width(layout) > padded_tokens


def collate(examples: Sequence[TrainingExample], *, layout: Layout) -> Batch:
    """Lay *examples* out as one forward pass."""
    fill: Callable[[_Rows, TrainingExample], None] = _add_shared if layout == "shared" else _add_apart
    rows = _Rows([], [], [], [], [], [], [])
    for example in examples:
        fill(rows, example)
    return _tensors(rows, layout)


@dataclass(slots=True)
class _Rows:
    """Rows under construction; `segments` holds 0 for the prompt and k for the k-th response of its row."""

    ids: list[list[int]]
    positions: list[list[int]]
    segments: list[list[int]]
    predicting: list[tuple[int, int]]
    targets: list[int]
    sequence: list[int]
    is_own: list[bool]

    def start(self, prompt: list[int]) -> None:
        """Begin a row with *prompt*."""
        self.ids.append(list(prompt))
        self.positions.append(list(range(len(prompt))))
        self.segments.append([0] * len(prompt))

    def append(self, prompt: int, response: list[int], own: int) -> None:
        """Add *response* to the last row; the last position of the prompt predicts its first token."""
        row, segment = len(self.ids) - 1, self.segments[-1][-1] + 1
        sequence = self.sequence[-1] + 1 if self.sequence else 0
        begin = len(self.ids[-1])
        self.ids[-1] += response[:-1]
        self.positions[-1] += range(prompt, prompt + len(response) - 1)
        self.segments[-1] += [segment] * (len(response) - 1)
        self.predicting += [(row, prompt - 1), *((row, begin + k) for k in range(len(response) - 1))]
        self.targets += response
        self.sequence += [sequence] * len(response)
        self.is_own += [k < own for k in range(len(response))]


def _add_shared(rows: _Rows, example: TrainingExample) -> None:
    rows.start(example.prompt)
    for response, own in zip(example.responses, example.own, strict=True):
        rows.append(len(example.prompt), response, own)


def _add_apart(rows: _Rows, example: TrainingExample) -> None:
    for response, own in zip(example.responses, example.own, strict=True):
        rows.start(example.prompt)
        rows.append(len(example.prompt), response, own)


def _tensors(rows: _Rows, layout: Layout) -> Batch:
    width = max(len(row) for row in rows.ids)
    segments = _padded(rows.segments, width, -1)
    mask = _shared_mask(segments) if layout == "shared" else (segments >= 0).long()
    return Batch(
        input_ids=_padded(rows.ids, width, 0),
        position_ids=_padded(rows.positions, width, 0),
        attention_mask=mask,
        predicting=torch.tensor([row * width + column for row, column in rows.predicting]),
        targets=torch.tensor(rows.targets),
        sequence=torch.tensor(rows.sequence),
        is_own=torch.tensor(rows.is_own),
        responses=rows.sequence[-1] + 1,
    )


def _padded(rows: list[list[int]], width: int, value: int) -> Tensor:
    return torch.tensor([row + [value] * (width - len(row)) for row in rows])


def _shared_mask(segments: Tensor) -> Tensor:
    """Return [B, 1, T, T]: a position sees itself, and before it the prompt and its own segment."""
    width = segments.shape[1]
    query, key = segments.unsqueeze(2), segments.unsqueeze(1)
    causal = torch.ones(width, width, dtype=torch.bool).tril()
    return (((key == 0) | (key == query)) & causal).unsqueeze(1)
