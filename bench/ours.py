"""Our own LoRA-DPO epoch on tokenised pairs, as the operation `train` runs it, less its files."""

import tempfile
from collections.abc import Mapping, Sequence

from bench.machine import Clock
from bench.workload import Workload
from deft.reports import Silent
from deft.reward import head_of
from deft.specs import DpoMethod, Lora, Optimisation
from deft.tokens import TokenizedExample
from deft.training.fused_lora import fused
from deft.training.objective import Objective, reference_logps
from deft.training.policy import attach_lora
from deft.training.run import training_arguments
from deft.training.trainer import AlignmentTrainer

LORA = Lora()
OPTIMISATION = Optimisation()
BETA = 0.1


class Losses(Silent):
    """A report that keeps the loss of every step."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Keep the loss."""
        self.values += [values["loss"]] if step else []


def file_order(pairs: int) -> list[list[int]]:
    """Return the optimiser steps of one epoch in file order."""
    return [list(range(pairs))[at : at + OPTIMISATION.batch_size] for at in range(0, pairs, OPTIMISATION.batch_size)]


def train_ours(work: Workload, pairs: Sequence[TokenizedExample], clock: Clock, prefix: str = "") -> list[float]:
    """Compute the reference and train one epoch over *pairs*; return the loss of every step.

    The clock hears the parts `reference` and `epoch`; loading the model is not timed.
    """
    base = work.model()
    head = head_of(base)
    model = fused(attach_lora(base, LORA, seed=0))
    micro_batch = 1 if work.device == "cpu" else None  # as deft.training.preparation chooses
    objective = Objective(DpoMethod(beta=BETA), pairs, work.end_id, True, micro_batch, head)
    steps, losses = file_order(len(pairs)), Losses()
    with clock.part(prefix + "reference"):
        objective.reference = reference_logps(
            objective, model, steps, reference=model.disable_adapter, after_each=lambda _: None
        )
    with tempfile.TemporaryDirectory(dir=work.scratch) as folder, clock.part(prefix + "epoch"):
        arguments = training_arguments(OPTIMISATION, work.scratch / folder, next(model.parameters()))
        AlignmentTrainer(
            model, arguments, steps=steps, objective=objective, omega=0.0, report=losses, store=None
        ).train()
    return losses.values
