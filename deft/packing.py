"""Layouts of tokenised examples for one forward pass: which tokens, which may see which, which predict what.

Two layouts of the same meaning. `separate` gives every response a row of its own, prompt repeated. `shared` gives every
example one row, prompt | response 0 | response 1 | ..., where each response sees the prompt and itself only, at the
positions it would have had alone. Masks come from spans, never from pad ids. Three things corrupt a shared row without
a word in transformers 5: restarted positions without a mask (they are taken for packed documents), a KV cache, and a
2-D mask; so the pass always gets an explicit 4-D mask and `use_cache=False`, and `shares_prompts` allows it to known
families only and tries it out. `separate` is right for every causal model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from deft.models.attention import FLEX, attention_of
from deft.models.loading import causal_model, decoder
from deft.models.prompt_sharing import may_share
from deft.tokens import TokenizedExample

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

_PROBE_TOLERANCE = {torch.float32: 1e-3}
_PROBE_TOLERANCE_HALF = 5e-2


@dataclass(frozen=True, slots=True)
class Pack:
    """One forward pass. S responses (in order of example, then response), P positions that predict a token of theirs.

    *inputs* are the decoder's keyword arguments, [B, L]; *predict* [P] int64 indexes the flattened [B * L] hidden
    states; *targets* [P] int64 are the tokens predicted there; *sequence* [P] int64 the response (0..S-1);
    *is_own* [P] bool is false for the appended end token, which R_d and Q leave out.
    """

    inputs: dict[str, Any]
    predict: Tensor
    targets: Tensor
    sequence: Tensor
    is_own: Tensor
    responses: int

    @property
    def tokens(self) -> int:
        """Positions computed, padding included."""
        return int(self.inputs["input_ids"].numel())

    def hidden(self, model: nn.Module) -> Tensor:
        """Run the backbone of *model*; return the hidden states [P, D] at the positions that predict."""
        states: Tensor = decoder(model)(**self.inputs, use_cache=False).last_hidden_state
        return states.flatten(0, 1)[self.predict]


@dataclass(frozen=True, slots=True)
class _Span:
    """Where a response stands: *row*, index of its first token in that row, its tokens, and its prompt's length."""

    row: int
    start: int
    ids: list[int]
    prompt: int
    own: int


def plan(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Group indices of rows of nearly equal *lengths* so that rows x longest <= *token_budget* (or one row)."""
    groups: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if groups and lengths[groups[-1][0]] * (len(groups[-1]) + 1) <= token_budget:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def row_length(example: TokenizedExample, *, has_end: bool = False) -> int:
    """Tokens of *example* in one shared row."""
    return len(example.prompt_ids) + sum(len(ids) - (not has_end) for ids in example.response_ids)


def longest_row(examples: Sequence[TokenizedExample]) -> int:
    """Tokens of the longest shared row of *examples*, appended end tokens included; 0 without any."""
    return max((row_length(example, has_end=True) for example in examples), default=0)


def shared(
    examples: Sequence[TokenizedExample],
    dtype: torch.dtype,
    device: torch.device,
    *,
    end_id: int | None = None,
    is_flex: bool = False,
) -> Pack:
    """Lay out *examples* one a row, the prompt shared by its responses.

    Args:
        examples: B of them.
        dtype: of the model, for the additive mask [B, 1, L, L].
        device: of the model.
        end_id: appended to every response that was not cut, and predicted; None leaves it out. The last token of a
            response predicts nothing that is asked for, and is left out of the row.
        is_flex: whether the model computes flex attention, which takes the mask as a block mask.
    """
    spans: list[_Span] = []
    rows: list[list[int]] = []
    for row, example in enumerate(examples):
        ids = list(example.prompt_ids)
        for own, is_cut in zip(example.response_ids, example.is_cut, strict=True):
            response = _with_end(own, is_cut, end_id)
            spans.append(_Span(row, len(ids), response, len(example.prompt_ids), len(own)))
            ids += response[:-1]
        rows.append(ids)
    longest = max(map(len, rows))
    positions, block = _shared_positions(spans, examples, longest)
    mask = _block_mask(block.to(device)) if is_flex else _dense_mask(block, dtype)
    inputs = {"input_ids": _padded(rows, longest), "position_ids": positions, "attention_mask": mask}
    return _pack(inputs, spans, longest, device)


def separate(examples: Sequence[TokenizedExample], device: torch.device, *, end_id: int | None = None) -> Pack:
    """Lay out every response of *examples* in a row of its own, padded on the right; *end_id* as in `shared`."""
    spans: list[_Span] = []
    rows: list[list[int]] = []
    for example in examples:
        for own, is_cut in zip(example.response_ids, example.is_cut, strict=True):
            response = _with_end(own, is_cut, end_id)
            spans.append(_Span(len(rows), len(example.prompt_ids), response, len(example.prompt_ids), len(own)))
            rows.append(example.prompt_ids + response[:-1])
    longest = max(map(len, rows))
    lengths = torch.tensor([len(ids) for ids in rows])
    mask = (torch.arange(longest) < lengths.unsqueeze(1)).long()
    inputs = {"input_ids": _padded(rows, longest), "attention_mask": mask}
    return _pack(inputs, spans, longest, device)


def shares_prompts(model: nn.Module, longest_row: int) -> bool:
    """Whether *model* computes the same in the shared layout, for rows of up to *longest_row* tokens (`row_length`).

    Only the families of `deft.models.prompt_sharing` do, within their windows; and since a setting or an attention
    back-end may still be in the way, it is tried out on a few tokens.
    """
    config = causal_model(model).config
    text = config.get_text_config()
    if not may_share(config.model_type, text.to_dict(), longest_row):
        return False
    weight = next(p for p in model.parameters() if p.is_floating_point())
    examples = probe_examples(text.vocab_size)
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            is_flex = attention_of(model) == FLEX
            together = shared(examples, weight.dtype, weight.device, is_flex=is_flex).hidden(model).float()
            apart = separate(examples, weight.device).hidden(model).float()
    except (TypeError, ValueError, RuntimeError, IndexError):
        return False
    finally:
        model.train(was_training)
    tolerance = _PROBE_TOLERANCE.get(weight.dtype, _PROBE_TOLERANCE_HALF)
    return bool((together - apart).norm() <= tolerance * apart.norm())


def probe_examples(vocabulary_size: int) -> list[TokenizedExample]:
    """Return two examples of a few tokens, with two responses each, on which layouts and kernels are tried out."""
    ids = torch.linspace(1, vocabulary_size - 1, 14).long().tolist()
    return [
        TokenizedExample(ids[:5], [ids[5:9], ids[9:14]], [False, False]),
        TokenizedExample(ids[7:9], [ids[2:6], ids[1:3]], [False, False]),
    ]


def _with_end(own: list[int], is_cut: bool, end_id: int | None) -> list[int]:
    return own if end_id is None or is_cut else [*own, end_id]


def _padded(rows: Sequence[list[int]], longest: int) -> Tensor:
    return torch.tensor([ids + [0] * (longest - len(ids)) for ids in rows], dtype=torch.int64)


def _shared_positions(
    spans: Sequence[_Span], examples: Sequence[TokenizedExample], longest: int
) -> tuple[Tensor, Tensor]:
    """Position ids [B, L], and the number of the response that a token belongs to [B, L], 0 of a prompt."""
    positions = torch.zeros(len(examples), longest, dtype=torch.int64)
    block = torch.zeros(len(examples), longest, dtype=torch.int64)
    for row, example in enumerate(examples):
        positions[row, : len(example.prompt_ids)] = torch.arange(len(example.prompt_ids))
    for number, span in enumerate(spans, start=1):
        size = len(span.ids) - 1
        positions[span.row, span.start : span.start + size] = torch.arange(span.prompt, span.prompt + size)
        block[span.row, span.start : span.start + size] = number
    return positions, block


def _block_mask(block: Tensor) -> BlockMask:
    """Return what `_dense_mask` says, as flex attention wants it."""
    from torch.nn.attention.flex_attention import create_block_mask

    def sees(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        del head
        return ((block[row, query] == block[row, key]) | (block[row, key] == 0)) & (query >= key)

    rows, longest = block.shape
    return create_block_mask(sees, rows, None, longest, longest, device=str(block.device))


def _dense_mask(block: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the additive mask [B, 1, L, L]: causal, and blind between responses."""
    longest = block.shape[1]
    query, key = block.unsqueeze(2), block.unsqueeze(1)
    sees = ((query == key) | (key == 0)) & torch.ones(longest, longest, dtype=torch.bool).tril()
    mask = torch.zeros(sees.shape, dtype=dtype).masked_fill(~sees, torch.finfo(dtype).min)
    return mask.unsqueeze(1)


def _pack(inputs: dict[str, Any], spans: Sequence[_Span], longest: int, device: torch.device) -> Pack:
    predict, targets, sequence, is_own = [], [], [], []
    for number, span in enumerate(spans):
        offset = span.row * longest
        predict.append(offset + span.prompt - 1)  # the prompt's last position predicts the first token
        predict += range(offset + span.start, offset + span.start + len(span.ids) - 1)
        targets += span.ids
        sequence += [number] * len(span.ids)
        is_own += [True] * span.own + [False] * (len(span.ids) - span.own)
    return Pack(
        {name: tensor.to(device) for name, tensor in inputs.items()},
        torch.tensor(predict, device=device),
        torch.tensor(targets, device=device),
        torch.tensor(sequence, device=device),
        torch.tensor(is_own, dtype=torch.bool, device=device),
        len(spans),
    )
