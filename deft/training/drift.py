"""How far a policy has drifted from where it started, on a few fixed examples: the probe set.

Teacher-forced on the first response of each example: one forward pass of the policy and none of the reference, whose
hidden states are kept from the start. It takes no gradient, draws no random number and leaves the model as it was, so
that a run with it and a run without end in the same bits. It knows no optimiser, no file and no job. Letters: P
response positions of the probe set, K its examples, V vocabulary, D hidden width. Nats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from deft.budgets import DIVERGENCE_POSITIONS
from deft.errors import Finding, ReviewNeeded
from deft.losses import sum_by_sequence
from deft.packing import Pack
from deft.reward import Direction, Head, response_rewards
from deft.sharding import release
from deft.specs import Drift
from deft.training.batches import with_responses
from deft.training.heads import on_device
from deft.training.methods import criterion_of
from deft.training.objective import Objective
from deft.training.ranks import ALONE

PREFIX = "deft/probe_"

OVERRUN = "drift_budget"
"""The code under which a run pauses."""


@dataclass(frozen=True, slots=True)
class Probe:
    """The probe set, laid out once, with the reference's hidden states [P, D] for each of its forward passes."""

    objective: Objective
    packs: Sequence[Pack]
    reference: Sequence[Tensor]
    head: Head
    """The reference's head; on the host where the policy's is trained."""

    @torch.no_grad()
    def at_start(self, model: nn.Module) -> dict[str, float]:
        """Return the numbers of the reference itself, as `measure` does of a policy; *model* still is the reference."""
        if self.objective.is_sharded:
            self._states(model)  # gathers the head
        return self._numbers(self.reference, model)

    @torch.no_grad()
    def measure(self, model: nn.Module) -> dict[str, float]:
        """Return how *model* differs from the reference on the probe set; means over its examples.

        `deft/probe_kl` and `deft/probe_entropy`: KL(policy || reference) and entropy of the next token, exact over V,
        a mean over the response's positions. `deft/probe_length`: the expected number of tokens, were the policy to
        end the response on its own somewhere before its true end: sum over t of the probability that it has not ended
        before t. `deft/probe_r_d`: M5, where there is a distribution.
        """
        return self._numbers(self._states(model), model)

    def _states(self, model: nn.Module) -> list[Tensor]:
        model.eval()
        return [self.objective.states(model, pack) for pack in self.packs]

    def _numbers(self, states: Sequence[Tensor], model: nn.Module) -> dict[str, float]:
        reading = self.objective.read()
        heads = reading.computed, on_device(self.head, states[0].device)
        parts = [
            self._of_pack(*each, heads, reading.direction)
            for each in zip(self.packs, states, self.reference, strict=True)
        ]
        release(model)
        return {name: torch.cat([part[name] for part in parts]).mean().item() for name in parts[0]}

    def _of_pack(
        self, pack: Pack, policy: Tensor, reference: Tensor, heads: tuple[Head, Head], direction: Direction | None
    ) -> dict[str, Tensor]:
        """Return each number for every example of *pack*."""
        kl, entropy, end = position_numbers(policy, reference, heads, self.objective.end_id)
        count = torch.bincount(pack.sequence, minlength=pack.responses)
        found = {
            PREFIX + "kl": sum_by_sequence(kl, pack.sequence, pack.responses) / count,
            PREFIX + "entropy": sum_by_sequence(entropy, pack.sequence, pack.responses) / count,
            PREFIX + "length": torch.stack([expected_length(own) for own in torch.split(end, count.tolist())]),
        }
        if direction is not None:
            own = pack.is_own
            found[PREFIX + "r_d"] = response_rewards(policy[own], pack.sequence[own], pack.responses, direction)
        return found


class DriftWatch:
    """A probe set with its budget: when to look, and what is too much."""

    def __init__(self, probe: Probe, budget: Drift, model: nn.Module) -> None:
        self.probe, self.budget = probe, budget
        self.start = probe.at_start(model)
        self.limits = limits_of(budget, has_reference=criterion_of(probe.objective.method).has_reference)

    def is_due(self, step: int, last: int) -> bool:
        """Whether to look after *step* of *last*."""
        return step % self.budget.every == 0 or step == last

    def overruns(self, now: Mapping[str, float]) -> list[Finding]:
        """Return what of the numbers *now* is outside the budget."""
        change = {name: now[name] - value for name, value in self.start.items()}
        amounts = {
            "max_kl": now[PREFIX + "kl"],
            "max_entropy_change": abs(change[PREFIX + "entropy"]) / self.start[PREFIX + "entropy"],
            "max_length_change": abs(change[PREFIX + "length"]) / self.start[PREFIX + "length"],
            "max_r_d_change": abs(change.get(PREFIX + "r_d", 0.0)),
        }
        return [
            _overrun(name, amounts[name], limit)
            for name, limit in self.limits.items()
            if limit is not None and amounts[name] > limit
        ]


def limits_of(budget: Drift, *, has_reference: bool) -> dict[str, float | None]:
    """Return the limits of *budget* with `auto` resolved for a method that *has_reference* or not."""
    kl = (1.0 if has_reference else 3.0) if budget.max_kl == "auto" else budget.max_kl
    return {
        "max_kl": kl,
        "max_entropy_change": budget.max_entropy_change,
        "max_length_change": budget.max_length_change,
        "max_r_d_change": budget.max_r_d_change,
    }


def _overrun(name: str, amount: float, limit: float) -> Finding:
    return Finding(
        code=name,
        pointer=f"/drift/{name}",
        found=f"{amount:.4g} on the probe set",
        expected=f"at most {limit:g}",
        fix="resume to go on regardless; or cancel and train with a lower optimisation.learning_rate, a lower "
        "deft.omega or fewer epochs",
    )


def in_words(overruns: Sequence[Finding]) -> str:
    """Return *overruns* in one line."""
    return "; ".join(f"{each.code} {each.expected}, found {each.found}" for each in overruns)


def review_of(overruns: Sequence[Finding], step: int) -> ReviewNeeded:
    """Return what pauses a run whose drift at *step* is beyond its budget."""
    return ReviewNeeded(
        f"after optimiser step {step} the policy has drifted beyond its budget ({in_words(overruns)}); a checkpoint "
        "has been written",
        code=OVERRUN,
        findings=overruns,
    )


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
    own = replace(
        objective, examples=chosen, shares_prompts=False, reference=None, rewards=None, weights=None, ranks=ALONE
    )
    packs = [own.pack(indices, model) for indices in own.micro_batches(range(len(chosen)))]
    model.eval()
    head = own.head if own.trained is None else own.trained.kept()
    with reference():
        return Probe(own, packs, [own.states(model, pack) for pack in packs], head)


def position_numbers(
    policy: Tensor, reference: Tensor, heads: tuple[Head, Head], end_id: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return [P] float32 each, of hidden states [P, D]: KL(policy || reference), the policy's entropy and p(*end_id*).

    *heads* are the policy's and the reference's. [., V] exists for a few positions at a time.
    """
    found = []
    for ours, theirs in zip(*(torch.split(each, DIVERGENCE_POSITIONS) for each in (policy, reference)), strict=True):
        log_p, log_q = (
            torch.log_softmax(head.logits(hidden), dim=-1) for head, hidden in zip(heads, (ours, theirs), strict=True)
        )
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
