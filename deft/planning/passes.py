"""The forward passes that each operation will make, as the code chooses them on a GPU, and the memory they take."""

import os

from deft import budgets
from deft.planning import memory
from deft.planning.documents import Memory
from deft.planning.lengths import Sample, Sizes
from deft.planning.memory import Pass, Precision
from deft.planning.work import Counter
from deft.specs import EvaluateSpec, Lora, Optimisation, Quantisation, ScoreSpec

CAPPED_LOGITS_BYTES, DIVERGENCE_LOGITS_BYTES = 6, 20
"""Of one logit: in half precision and in float32; and where two models' distributions are compared in float32."""


CPU_PROCESS_BYTES = 540 * 2**20
"""Of a process with Python, torch, transformers, PEFT, a tokenizer and a small data set, without the weights.

Measured: 477 MiB with the libraries alone, 518 to 558 with a tokenizer of 3,500 to 49,152 tokens (docs/diary.md).
"""

CPU_HOLES = 0.7
"""Of what goes through all layers in one pass, the share that glibc's arenas hold at the peak, freed but not reused.

Measured: 0.4 to 1.05, mostly 0.65 to 0.85 (docs/diary.md).
"""

MAPPED_BYTES = 32 * 2**20
"""A larger block is mapped by itself and given back when it is freed: glibc's M_MMAP_THRESHOLD at its highest."""


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def precision_of(asked: str) -> Precision:
    """Return what *asked* comes to on the cards that are planned for: auto is bfloat16."""
    return "fp32" if asked == "fp32" else "fp16" if asked == "fp16" else "bf16"


def scoring_memory(counter: Counter, sample: Sample, rows: int, spec: ScoreSpec, parameters: int) -> Memory:
    """Return the peak of a scoring, which halves its passes by itself until they fit."""
    longest = sample.largest(lambda sizes: _padded(counter, sizes, has_end=False))
    tokens = min(rows * longest, max(budgets.SCORING_TOKENS["cuda"], longest))
    planned = Pass(tokens, _longest_row(counter, sample, has_end=False), longest, is_halved=True)
    precision = precision_of(spec.precision)
    return memory.forward_memory(
        counter.shape,
        precision,
        memory.weights_in_memory(counter.shape, precision, parameters, spec.quantisation),
        planned,
        operation="score",
        logits_bytes=_capped_logits(counter) if counter.shape.head_softcap is not None else 0,
        quantisation=_quantisable(counter, spec.quantisation),
    )


def _quantisable(counter: Counter, quantisation: Quantisation) -> Quantisation | None:
    """Return *quantisation*, None where the spec takes none."""
    return quantisation if counter.may_quantise else None


def training_memory(
    counter: Counter, sample: Sample, rows: int, lora: Lora | None, plan: Optimisation, parameters: int
) -> Memory:
    """Return the peak of a training on *rows* examples with the responses that its method picks."""
    longest = sample.largest(lambda sizes: _padded(counter, sizes, has_end=True))
    step = min(rows, plan.batch_size) * longest
    asked = plan.micro_batch_size
    tokens = max(budgets.TRAINING_TOKENS, longest) if asked is None else asked * longest
    planned = Pass(min(tokens, step), _longest_row(counter, sample, has_end=True), longest)
    precision = precision_of(plan.precision)
    if lora is None:
        return memory.full_training_memory(counter.shape, precision, parameters, planned, plan.gradient_checkpointing)
    weights = memory.weights_in_memory(counter.shape, precision, parameters, plan.quantisation)
    quantisation = _quantisable(counter, plan.quantisation)
    return memory.training_memory(
        counter.shape, lora, precision, weights, planned, plan.gradient_checkpointing, quantisation
    )


def cpu_training_bytes(
    counter: Counter, sample: Sample, rows: int, lora: Lora | None, plan: Optimisation, parameters: int, *, cores: int
) -> int:
    """Return the peak resident memory of a training on a CPU: float32, `cpu_lanes` passes side by side.

    Where all weights are tuned each of these passes has gradients of its own until they are added. What a layer frees
    does not fit the next one's tensors, so with gradient checkpointing, where every layer is freed twice, the allocator
    holds as much as without it: checkpointing saves what the passes keep, not these holes.
    """
    longest = sample.largest(lambda sizes: _padded(counter, sizes, has_end=True))
    examples = min(plan.micro_batch_size or 1, plan.batch_size, rows)
    planned = Pass(examples * longest, _longest_row(counter, sample, has_end=True), longest)
    shape, checkpointing = counter.shape, plan.gradient_checkpointing
    if lora is None:
        one, gradients = memory.full_training_memory(shape, "fp32", parameters, planned, checkpointing), 4 * parameters
    else:
        weights = memory.weights_in_memory(shape, "fp32", parameters, plan.quantisation)
        one, gradients = memory.training_memory(shape, lora, "fp32", weights, planned, checkpointing), 0
    lanes = cpu_lanes(-(-min(plan.batch_size, rows) // examples), lora, cores=cores)
    held = lanes * (one.pass_bytes + one.logits_bytes + gradients + _holes(counter, one))
    return CPU_PROCESS_BYTES + one.weights_bytes + one.adapter_bytes + one.tuned_bytes + held


def _holes(counter: Counter, one: Memory) -> int:
    """Return the bytes that the allocator holds for one pass; none where a layer's tensors are mapped one by one.

    A pass whose residual is below MAPPED_BYTES and whose MLP is above is counted whole: that is too much.
    """
    if 4 * counter.shape.width * one.pass_tokens > MAPPED_BYTES:
        return 0
    return int(CPU_HOLES * one.bytes_per_token * one.pass_tokens)


def cpu_lanes(passes: int, lora: Lora | None, *, cores: int) -> int:
    """Return how many of a step's *passes* run side by side on *cores*; with dropout, drawn in order, one."""
    return 1 if lora is not None and lora.dropout else max(1, min(cores, passes, budgets.LANES))


def evaluation_memory(
    counter: Counter, sample: Sample, pairs: int, prompts: int, spec: EvaluateSpec, parameters: int
) -> Memory:
    """Return the peak of an evaluation, which divides its passes by itself until they fit.

    Pairs are judged together, or prompts answered together with their cache, whichever takes more.
    """
    shape, budget, options = counter.shape, budgets.EVALUATION_TOKENS["cuda"], spec.options
    longest = sample.largest(lambda sizes: _padded(counter, sizes, has_end=True))
    prompt = sample.largest(lambda sizes: sizes.prompt)
    judged = min(pairs * longest, max(budget, longest))
    answer = prompt + options.max_new_tokens
    together = min(prompts, max(1, budgets.GENERATION_TOKENS["cuda"] // answer))
    tokens = max(judged, together * prompt)
    planned = Pass(tokens, _longest_row(counter, sample, has_end=True), longest, is_halved=True)
    divergence = budgets.DIVERGENCE_POSITIONS * shape.vocabulary_size * DIVERGENCE_LOGITS_BYTES
    return memory.forward_memory(
        shape,
        "bf16",
        memory.weights_in_memory(shape, "bf16", parameters, spec.quantisation),
        planned,
        operation="evaluate",
        # two adapters while they are swapped; or one tuned model beside the base
        adapter_bytes=parameters * memory.element_bytes("bf16") if counter.is_full else 2 * 4 * counter.lora_parameters,
        cache_bytes=together * answer * memory.cache_bytes_per_token(shape, "bf16"),
        logits_bytes=max(_capped_logits(counter), divergence, 2 * together * shape.vocabulary_size),
        quantisation=_quantisable(counter, spec.quantisation),
    )


def _capped_logits(counter: Counter) -> int:
    return budgets.TRAINING_POSITIONS * counter.shape.vocabulary_size * CAPPED_LOGITS_BYTES


def _longest_row(counter: Counter, sample: Sample, *, has_end: bool) -> int:
    return sample.largest(lambda sizes: sizes.longest_row(is_shared=counter.is_shared, has_end=has_end))


def _padded(counter: Counter, sizes: Sizes, *, has_end: bool) -> int:
    """Return the tokens of one example with its padding: its rows times the longest of them."""
    rows = 1 if counter.is_shared else len(sizes.responses)
    return rows * sizes.longest_row(is_shared=counter.is_shared, has_end=has_end)
