"""How likely a model finds held-out responses; its entropy on its own answers, and how far it moved from its base.

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


@dataclass(frozen=True, slots=True)
class AnswerSums:
    """Of each answer, sums over its positions in nats: the entropy of the next token, and the KL to the base."""

    entropies: list[float]
    divergences: list[float] | None
    """None: there was no base to compare with."""


@torch.no_grad()
def answer_sums(
    policy_hidden: Callable[[Pack], Tensor],
    base_hidden: Callable[[Pack], Tensor] | None,
    examples: Sequence[TokenizedExample],
    how: Pass,
    on_progress: Progress = lambda _: None,
    *,
    base_head: Head | None = None,
) -> AnswerSums:
    """Return sums over positions of the next token's exact entropy and KL(policy || base), for each example's answer.

    Teacher-forced: *examples* hold one response each, the policy's own answer as generated. Every position compares
    the whole distributions over V, in float32; nothing is sampled. *base_hidden* None: the entropy alone. *base_head*:
    the base's, where the policy has another one than it.
    """
    heads = how.head, base_head or how.head
    found = np.zeros((len(examples), 2))
    answered = [index for index, example in enumerate(examples) if example.response_ids[0]]
    lengths = [len(examples[i].prompt_ids) + len(examples[i].response_ids[0]) for i in answered]
    done = 0

    def compare(batch: Sequence[int]) -> None:
        pack = separate([examples[index] for index in batch], how.head.weight.device)
        theirs = None if base_hidden is None else base_hidden(pack)
        numbers = token_numbers(policy_hidden(pack), theirs, heads)
        sums = [sum_by_sequence(column, pack.sequence, len(batch)) for column in numbers]
        found[list(batch)] = torch.stack(sums, dim=1).double().cpu().numpy()

    for group in plan(lengths, how.token_budget):
        in_halves([answered[index] for index in group], compare, how.on_halving)
        done += len(group)
        on_progress(done)
    return AnswerSums(found[:, 0].tolist(), None if base_hidden is None else found[:, 1].tolist())


def token_numbers(policy: Tensor, base: Tensor | None, heads: tuple[Head, Head]) -> tuple[Tensor, Tensor]:
    """Return entropy and KL(policy || base), [P] float32 each, of the next token, in nats.

    *policy* and *base* are hidden states [P, D], read by *heads*; without *base* the KL is 0.
    """
    found = []
    others = [None] * len(_chunks(policy)) if base is None else _chunks(base)
    for ours, theirs in zip(_chunks(policy), others, strict=True):
        log_p = torch.log_softmax(heads[0].logits(ours), dim=-1)
        p = log_p.exp()
        log_q = log_p if theirs is None else torch.log_softmax(heads[1].logits(theirs), dim=-1)
        found.append(torch.stack([-(p * log_p).sum(dim=-1), (p * (log_p - log_q)).sum(dim=-1)]).clamp(min=0))
    entropy, divergence = torch.cat(found, dim=1)
    return entropy, divergence


def _chunks(hidden: Tensor) -> Sequence[Tensor]:
    return torch.split(hidden, DIVERGENCE_POSITIONS)
