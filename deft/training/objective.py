"""One micro-batch from ids to losses: one forward pass gives the base loss and the distribution reward.

The formulas are in `deft.losses` and `deft.reward`, the methods in `deft.training.methods`; this module brings them
ids, a model and the reference. It knows no optimiser, file or spec but the method's. Letters: B examples, S responses
of theirs, E examples of the run.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from deft.lanes import in_lanes, lanes_for, threads_of
from deft.losses import response_logps, sum_by_sequence
from deft.models.attention import FLEX, attention_of
from deft.packing import Pack, row_length, separate, shared
from deft.reward import Direction, Head, response_rewards
from deft.tokens import TokenizedExample
from deft.training.batches import micro_batches, trained_tokens
from deft.training.methods import AnyMethod, Likelihoods, StepSize, criterion_of
from deft.training.policy import predicting_states
from deft.training.ranks import ALONE, Ranks
from deft.training.token_metrics import MeanLogit, Pooled, mean_logit


@dataclass(frozen=True, slots=True)
class Parts:
    """What one forward pass of B examples gives."""

    base: Tensor
    """Scalar, this micro-batch's share of the step's L_base."""
    r_d: Tensor | None
    """[B] R_d(x, y+) with its gradient; None without a distribution."""
    facts: dict[str, Tensor]
    """[B] each, detached, under TRL's names; their mean over the step is its metric."""
    weights: Tensor | None = None
    """[B] row weights of every mean over the step; None: every example counts alike."""
    pooled: Pooled = field(default_factory=dict)
    """Sums over tokens, and their numbers: metrics that are means over the tokens of the step."""


@dataclass(slots=True)
class Objective:
    """How examples become losses: method, layout, head, and the reference once it is known.

    Every example has the responses that the method looks at. *shares_prompts* says whether they stand in one row.
    """

    method: AnyMethod
    examples: Sequence[TokenizedExample]
    end_id: int
    shares_prompts: bool
    micro_batch_size: int | None
    head: Head
    direction: Direction | None = None
    reference: Tensor | None = None
    """[E, 2] float32 summed log-probabilities of chosen and rejected under the reference, by example."""
    rewards: Sequence[Sequence[float]] | None = None
    """Training rewards r_k of the responses, by example, where the method has them."""
    weights: Sequence[float] | None = None
    """Row weights by example; None: every example counts alike."""
    ranks: Ranks = ALONE
    """The processes among which the examples of a step are dealt out."""
    halved_in: str | None = None
    """Where memory ran out, so that micro-batches are halved since; None: nowhere."""
    _lengths: list[int] = field(init=False)
    _mean_logit: MeanLogit | None = field(init=False)

    def __post_init__(self) -> None:
        self._mean_logit = mean_logit(self.head)
        self._lengths = [
            row_length(example, has_end=True) if self.shares_prompts else _longest_row(example)
            for example in self.examples
        ]

    def largest_example(self) -> tuple[int, int]:
        """Return the padded tokens of the largest example in a pass of its own, and those of its longest row."""
        rows = (1 if self.shares_prompts else len(example.response_ids) for example in self.examples)
        return max((count * length, length) for count, length in zip(rows, self._lengths, strict=True))

    def size_of(self, step: Sequence[int]) -> StepSize:
        """Return the divisors of an optimiser step."""
        tokens = [trained_tokens(self.examples[index]) for index in step]
        if self.weights is None:
            return StepSize(len(step), sum(tokens))
        weights = [self.weights[index] for index in step]
        return StepSize(sum(weights), sum(w * n for w, n in zip(weights, tokens, strict=True)))

    def micro_batches(self, step: Sequence[int]) -> list[list[int]]:
        """Cut this process's examples of an optimiser step, if it has any, into passes, the longest examples first."""
        own = self.ranks.share(step, self._lengths)
        rows = None if self.shares_prompts else [len(example.response_ids) for example in self.examples]
        found = []
        for batch in micro_batches(own, self._lengths, size=self.micro_batch_size, rows=rows):
            middle = len(batch) if self.halved_in is None else max(len(batch) // 2, 1)
            found += [half for half in (batch[:middle], batch[middle:]) if half]
        return found[::-1]

    def halve(self, place: str) -> bool:
        """Halve all micro-batches from now on because memory ran out in *place*; False if they are halved already."""
        is_first = self.halved_in is None
        self.halved_in = self.halved_in or place
        return is_first

    def pack(self, indices: Sequence[int], model: nn.Module) -> Pack:
        """Lay out the examples *indices* as a forward pass of *model*."""
        weight = next(model.parameters())
        examples = [self.examples[index] for index in indices]
        if self.shares_prompts:
            is_flex = attention_of(model) == FLEX
            return shared(examples, weight.dtype, weight.device, end_id=self.end_id, is_flex=is_flex)
        return separate(examples, weight.device, end_id=self.end_id)

    def parts(self, model: nn.Module, indices: Sequence[int], size: StepSize, *, at_start: bool = False) -> Parts:
        """Run the policy on the examples *indices* of a step of *size*: L_base, R_d of the chosen, metrics.

        With *at_start* the policy is its own reference (step 0), so that none needs to have been computed.
        """
        pack = self.pack(indices, model)
        hidden = predicting_states(model, pack)
        found = self._likelihoods(self.logps(hidden, pack), pack, indices, size)
        if at_start and criterion_of(self.method).has_reference:
            found = replace(found, reference=found.sums.view(-1, 2).detach())
        loss, facts = criterion_of(self.method).loss(self.method, found)
        r_d = None
        if self.direction is not None:
            r_d = facts["deft/r_d"] = self._rewards(hidden, pack, self.direction)[found.chosen]
        pooled = self._pooled(hidden, pack, found)
        return Parts(loss, r_d, {name: value.detach() for name, value in facts.items()}, found.weights, pooled)

    def _pooled(self, hidden: Tensor, pack: Pack, found: Likelihoods) -> Pooled:
        if self._mean_logit is None:
            return {}
        is_chosen = torch.zeros(pack.responses, dtype=torch.bool, device=hidden.device)
        is_chosen[found.chosen] = True
        return self._mean_logit.pooled(hidden, pack.sequence, is_chosen)

    def _likelihoods(self, logps: Tensor, pack: Pack, indices: Sequence[int], size: StepSize) -> Likelihoods:
        """Bring together what the method's loss is computed from."""
        device = logps.device
        rewards, weights = self.rewards, self.weights
        return Likelihoods(
            logps=logps,
            sequence=pack.sequence,
            responses=[len(self.examples[index].response_ids) for index in indices],
            size=size,
            rewards=None if rewards is None else _tensor([r for index in indices for r in rewards[index]], device),
            reference=None if self.reference is None else self.reference[list(indices)].to(device),
            weights=None if weights is None else _tensor([weights[index] for index in indices], device),
        )

    def logps(self, hidden: Tensor, pack: Pack) -> Tensor:
        """Return [P] log-probabilities of the response tokens, in chunks of positions."""
        head = self.head
        return response_logps(hidden, head.weight, pack.targets, bias=head.bias, scale=head.scale, softcap=head.softcap)

    def _rewards(self, hidden: Tensor, pack: Pack, direction: Direction) -> Tensor:
        """Return [S] M5, over each response's own tokens: the end token has no part in it."""
        own = pack.is_own
        return response_rewards(hidden[own], pack.sequence[own], pack.responses, direction)


class Kept(Protocol):
    """Log-probabilities of earlier runs: see `deft.training.reference`."""

    def take(self, examples: Sequence[TokenizedExample], threads: int) -> Tensor | None:
        """Return [B, 2] of the *examples* of a forward pass; None unless all are there."""

    def put(self, examples: Sequence[TokenizedExample], threads: int, logps: Tensor) -> None:
        """Keep *logps* [B, 2] of the *examples* of a forward pass."""


def reference_logps(
    objective: Objective,
    model: nn.Module,
    steps: Sequence[Sequence[int]],
    *,
    reference: Callable[[], AbstractContextManager[object]],
    after_each: Callable[[int], None],
    kept: Kept | None = None,
) -> Tensor:
    """Return [E, 2] summed log-probabilities of chosen and rejected under the reference model.

    *steps* are those of one epoch, cut as training will cut them: policy and reference then see equal batches, and the
    DPO loss of step 0 is ln 2 exactly. *reference* is the context in which *model* is the reference.
    What is *kept* of earlier runs is not computed; what is computed is given to it.
    """
    table = torch.zeros(len(objective.examples), 2)
    done = 0
    model.eval()
    with reference():
        for step in steps:
            with closing(_sums_of_step(objective, model, step, kept)) as passes:
                for indices, found in passes:
                    table[indices] = found
                    done += len(indices)
                    after_each(done)
    objective.ranks.add([table])
    return table


def _sums_of_step(
    objective: Objective, model: nn.Module, step: Sequence[int], kept: Kept | None
) -> Generator[tuple[list[int], Tensor], None, None]:
    """Yield the examples of each forward pass of *step*, and [B, 2] of them: first what is *kept*.

    A pass has the threads that it has where nothing is kept, since their number may decide about its last bits.
    """
    device, batches = objective.head.weight.device, objective.micro_batches(step)
    missing: list[list[int]] = []
    lanes, threads = lanes_for(len(batches), device), threads_of(len(batches), device)
    examples = {tuple(indices): [objective.examples[index] for index in indices] for indices in batches}
    for indices in batches:
        known = None if kept is None else kept.take(examples[tuple(indices)], threads)
        if known is None:
            missing.append(indices)
        else:
            yield indices, known
    with closing(in_lanes(partial(_summed_logps, objective, model), missing, device, lanes=lanes)) as sums:
        for indices, found in zip(missing, sums, strict=True):
            pairs = found.view(-1, 2).cpu()
            if kept is not None:
                kept.put(examples[tuple(indices)], threads, pairs)
            yield indices, pairs


@torch.no_grad()
def _summed_logps(objective: Objective, model: nn.Module, indices: Sequence[int]) -> Tensor:
    """Return [S] summed log-probabilities of the responses of the examples *indices*."""
    pack = objective.pack(indices, model)
    logps = objective.logps(predicting_states(model, pack), pack)
    return sum_by_sequence(logps, pack.sequence, pack.responses)


def _longest_row(example: TokenizedExample) -> int:
    return len(example.prompt_ids) + max(map(len, example.response_ids))


def _tensor(values: Sequence[float], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device)
