"""One micro-batch from ids to losses: one forward pass gives the base loss and the distribution reward.

The formulas are in `deft.losses` and `deft.reward`, the methods in `deft.training.methods`; this module brings them
ids, a model and the reference. It knows no optimiser, file or spec but the method's. Letters: B examples, S responses
of theirs, E examples of the run.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from deft.lanes import in_lanes, lanes_for, threads_of
from deft.losses import sum_by_sequence
from deft.models.attention import FLEX, attention_of
from deft.packing import Pack, row_length, separate, shared
from deft.reward import Direction, Head, response_rewards
from deft.sharding import release
from deft.tokens import TokenizedExample
from deft.training.batches import micro_batches, trained_tokens
from deft.training.heads import Reading, TrainedHead
from deft.training.methods import AnyMethod, Likelihoods, StepSize, criterion_of
from deft.training.policy import predicting_states
from deft.training.ranks import ALONE, Ranks
from deft.training.token_metrics import Pooled, mean_logit

Result = TypeVar("Result")


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
    trained: TrainedHead | None = None
    """Where the head is that is trained with all other weights; None: *head* and *direction* stay as they are."""
    is_sharded: bool = False
    """Whether each process holds a part of the model, so that all must make equally many passes."""
    halved_in: str | None = None
    """Where memory ran out, so that micro-batches are halved since; None: nowhere."""
    _lengths: list[int] = field(init=False)
    _frozen: Reading | None = field(init=False)

    def __post_init__(self) -> None:
        own = self.head
        self._frozen = Reading(own, self.direction, mean_logit(own)) if self.trained is None else None
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

    def read(self) -> Reading:
        """Return the head as it is now, for the states of the forward pass that has just been made."""
        if self._frozen is not None:
            return self._frozen
        if self.trained is None:
            raise RuntimeError("an objective has a frozen head or a trained one")
        return self.trained.read()

    def passes(self, step: Sequence[int]) -> list[list[int]]:
        """Return `micro_batches` of a step; over a sharded model with empty ones, so that all processes have as many.

        In an empty one a process runs along (see `along`), because it holds a part of what the others compute with.
        """
        own = self.micro_batches(step)
        if not self.is_sharded:
            return own
        most = max(len(self._micro_batches(step, replace(self.ranks, rank=rank))) for rank in range(self.ranks.size))
        return own + [[] for _ in range(most - len(own))]

    def each(
        self, work: Callable[[list[int]], Result], passes: Sequence[list[int]], *, lanes: int | None = None
    ) -> Generator[Result, None, None]:
        """Yield the result of *work* on each of *passes*, in order; side by side where nothing is against it."""
        if self.is_sharded:
            return (work(indices) for indices in passes)
        return in_lanes(work, passes, self.head.weight.device, lanes=lanes)

    @property
    def along(self) -> list[int]:
        """The example with which a process runs along: the shortest."""
        return [min(range(len(self._lengths)), key=self._lengths.__getitem__)]

    def micro_batches(self, step: Sequence[int]) -> list[list[int]]:
        """Cut this process's examples of an optimiser step, if it has any, into passes, the longest examples first."""
        return self._micro_batches(step, self.ranks)

    def _micro_batches(self, step: Sequence[int], ranks: Ranks) -> list[list[int]]:
        own = ranks.share(step, self._lengths)
        rows = None if self.shares_prompts else [len(example.response_ids) for example in self.examples]
        found = []
        for batch in micro_batches(own, self._lengths, size=self.micro_batch_size, rows=rows):
            middle = len(batch) if self.halved_in is None else max(len(batch) // 2, 1)
            found += [half for half in (batch[:middle], batch[middle:]) if half]
        return found[::-1]

    def halve(self, place: str) -> bool:
        """Halve all micro-batches from now on because memory ran out in *place*.

        False if they are halved already, or if others are waiting in the middle of a pass for this process's part.
        """
        if self.is_sharded:
            return False
        is_first = self.halved_in is None
        self.halved_in = self.halved_in or place
        return is_first

    def pack(self, indices: Sequence[int], model: nn.Module) -> Pack:
        """Lay out the examples *indices* as a forward pass of *model*."""
        weight = next(model.parameters())
        examples = [self.examples[index] for index in indices]
        if self.shares_prompts:
            dtype, is_flex = self.dtype or weight.dtype, attention_of(model) == FLEX
            return shared(examples, dtype, weight.device, end_id=self.end_id, is_flex=is_flex)
        return separate(examples, weight.device, end_id=self.end_id)

    def parts(self, model: nn.Module, indices: Sequence[int], size: StepSize, *, at_start: bool = False) -> Parts:
        """Run the policy on the examples *indices* of a step of *size*: L_base, R_d of the chosen, metrics.

        With *at_start* the policy is its own reference (step 0), so that none needs to have been computed.
        """
        pack = self.pack(indices, model)
        hidden = self.states(model, pack)
        reading = self.read()
        found = self._likelihoods(reading.logps(hidden, pack.targets), pack, indices, size)
        if at_start and criterion_of(self.method).has_reference:
            found = replace(found, reference=found.sums.view(-1, 2).detach())
        loss, facts = criterion_of(self.method).loss(self.method, found)
        r_d = None
        if reading.direction is not None:
            r_d = facts["deft/r_d"] = self._rewards(hidden, pack, reading.direction)[found.chosen]
        pooled = self._pooled(hidden, pack, found, reading)
        return Parts(loss, r_d, {name: value.detach() for name, value in facts.items()}, found.weights, pooled)

    @property
    def computed_in(self) -> torch.dtype:
        """What a pass computes in."""
        return self.dtype or self.head.weight.dtype

    @property
    def dtype(self) -> torch.dtype | None:
        """What a pass computes in where all weights are trained, in float32; None: in the precision of the base."""
        return None if self.trained is None else self.trained.dtype

    def states(self, model: nn.Module, pack: Pack) -> Tensor:
        """Return the hidden states [P, D] of *pack* that predict its response tokens."""
        return predicting_states(model, pack, self.dtype)

    @staticmethod
    def _pooled(hidden: Tensor, pack: Pack, found: Likelihoods, reading: Reading) -> Pooled:
        if reading.mean_logit is None:
            return {}
        is_chosen = torch.zeros(pack.responses, dtype=torch.bool, device=hidden.device)
        is_chosen[found.chosen] = True
        return reading.mean_logit.pooled(hidden, pack.sequence, is_chosen)

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

    @staticmethod
    def _rewards(hidden: Tensor, pack: Pack, direction: Direction) -> Tensor:
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
    DPO loss of step 0 is ln 2 exactly. *reference* is the context in which *model* is the reference. Over a sharded
    model every process makes as many passes, in some of which it only runs along.
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
    device, batches = objective.head.weight.device, objective.passes(step)
    missing: list[list[int]] = []
    lanes, threads = lanes_for(len(batches), device), threads_of(len(batches), device)
    examples = {tuple(indices): [objective.examples[index] for index in indices] for indices in batches}
    for indices in batches:
        known = None if kept is None else kept.take(examples[tuple(indices)], threads)
        if known is None:
            missing.append(indices)
        else:
            yield indices, known
    with closing(objective.each(partial(_summed_logps, objective, model), missing, lanes=lanes)) as sums:
        for indices, found in zip(missing, sums, strict=True):
            if not indices:  # it ran along
                continue
            pairs = found.view(-1, 2).cpu()
            if kept is not None:
                kept.put(examples[tuple(indices)], threads, pairs)
            yield indices, pairs


@torch.no_grad()
def _summed_logps(objective: Objective, model: nn.Module, indices: Sequence[int]) -> Tensor:
    """Return [S] summed log-probabilities of the responses of the examples *indices*."""
    pack = objective.pack(indices or objective.along, model)
    hidden = objective.states(model, pack)
    logps = objective.read().logps(hidden, pack.targets)
    release(model)
    return sum_by_sequence(logps, pack.sequence, pack.responses)


def _longest_row(example: TokenizedExample) -> int:
    return len(example.prompt_ids) + max(map(len, example.response_ids))


def _tensor(values: Sequence[float], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device)
