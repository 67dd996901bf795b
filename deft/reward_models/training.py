"""The training loop of a reward model: Bradley-Terry over batches of rows, AdamW, checkpoints, stops at every step.

Every step is a function of (weights, optimiser state, seed, step), so that a run that was interrupted ends as one that
was not. Knows models and sequences; no dataset and no folder but that of the checkpoints.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from deft.errors import Finding, Interrupted, TrainingDiverged
from deft.failures import is_out_of_memory
from deft.memory import release_memory
from deft.packing import plan
from deft.reports import Report
from deft.reward_models.layout import Sequences
from deft.reward_models.loss import bradley_terry
from deft.reward_models.model import TOKENS_AT_ONCE, logits_of
from deft.specs.rewards import RewardOptimisation
from deft.training import checkpoints as resume


@dataclass(frozen=True, slots=True)
class Store:
    """Where resume state is kept, and what run it belongs to."""

    root: Path
    run: Mapping[str, str]


class Training:
    """One training of *model* over *rows*; `run` does all of it, or what a checkpoint leaves of it."""

    def __init__(
        self,
        model: nn.Module,
        rows: Sequence[Sequences],
        settings: RewardOptimisation,
        report: Report,
        store: Store | None,
    ) -> None:
        self.model, self.rows, self.settings, self.report, self.store = model, rows, settings, report, store
        self.steps = steps_of(len(rows), settings)
        self.device = next(model.parameters()).device
        self._tuned = {name: each for name, each in model.named_parameters() if each.requires_grad}
        self._optimizer = torch.optim.AdamW(
            self._tuned.values(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self._budget = TOKENS_AT_ONCE[self.device.type]
        self.last: dict[str, float] = {}

    def run(self) -> None:
        """Train to the end.

        Raises:
            Interrupted: the report asks to stop; a checkpoint has been written.
            TrainingDiverged: a loss that is not finite.
            RuntimeError, MemoryError: memory ran out with one row at a time.
        """
        self.model.train()
        for step in range(self._resume(), len(self.steps)):
            self._step(step)
            done = step + 1
            self.report.progress(done, len(self.steps), "steps")
            self.report.metrics(done, self.last)
            if done < len(self.steps) and (self.report.is_stopping or done % self.settings.checkpoint_steps == 0):
                self._keep(done)
            if self.report.is_stopping:
                raise Interrupted
        self.model.eval()

    def _step(self, step: int) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * rate_at(step, len(self.steps), self.settings)
        while (found := self._tried(step)) is None:
            self._budget //= 2
            release_memory()
        loss, right = found
        norm = float(nn.utils.clip_grad_norm_(self._tuned.values(), self.settings.max_grad_norm))
        if not np.isfinite(loss) or not np.isfinite(norm):
            raise _diverged(step + 1)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.last = {"loss": loss, "accuracy": right, "grad_norm": norm}

    def _tried(self, step: int) -> tuple[float, float] | None:
        """Add up the gradient of *step*; return loss and accuracy, or None where it takes too much memory at once."""
        torch.manual_seed(np.random.SeedSequence([self.settings.seed, step]).generate_state(1).item())  # of dropout
        batch, loss, right = self.steps[step], 0.0, 0.0
        passes = plan([self._tokens(row) for row in batch], self._budget)
        try:
            for part in passes:
                own, hits = self._backward([self.rows[batch[place]] for place in part], len(batch))
                loss, right = loss + own, right + hits
        except (RuntimeError, MemoryError) as error:
            if len(passes) == len(batch) or not is_out_of_memory(error):
                raise
            self.report.note(f"out of memory with {len(passes[0])} rows at once: again with fewer")
            self._optimizer.zero_grad(set_to_none=True)
            return None
        return loss, right

    def _backward(self, rows: Sequence[Sequences], batch_rows: int) -> tuple[float, float]:
        """Add the gradient of *rows*' part of the batch mean; return that part of the loss and of the accuracy."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._is_half()):
            logits = logits_of(self.model, rows)
        sizes = [len(row.ids) for row in rows]
        loss = bradley_terry(logits, sizes).sum() / batch_rows
        loss.backward()  # type: ignore[no-untyped-call]
        firsts = [own[0] > own[1:].max() for own in torch.split(logits.detach(), sizes)]
        return loss.item(), float(torch.stack(firsts).sum()) / batch_rows

    def _is_half(self) -> bool:
        if self.settings.precision == "auto":
            return self.device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return self.settings.precision == "bf16"

    def _tokens(self, row: int) -> int:
        return self.rows[row].longest * len(self.rows[row].ids)

    def _keep(self, step: int) -> None:
        if self.store is None:
            return
        state, groups = resume.optimizer_parts(self._optimizer)
        tensors: dict[str, Mapping[str, Tensor]] = {"weights": self._tuned, "optimizer": state}
        folder = resume.write(
            self.store.root, step, run=self.store.run, groups=tensors, documents={"optimizer_groups": groups}
        )
        self.report.checkpoint(step, folder)

    def _resume(self) -> int:
        """Take over the newest checkpoint and return the steps that it had done, 0 without one."""
        found = None if self.store is None else resume.newest(self.store.root, run=self.store.run, report=self.report)
        if found is None:
            return 0
        weights = resume.read_group(found, "weights")
        with torch.no_grad():
            for name, parameter in self._tuned.items():
                parameter.copy_(weights[name])
        groups = resume.read_document(found, "optimizer_groups")
        resume.load_optimizer(self._optimizer, resume.read_group(found, "optimizer"), groups)
        return int(found.name.removeprefix(resume.PREFIX))


def steps_of(rows: int, settings: RewardOptimisation) -> list[list[int]]:
    """Return the places of the rows of every optimiser step, each epoch in an order of its own by the seed."""
    steps = []
    for epoch in range(settings.epochs):
        order: list[int] = np.random.default_rng([settings.seed, epoch]).permutation(rows).tolist()
        steps += [order[start : start + settings.batch_size] for start in range(0, rows, settings.batch_size)]
    return steps


def rate_at(step: int, steps: int, settings: RewardOptimisation) -> float:
    """Return the share of the learning rate at *step* (from 0): a linear warm-up, then constant or linear to 0."""
    warmup = round(settings.warmup_fraction * steps)
    if step < warmup:
        return (step + 1) / warmup
    if settings.schedule == "constant":
        return 1.0
    return (steps - step) / max(1, steps - warmup)


def _diverged(step: int) -> TrainingDiverged:
    finding = Finding(
        code="not_finite",
        pointer="/optimisation/learning_rate",
        found=f"a loss or gradient that is not finite at step {step}",
        expected="finite numbers",
        fix="lower optimisation.learning_rate, or raise warmup_fraction",
    )
    return TrainingDiverged(f"the reward model diverged at step {step}", findings=[finding])
