"""How likely a model finds held-out responses, and how far it moved from its base on its own answers.

Knows models and packed batches; it must not know files, metrics or systems. Results do not depend on how examples fall
into batches. Letters: P response positions, V vocabulary, S responses. Log-probabilities are in nats, float32.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from deft.budgets import DIVERGENCE_POSITIONS
from deft.evaluation.intervals import Array
from deft.evaluation.metrics import PairScores
from deft.lanes import in_lanes
from deft.losses import response_logps, sum_by_sequence
from deft.memory import OnHalving, in_halves, unheard
from deft.packing import Pack, plan, row_length, separate, shared
from deft.reward import Direction, Head, response_rewards
from deft.tokens import TokenizedExample

Progress = Callable[[int], None]
"""Called after every batch with the number of examples done; it may raise to stop."""


@dataclass(frozen=True, slots=True)
class Pass:
    """How forward passes are made: the model's *head*, its *end_id*, the layout and padded tokens a pass."""

    head: Head
    end_id: int
    shares_prompts: bool
    token_budget: int = 4096
    direction: Direction | None = None
    on_halving: OnHalving = unheard

    def pack(self, examples: Sequence[TokenizedExample]) -> Pack:
        """Lay out *examples* with the end token after every response that is whole, as the losses see them."""
        weight = self.head.weight
        if self.shares_prompts:
            return shared(examples, weight.dtype, weight.device, end_id=self.end_id)
        return separate(examples, weight.device, end_id=self.end_id)

    def batches(self, examples: Sequence[TokenizedExample]) -> list[list[int]]:
        """Group the indices of examples of similar length."""
        return plan([self._length(example) for example in examples], self.token_budget)

    def _length(self, example: TokenizedExample) -> int:
        if self.shares_prompts:
            return row_length(example, has_end=True)
        return len(example.response_ids) * (len(example.prompt_ids) + max(map(len, example.response_ids)))


def score_pairs(
    model: nn.Module, examples: Sequence[TokenizedExample], how: Pass, on_progress: Progress = lambda _: None
) -> PairScores:
    """Return summed log-probabilities (with the end token) and R_d (without it) of each example's responses.

    The first response is the chosen one, every other makes a pair with it. R_d (M5) is that of the model as it is: with
    its adapter.
    """
    counts = np.array([len(example.response_ids) for example in examples])
    starts = counts.cumsum() - counts
    found = np.zeros((counts.sum(), 3))
    done = 0
    batches = how.batches(examples)

    def fill(batch: Sequence[int]) -> None:
        at = np.concatenate([starts[index] + np.arange(counts[index]) for index in batch])
        found[at] = _responses(model, how.pack([examples[index] for index in batch]), how)

    def score(batch: Sequence[int]) -> None:
        in_halves(batch, fill, how.on_halving)

    with closing(in_lanes(score, batches, how.head.weight.device)) as scored:
        for batch, _ in zip(batches, scored, strict=True):
            done += len(batch)
            on_progress(done)
    others = np.delete(np.arange(len(found)), starts)
    logps, tokens, r_d = found[:, 0], found[:, 1].astype(np.int64), found[:, 2]
    r_d_chosen, r_d_rejected = (r_d[starts], r_d[others]) if how.direction is not None else (None, None)
    row_of = np.repeat(np.arange(len(examples)), counts - 1)
    return PairScores(logps[starts], logps[others], tokens[starts], tokens[others], r_d_chosen, r_d_rejected, row_of)


@torch.no_grad()
def _responses(model: nn.Module, pack: Pack, how: Pass) -> Array:
    """Return [S, 3]: log-probability, number of tokens and R_d of each response of *pack*."""
    hidden = pack.hidden(model)
    head = how.head
    logps = response_logps(hidden, head.weight, pack.targets, bias=head.bias, scale=head.scale, softcap=head.softcap)
    columns = [
        sum_by_sequence(logps, pack.sequence, pack.responses),
        sum_by_sequence(torch.ones_like(logps), pack.sequence, pack.responses),
        torch.zeros(pack.responses, device=logps.device),
    ]
    if how.direction is not None:
        own = pack.is_own
        columns[2] = response_rewards(hidden[own], pack.sequence[own], pack.responses, how.direction)
    return torch.stack(columns, dim=1).double().cpu().numpy()


@torch.no_grad()
def answer_divergences(
    policy_hidden: Callable[[Pack], Tensor],
    base_hidden: Callable[[Pack], Tensor],
    examples: Sequence[TokenizedExample],
    how: Pass,
    on_progress: Progress = lambda _: None,
    *,
    base_head: Head | None = None,
) -> list[float]:
    """Return the sum over positions of the exact KL(policy || base) of the next token, for each example's answer.

    Teacher-forced: *examples* hold one response each, the policy's own answer as generated. Every position compares
    the whole distributions over V, in float32; nothing is sampled. *base_head*: the base's, where the policy has
    another one than it. Unit: nats.
    """
    heads = how.head, base_head or how.head
    found = [0.0] * len(examples)
    answered = [index for index, example in enumerate(examples) if example.response_ids[0]]
    lengths = [len(examples[i].prompt_ids) + len(examples[i].response_ids[0]) for i in answered]
    done = 0

    def compare(batch: Sequence[int]) -> None:
        pack = separate([examples[index] for index in batch], how.head.weight.device)
        divergence = token_divergences(policy_hidden(pack), base_hidden(pack), heads)
        for index, value in zip(batch, sum_by_sequence(divergence, pack.sequence, len(batch)).tolist(), strict=True):
            found[index] = value

    for group in plan(lengths, how.token_budget):
        in_halves([answered[index] for index in group], compare, how.on_halving)
        done += len(group)
        on_progress(done)
    return found


def token_divergences(policy: Tensor, base: Tensor, heads: tuple[Head, Head]) -> Tensor:
    """Return KL(policy || base) [P] float32 of the next token, of hidden states [P, D] each, read by *heads*."""
    parts = []
    for ours, theirs in zip(_chunks(policy), _chunks(base), strict=True):
        log_p, log_q = (
            torch.log_softmax(head.logits(hidden), dim=-1) for head, hidden in zip(heads, (ours, theirs), strict=True)
        )
        parts.append((log_p.exp() * (log_p - log_q)).sum(dim=-1).clamp(min=0))
    return torch.cat(parts)


def _chunks(hidden: Tensor) -> Sequence[Tensor]:
    return torch.split(hidden, DIVERGENCE_POSITIONS)
