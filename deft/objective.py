"""One micro-batch from ids to losses: one forward pass gives the base loss and the distribution reward.

The formulas are in `deft.losses` and `deft.reward`; this module brings them ids, a model and the reference. It knows no
optimiser, file or spec but the method's. Letters: B examples, S = B * N responses, E examples of the run.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from deft.batches import micro_batches, trained_tokens
from deft.losses import Loss, dpo_loss, response_logps, sft_loss, sum_by_sequence
from deft.packing import Pack, row_length, separate, shared
from deft.policy import predicting_states
from deft.reward import Direction, Head, response_rewards
from deft.specs import DpoMethod, SftMethod
from deft.tokens import TokenizedExample

RESPONSES = {"sft": 1, "dpo": 2}
"""Responses of an example that a method looks at, best first."""


@dataclass(frozen=True, slots=True)
class StepSize:
    """What the losses of an optimiser step are divided by, however the step is cut into micro-batches."""

    examples: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Parts:
    """What one forward pass of B examples gives."""

    base: Tensor
    """Scalar, this micro-batch's share of the step's L_base."""
    r_d: Tensor | None
    """[B] R_d(x, y+) with its gradient; None without a distribution."""
    facts: dict[str, Tensor]
    """[B] each, detached, under TRL's names; their mean over the step is its metric."""


@dataclass(slots=True)
class Objective:
    """How examples become losses: method, layout, head, and the reference once it is known.

    Every example has as many responses as the method looks at. *shares_prompts* says whether they stand in one row.
    """

    method: SftMethod | DpoMethod
    examples: Sequence[TokenizedExample]
    end_id: int
    shares_prompts: bool
    micro_batch_size: int | None
    head: Head
    direction: Direction | None = None
    reference: Tensor | None = None
    """[E, 2] float32 summed log-probabilities of chosen and rejected under the reference, by example."""
    _lengths: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self._lengths = [
            row_length(example, has_end=True) if self.shares_prompts else _longest_row(example)
            for example in self.examples
        ]

    def size_of(self, step: Sequence[int]) -> StepSize:
        """Return the divisors of an optimiser step."""
        return StepSize(len(step), sum(trained_tokens(self.examples[index]) for index in step))

    def micro_batches(self, step: Sequence[int]) -> Iterator[list[int]]:
        """Cut an optimiser step into forward passes."""
        rows = 1 if self.shares_prompts else RESPONSES[self.method.type]
        return micro_batches(step, self._lengths, size=self.micro_batch_size, rows=rows)

    def pack(self, indices: Sequence[int], model: nn.Module) -> Pack:
        """Lay out the examples *indices* as a forward pass of *model*."""
        weight = next(model.parameters())
        examples = [self.examples[index] for index in indices]
        if self.shares_prompts:
            return shared(examples, weight.dtype, weight.device, end_id=self.end_id)
        return separate(examples, weight.device, end_id=self.end_id)

    def parts(self, model: nn.Module, indices: Sequence[int], size: StepSize, *, at_start: bool = False) -> Parts:
        """Run the policy on the examples *indices* of a step of *size*: L_base, R_d of the chosen, metrics.

        With *at_start* the policy is its own reference (step 0), so that none needs to have been computed.
        """
        pack = self.pack(indices, model)
        device = pack.targets.device
        hidden = predicting_states(model, pack)
        logps = self.logps(hidden, pack)
        chosen = torch.arange(0, pack.responses, pack.responses // len(indices), device=device)
        r_d = None if self.direction is None else self._rewards(hidden, pack, self.direction)[chosen]
        sums = sum_by_sequence(logps, pack.sequence, pack.responses)
        facts = {"logps/chosen": sums[chosen]} | ({} if r_d is None else {"deft/r_d": r_d})
        if isinstance(self.method, SftMethod):
            loss = sft_loss(logps, pack.sequence, pack.responses, tokens_in_step=size.tokens)
        else:
            reference = sums.view(-1, 2).detach() if at_start else self._reference(indices, device)
            loss = _dpo(sums.view(-1, 2), reference, self.method, size)
            facts |= _dpo_facts(loss, sums[chosen + 1])
        return Parts(loss.value, r_d, {name: value.detach() for name, value in facts.items()})

    def logps(self, hidden: Tensor, pack: Pack) -> Tensor:
        """Return [P] log-probabilities of the response tokens, in chunks of positions."""
        head = self.head
        return response_logps(hidden, head.weight, pack.targets, bias=head.bias, scale=head.scale, softcap=head.softcap)

    def _rewards(self, hidden: Tensor, pack: Pack, direction: Direction) -> Tensor:
        """Return [S] M5, over each response's own tokens: the end token has no part in it."""
        own = pack.is_own
        return response_rewards(hidden[own], pack.sequence[own], pack.responses, direction)

    def _reference(self, indices: Sequence[int], device: torch.device) -> Tensor:
        if self.reference is None:
            raise RuntimeError("the reference log-probabilities were not computed before training")
        return self.reference[list(indices)].to(device)


@torch.no_grad()
def reference_logps(
    objective: Objective,
    model: nn.Module,
    steps: Sequence[Sequence[int]],
    *,
    reference: Callable[[], AbstractContextManager[object]],
    after_each: Callable[[int], None],
) -> Tensor:
    """Return [E, 2] summed log-probabilities of chosen and rejected under the reference model.

    *steps* are those of one epoch, cut as training will cut them: policy and reference then see equal batches, and the
    DPO loss of step 0 is ln 2 exactly. *reference* is the context in which *model* is the reference.
    """
    table = torch.zeros(len(objective.examples), 2)
    done = 0
    model.eval()
    for step in steps:
        for indices in objective.micro_batches(step):
            pack = objective.pack(indices, model)
            with reference():
                logps = objective.logps(predicting_states(model, pack), pack)
            sums = sum_by_sequence(logps, pack.sequence, pack.responses)
            table[indices] = sums.view(-1, 2).cpu()
            done += len(indices)
            after_each(done)
    return table


def _longest_row(example: TokenizedExample) -> int:
    return len(example.prompt_ids) + max(map(len, example.response_ids))


def _dpo(policy: Tensor, reference: Tensor, method: DpoMethod, size: StepSize) -> Loss:
    """Return M7 of [B, 2] log-probabilities of chosen and rejected."""
    return dpo_loss(
        policy[:, 0],
        policy[:, 1],
        reference[:, 0],
        reference[:, 1],
        beta=method.beta,
        examples_in_step=size.examples,
    )


def _dpo_facts(loss: Loss, rejected: Tensor) -> dict[str, Tensor]:
    facts = loss.per_example
    return {
        "rewards/chosen": facts["reward_chosen"],
        "rewards/rejected": facts["reward_rejected"],
        "rewards/margins": facts["margin"],
        "rewards/accuracies": (facts["margin"] > 0).float(),
        "logps/rejected": rejected,
    }
