"""The training loop: a transformers `Trainer` that delegates to `deft.training.objective`; its state: our checkpoints.

One item of its dataset is one optimiser step (the list of its examples), so that the Trainer counts steps and never
learns of micro-batches. It saves and loads nothing by itself: no pickle is read or written. Knows no spec, no folders
but that of the checkpoints, no data but indices.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from deft.errors import Finding
from deft.memory import with_one_retry
from deft.reports import Report
from deft.sharding import all_there, gathered, like
from deft.training import checkpoints
from deft.training.accumulation import Accumulation, gradients_of
from deft.training.batches import read_tokens
from deft.training.divergence import DivergenceGuard, not_finite
from deft.training.drift import OVERRUN, DriftWatch, in_words
from deft.training.history import History
from deft.training.loss_scale import loss_scale_of
from deft.training.objective import Objective
from deft.training.policy import set_training_mode
from deft.training.step_totals import StepNumbers, added_up


@dataclass(frozen=True, slots=True)
class CheckpointStore:
    """Where the state of one run is written, every how many steps, and what identifies the run.

    *documents* are written into every checkpoint beside the trainer's own: what was found out before the first step.
    """

    root: Path
    every: int
    run: Mapping[str, str]
    documents: Mapping[str, Any] = field(default_factory=dict)


class AlignmentTrainer(Trainer):  # type: ignore[misc]
    """Runs the optimiser over the steps of a plan, with exact resume."""

    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: nn.Module,
        arguments: TrainingArguments,
        *,
        steps: Sequence[Sequence[int]],
        objective: Objective,
        omega: float,
        report: Report,
        store: CheckpointStore | None,
        epochs: int = 1,
        drift: DriftWatch | None = None,
    ) -> None:
        self.objective, self.omega, self.report, self.store, self.drift = objective, omega, report, store, drift
        self.epochs, self.history = epochs, History(report)
        self.metrics: dict[str, float] = {}
        self.overruns: list[Finding] = []
        self._has_noted_drift = False
        self._guard = DivergenceGuard()
        self.loss_scale = loss_scale_of(objective.computed_in)
        self.ranks = objective.ranks
        self._numbers: StepNumbers | None = None
        self._is_told_to_stop = False
        self._tokens = _running_totals(objective, steps)
        super().__init__(model, arguments, train_dataset=_Steps(steps), data_collator=_only_item)
        self.remove_callback(PrinterCallback)
        self.add_callback(_SafePoints(self))

    def _get_train_sampler(self, train_dataset: _Steps | None = None) -> torch.utils.data.Sampler[int]:
        """Visit the steps in the order of the plan, which is a function of (seed, epoch) alone."""
        return torch.utils.data.SequentialSampler(train_dataset or self.train_dataset)

    def training_step(
        self, model: nn.Module, inputs: Sequence[int], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Accumulate the gradient of one whole optimiser step, over all processes, and return its loss."""
        del num_items_in_batch
        set_training_mode(model)
        numbers = None
        while numbers is None:
            numbers = self._accumulate(model, inputs, self.state.global_step + 1)
        self._numbers = numbers
        return torch.tensor(numbers.loss, device=self.args.device)

    def _accumulate(self, model: nn.Module, inputs: Sequence[int], step: int) -> StepNumbers | None:
        """Accumulate the gradient of *step* over all processes; None: it overflowed, and the loss scale is halved."""
        if self.objective.is_sharded:
            found = self._share_of_shards(model, inputs, step)
        else:
            found = self.ranks.together(lambda: self._own_share(model, inputs, step))
        numbers = added_up([numbers for numbers, _ in found])
        self._is_told_to_stop = any(is_stopping for _, is_stopping in found)
        if not math.isfinite(numbers.loss):
            raise not_finite("loss", numbers.loss, step)
        if self.ranks.size > 1 and not self.objective.is_sharded:
            self.ranks.add(gradients_of(model))
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        return numbers if self.loss_scale.settle(gradients) else None

    def _share_of_shards(self, model: nn.Module, inputs: Sequence[int], step: int) -> list[tuple[StepNumbers, bool]]:
        """Return the same of all processes, whose passes wait for each other: who fails says nothing, but goes."""
        with all_there():
            own = self._own_share(model, inputs, step)
        return self.ranks.gather(own)

    def _own_share(self, model: nn.Module, inputs: Sequence[int], step: int) -> tuple[StepNumbers, bool]:
        """Accumulate this process's part of the gradient; return its numbers, and whether it was asked to stop."""
        how = Accumulation(self.objective, self.omega, self.loss_scale)
        totals = with_one_retry(
            lambda: how.of(inputs, model, self.args.device),
            objective=self.objective,
            place=f"step {step}",
            report=self.report,
        )
        return totals.numbers(), self.report.is_stopping

    @property
    def is_stopping(self) -> bool:
        """Whether the run was asked to stop: of several processes, as all of them knew at the last step."""
        return self._is_told_to_stop if self.ranks.size > 1 else self.report.is_stopping

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Report the metrics of a step under TRL's names; the summary at the end is ours to make."""
        del start_time
        if "loss" not in logs:
            return
        values = {**logs, **self._step_metrics(), "deft/omega": self.omega, **self._drift()}
        self._guard.see(self.state.global_step, values)
        self.metrics = {name: value for name, value in values.items() if math.isfinite(value)}
        self._tell(self.metrics)

    def _step_metrics(self) -> dict[str, float]:
        """Return the means over the examples of the last step, over its tokens, and how far the run is."""
        if self._numbers is None:
            raise RuntimeError("metrics are those of a step, and none has been taken")
        step = self.state.global_step
        done = {"num_tokens": self._tokens[step - 1], "epoch": step / len(self._tokens) * self.epochs}
        return {**self._numbers.metrics(), **done}

    def _tell(self, values: Mapping[str, float]) -> None:
        """Tell *values* of the present step to everyone who listens."""
        self.history.add(self.state.global_step, values)
        self.control: TrainerControl = self.callback_handler.on_log(self.args, self.state, self.control, dict(values))

    def tell_start(self) -> None:
        """Tell what the probe set says before the first step."""
        if self.drift is not None and self.state.global_step == 0:
            self._tell(self.drift.start)

    def _drift(self) -> dict[str, float]:
        """Look at the probe set where this step is one to do so; beyond the budget, ask for a checkpoint and stop."""
        if self.drift is None or not self.drift.is_due(self.state.global_step, self.state.max_steps):
            return {}
        has_part = self.ranks.is_first or self.objective.is_sharded
        found = self.ranks.first(self.drift.probe.measure(self.model) if has_part else {})
        overruns = self.drift.overruns(found)
        if overruns and self.store is not None and OVERRUN not in self.report.accepted:
            self.overruns = overruns
            self.control.should_save = self.control.should_training_stop = True
        elif overruns and not self._has_noted_drift:
            self._has_noted_drift = True
            self.report.note(f"step {self.state.global_step} is beyond the drift budget: {in_words(overruns)}")
        return found

    def floating_point_ops(self, inputs: Sequence[int]) -> int:
        """Count nothing: the estimate of the Trainer would be wrong for shared prompts."""
        del inputs
        return 0

    def _save_checkpoint(self, model: nn.Module, trial: None) -> None:
        """Write all that the next step depends on, as one sealed folder."""
        del model, trial
        if self.store is None:
            return
        random = self.ranks.gather(checkpoints.random_state())
        optimizer, parameter_groups = checkpoints.optimizer_parts(self.optimizer)
        weights: Mapping[str, Tensor] = _trainable(self.model)
        if self.objective.is_sharded:
            weights, optimizer = (gathered(each, keeps=self.ranks.is_first) for each in (weights, optimizer))
        if not self.ranks.is_first:
            return
        step = self.state.global_step
        groups: dict[str, Mapping[str, Tensor]] = {
            self._weights_group: weights,
            "optimizer": optimizer,
            **{random_name(rank): generators for rank, (generators, _) in enumerate(random)},
        }
        if self.objective.reference is not None:
            groups["reference"] = {"logps": self.objective.reference}
        groups["history"], names = self.history.parts()
        documents = {
            **self.store.documents,
            "optimizer": parameter_groups,
            **{random_name(rank): numbers for rank, (_, numbers) in enumerate(random)},
            "scheduler": self.lr_scheduler.state_dict(),
            "loss_scale": self.loss_scale.state(),
            "metrics": self.metrics,
            "guard": self._guard.state(),
            "history": names,
            "trainer_state": dataclasses.asdict(self.state),
        }
        folder = checkpoints.write(self.store.root, step, run=self.store.run, groups=groups, documents=documents)
        self.report.checkpoint(step, folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """Put the trained weights of a checkpoint into the model."""
        parameters = _trainable(model or self.model)
        saved = checkpoints.read_group(Path(resume_from_checkpoint), self._weights_group)
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(like(saved[name], parameter))
        self._load_told(Path(resume_from_checkpoint))

    @property
    def _weights_group(self) -> str:
        return "adapter" if self.objective.trained is None else "weights"

    def _load_told(self, folder: Path) -> None:
        """Put back what was measured up to the checkpoint in *folder*."""
        self.metrics = checkpoints.read_document(folder, "metrics")
        self._guard.restore(checkpoints.read_document(folder, "guard"))
        self.loss_scale.restore(checkpoints.read_document(folder, "loss_scale"))
        self.history.restore(checkpoints.read_group(folder, "history"), checkpoints.read_document(folder, "history"))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        folder = Path(checkpoint)
        groups = checkpoints.read_document(folder, "optimizer")
        checkpoints.load_optimizer(self.optimizer, checkpoints.read_group(folder, "optimizer"), groups)
        self.lr_scheduler.load_state_dict(checkpoints.read_document(folder, "scheduler"))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        name, folder = random_name(self.ranks.rank), Path(checkpoint)
        if not checkpoints.has_group(folder, name):  # it was written by fewer processes than there are now
            torch.manual_seed(self.args.seed + self.state.global_step)
            return
        checkpoints.restore_random_state(checkpoints.read_group(folder, name), checkpoints.read_document(folder, name))


class _SafePoints(TrainerCallback):  # type: ignore[misc]
    """After every optimiser step: tell the progress, decide whether to write a checkpoint, and whether to stop."""

    def __init__(self, trainer: AlignmentTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, *_: object, **__: object) -> None:
        """Runs before the first step, after a checkpoint has been read."""
        self.trainer.tell_start()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Runs once the step has been taken, before the Trainer logs and saves."""
        del args
        self.trainer.report.progress(state.global_step, state.max_steps, "steps")
        is_stopping = self.trainer.is_stopping
        is_last = state.global_step >= state.max_steps
        control.should_training_stop = control.should_training_stop or is_stopping
        store = self.trainer.store
        if store is not None:
            control.should_save = is_stopping or is_last or state.global_step % store.every == 0


class _Steps(torch.utils.data.Dataset[list[int]]):
    """The optimiser steps of a run, each a list of examples."""

    def __init__(self, steps: Sequence[Sequence[int]]) -> None:
        self.steps = [list(step) for step in steps]

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> list[int]:
        return self.steps[index]


def _only_item(items: list[list[int]]) -> list[int]:
    (item,) = items
    return item


def _running_totals(objective: Objective, steps: Sequence[Sequence[int]]) -> list[int]:
    """Return the tokens read up to and with each step, the prompt counted with every response, as TRL counts them."""
    return list(accumulate(sum(read_tokens(objective.examples[index]) for index in step) for step in steps))


def random_name(rank: int) -> str:
    """Return the name under which a checkpoint has the random generators of the process *rank*."""
    return "random" if rank == 0 else f"random_{rank}"


def _trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
