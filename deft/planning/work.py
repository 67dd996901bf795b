"""Tokens, steps and FLOPs of every operation, from a model's shape and a sample of lengths. Pure arithmetic.

A frozen base costs one forward-sized unit forward and one backward (no gradient of its weights); LoRA its own three.
Where all weights are tuned it is three, and four for the head, whose logits are computed again in the backward pass.
Attention is counted over whole rows: its dense mask skips nothing. Padding is left out.
"""

import math
from dataclasses import dataclass, replace

from deft import budgets
from deft.models.fit import answers_prompts, judges_pairs
from deft.planning.documents import Operation, Work
from deft.planning.lengths import Sample, Sizes
from deft.planning.shapes import Shape
from deft.specs import Drift, EvaluateSpec, Method, Optimisation, SftMethod

CALIBRATION_STEPS = 8
"""Optimiser steps over which omega is measured (M10)."""


@dataclass(frozen=True, slots=True)
class Cost:
    """The work, and what only its time depends on: FLOPs by kind, and how often all weights are read for one token."""

    work: Work
    forward_flops: float = 0.0
    training_flops: float = 0.0
    decode_steps: int = 0


@dataclass(frozen=True, slots=True)
class Counter:
    """FLOPs of one model. *is_shared* says whether an example's responses share their prompt in one row."""

    shape: Shape
    lora_parameters: int
    is_shared: bool
    is_full: bool = False
    """Whether all weights are tuned."""
    may_quantise: bool = True
    """Whether the spec takes an NF4 base."""

    def tokens(self, sizes: Sizes, *, has_end: bool) -> int:
        """Return the tokens of one example in the model."""
        return sizes.row_tokens(is_shared=self.is_shared, has_end=has_end)

    def forward(self, sizes: Sizes, *, has_end: bool) -> float:
        """Return the FLOPs of one example through the layers, without the head."""
        tokens = self.tokens(sizes, has_end=has_end)
        row = sizes.longest_row(is_shared=self.is_shared, has_end=has_end)
        return tokens * self._dense + tokens * self._attention(row)

    def train(self, sizes: Sizes) -> float:
        """Return the FLOPs of one example forward and backward with its head, the reference not counted."""
        tokens = self.tokens(sizes, has_end=True)
        attention = tokens * self._attention(sizes.longest_row(is_shared=self.is_shared, has_end=True))
        if self.is_full:
            return 3 * tokens * self._dense + 3 * attention + 4 * self.head(sizes)
        layers = 2 * tokens * self._dense + 3 * attention + 6 * tokens * self.lora_parameters
        return layers + 2 * self.head(sizes)

    def head(self, sizes: Sizes) -> float:
        """Return the FLOPs of the head at the positions that predict a response of one example."""
        return sizes.positions(has_end=True) * self.head_token

    @property
    def head_token(self) -> float:
        """FLOPs of the head at one position."""
        return 2.0 * self.shape.vocabulary_size * self.shape.width

    @property
    def _dense(self) -> float:
        return 2.0 * self.shape.layers * sum(linear.inputs * linear.outputs for linear in self.shape.linears)

    def _attention(self, row_tokens: int) -> float:
        return 4.0 * self.shape.layers * self.shape.heads * self.shape.head_width * row_tokens

    def read(self, tokens: float) -> float:
        """Return the FLOPs of one text of *tokens* through the layers, without the head."""
        return tokens * (self._dense + self._attention(round(tokens)))

    def generate(self, prompt: float, new: int) -> float:
        """Return the FLOPs of one answer of *new* tokens to a prompt, with the head at each of them."""
        return self.read(prompt + new) + new * self.head_token


def scoring(counter: Counter, sample: Sample, rows: int, name: str = "score") -> Cost:
    """Return the cost of scoring *rows* examples; a soft-capped head is the only one that computes logits."""
    capped = counter.shape.head_softcap is not None
    each = sample.mean(lambda sizes: counter.forward(sizes, has_end=False) + (counter.head(sizes) if capped else 0.0))
    tokens = sample.mean(lambda sizes: counter.tokens(sizes, has_end=False))
    return _cost(name, "score", rows, forward=(tokens * rows, each * rows))


def training(
    counter: Counter,
    sample: Sample,
    rows: int,
    method: Method,
    plan: Optimisation,
    *,
    drift: Drift | None = None,
    name: str = "train",
) -> Cost:
    """Return the cost of training on *rows* examples for all epochs, the reference (DPO) once before, and the probe."""
    own = sample.picked(method)
    tokens = own.mean(lambda sizes: counter.tokens(sizes, has_end=True))
    each = own.mean(lambda sizes: _step(counter, sizes, plan))
    reference = own.mean(lambda sizes: counter.forward(sizes, has_end=True) + counter.head(sizes))
    passes = rows if method.type == "dpo" else 0
    steps = plan.epochs * math.ceil(rows / plan.batch_size)
    seen = rows * plan.epochs
    looks, probe = (0, 0.0) if drift is None else _probe(counter, sample, drift, rows, steps)
    forward = (tokens * passes, reference * passes + looks * probe)
    return _cost(name, "train", rows, forward=forward, trained=(tokens * seen, each * seen), steps=steps)


def _step(counter: Counter, sizes: Sizes, plan: Optimisation) -> float:
    """Return the FLOPs of one example in a step: where checkpointing is asked for, its layers forward once more."""
    again = counter.forward(sizes, has_end=True) if plan.gradient_checkpointing == "on" else 0.0
    return counter.train(sizes) + again


def _probe(counter: Counter, sample: Sample, drift: Drift, rows: int, steps: int) -> tuple[int, float]:
    """Return how many examples the drift probe looks at in all, and the FLOPs of each: one response, two heads."""
    best = sample.picked(SftMethod())
    each = best.mean(lambda sizes: counter.forward(sizes, has_end=True) + 2 * counter.head(sizes))
    return min(drift.examples, rows) * (1 + math.ceil(steps / drift.every)), each


def calibration(
    counter: Counter, sample: Sample, rows: int, method: Method, plan: Optimisation, name: str = "measure_omega"
) -> Cost:
    """Return the cost of measuring omega: a few steps, forward once and backward twice."""
    own = sample.picked(method)
    seen = min(rows, CALIBRATION_STEPS * plan.batch_size)
    tokens = own.mean(lambda sizes: counter.tokens(sizes, has_end=True))
    each = 1.5 * own.mean(lambda sizes: _step(counter, sizes, plan))
    return _cost(name, "measure_omega", seen, trained=(tokens * seen, each * seen))


def evaluation(
    counter: Counter,
    sample: Sample,
    pairs: int,
    prompts: int,
    spec: EvaluateSpec,
    name: str = "evaluate",
) -> Cost:
    """Return the cost of judging *pairs* and answering *prompts* under the base and the adapters of *spec*.

    Reward models are added by `with_reading`; BARTScore, the general text and lm-evaluation-harness are left out.
    """
    options, systems = spec.options, len(spec.systems)
    own = sample.mean(lambda sizes: counter.forward(sizes, has_end=True) + counter.head(sizes))
    tokens = sample.mean(lambda sizes: counter.tokens(sizes, has_end=True))
    prompt, new = sample.mean(lambda sizes: sizes.prompt), options.max_new_tokens
    judged = pairs * (systems + 1) if judges_pairs(spec) else 0
    answers = prompts * (systems + 1) if answers_prompts(spec) else 0
    compared = _compared(spec) * prompts
    flops = judged * own + answers * counter.generate(prompt, new)
    flops += compared * counter.generate(prompt, new)
    at_once = max(1, budgets.GENERATION_TOKENS["cuda"] // round(prompt + new))
    steps = math.ceil(prompts / at_once) * new * (systems + 1) if answers else 0
    forward = (judged * tokens + (answers + compared) * prompt + compared * new, flops)
    cost = _cost(name, "evaluate", pairs, forward=forward, generated=answers * new)
    return Cost(cost.work, cost.forward_flops, cost.training_flops, steps)


def with_reading(cost: Cost, tokens: float, flops: float) -> Cost:
    """Return *cost* with *tokens* that other models read, for *flops*."""
    own = cost.work
    more = {"forward_tokens": own.forward_tokens + round(tokens), "flops": own.flops + flops}
    return replace(cost, work=own.model_copy(update=more), forward_flops=cost.forward_flops + flops)


def _compared(spec: EvaluateSpec) -> int:
    """Return how many passes every answered prompt costs for KL and entropy."""
    systems, metrics = len(spec.systems), spec.options.metrics
    own = systems + 1 if "entropy" in metrics else systems if "kl" in metrics else 0
    return own + (systems if "kl" in metrics else 0)


def without_model(operation: Operation, rows: int | None, name: str) -> Cost:
    """Return the cost of an *operation* that runs no model."""
    return Cost(Work(name=name, operation=operation, rows=rows, forward_tokens=0, flops=0.0))


def _cost(
    name: str,
    operation: Operation,
    rows: int,
    *,
    forward: tuple[float, float] = (0.0, 0.0),
    trained: tuple[float, float] = (0.0, 0.0),
    generated: int = 0,
    steps: int | None = None,
) -> Cost:
    """Bring together (tokens, FLOPs) of forward passes and of training."""
    work = Work(
        name=name,
        operation=operation,
        rows=rows,
        steps=steps,
        forward_tokens=round(forward[0]),
        trained_tokens=round(trained[0]),
        generated_tokens=generated,
        flops=forward[1] + trained[1],
    )
    return Cost(work, forward[1], trained[1])
