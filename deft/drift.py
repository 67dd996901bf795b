"""How far a policy has drifted from where it started, on a few fixed examples: the probe set.

Teacher-forced on the first response of each example: one forward pass of the policy and none of the reference, whose
hidden states are kept from the start. It takes no gradient, draws no random number and leaves the model as it was, so
that a run with it and a run without end in the same bits. It knows no optimiser and no file. Letters: P response
positions of the probe set, K its examples, V vocabulary, D hidden width. Nats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from deft.batches import with_responses
from deft.budgets import DIVERGENCE_POSITIONS
from deft.losses import sum_by_sequence
from deft.objective import Objective
from deft.packing import Pack
from deft.policy import predicting_states
from deft.reward import Head, response_rewards

PREFIX = "deft/probe_"


@dataclass(frozen=True, slots=True)
class Probe:
    """The probe set, laid out once, with the reference's hidden states [P, D] for each of its forward passes."""

    objective: Objective
    packs: Sequence[Pack]
    reference: Sequence[Tensor]

    def at_start(self) -> dict[str, float]:
        """Return the numbers of the reference itself, as `measure` does of a policy."""
        return self._numbers(self.reference)

    @torch.no_grad()
    def measure(self, model: nn.Module) -> dict[str, float]:
        """Return how *model* differs from the reference on the probe set; means over its examples.

        `deft/probe_kl` and `deft/probe_entropy`: KL(policy || reference) and entropy of the next token, exact over V,
        a mean over the response's positions. `deft/probe_length`: the expected number of tokens, were the policy to
        end the response on its own somewhere before its true end: sum over t of the probability that it has not ended
        before t. `deft/probe_r_d`: M5, where there is a distribution.
        """
        model.eval()
        return self._numbers([predicting_states(model, pack) for pack in self.packs])

    @torch.no_grad()
    def _numbers(self, states: Sequence[Tensor]) -> dict[str, float]:
        parts = [self._of_pack(*each) for each in zip(self.packs, states, self.reference, strict=True)]
        return {name: torch.cat([part[name] for part in parts]).mean().item() for name in parts[0]}

    def _of_pack(self, pack: Pack, policy: Tensor, reference: Tensor) -> dict[str, Tensor]:
        """Return each number for every example of *pack*."""
        kl, entropy, end = position_numbers(policy, reference, self.objective.head, self.objective.end_id)
        count = torch.bincount(pack.sequence, minlength=pack.responses)
        found = {
            PREFIX + "kl": sum_by_sequence(kl, pack.sequence, pack.responses) / count,
            PREFIX + "entropy": sum_by_sequence(entropy, pack.sequence, pack.responses) / count,
            PREFIX + "length": torch.stack([expected_length(own) for own in torch.split(end, count.tolist())]),
        }
        if self.objective.direction is not None:
            own = pack.is_own
            found[PREFIX + "r_d"] = response_rewards(
                policy[own], pack.sequence[own], pack.responses, self.objective.direction
            )
        return found


@torch.no_grad()
def make_probe(
    objective: Objective,
    model: nn.Module,
    *,
    examples: int,
    seed: int,
    reference: Callable[[], AbstractContextManager[object]],
) -> Probe:
    """Return the probe set: at most *examples* of the run's own, drawn with *seed* from a generator of its own.

    *reference* is the context in which *model* is the reference.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randperm(len(objective.examples), generator=generator)[:examples].tolist()
    chosen = [with_responses(objective.examples[index], [0]) for index in sorted(drawn)]
    own = replace(objective, examples=chosen, shares_prompts=False, reference=None, rewards=None, weights=None)
    packs = [own.pack(indices, model) for indices in own.micro_batches(range(len(chosen)))]
    model.eval()
    with reference():
        return Probe(own, packs, [predicting_states(model, pack) for pack in packs])


def position_numbers(policy: Tensor, reference: Tensor, head: Head, end_id: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return [P] float32 each, of hidden states [P, D]: KL(policy || reference), the policy's entropy and p(*end_id*).

    [., V] exists for a few positions at a time.
    """
    found = []
    for ours, theirs in zip(*(torch.split(each, DIVERGENCE_POSITIONS) for each in (policy, reference)), strict=True):
        log_p, log_q = (torch.log_softmax(head.logits(hidden), dim=-1) for hidden in (ours, theirs))
        p = log_p.exp()
        found.append(((p * (log_p - log_q)).sum(dim=-1).clamp(min=0), -(p * log_p).sum(dim=-1), p[:, end_id]))
    kl, entropy, end = (torch.cat(parts) for parts in zip(*found, strict=True))
    return kl, entropy, end


def expected_length(end: Tensor) -> Tensor:
    """Return E[min(L, T)] of a response of T positions, L the first at which the policy ends; *end* [T] are its odds.

    sum over t = 1..T of prod over s < t of (1 - end[s]).
    """
    goes_on = (1 - end[:-1].double()).cumprod(0)
    return (1 + goes_on.sum()).float()
