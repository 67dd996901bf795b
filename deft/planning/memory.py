"""Peak memory of one forward pass, with or without its backward pass, calculated from a model's shape.

What is kept for the backward pass follows PEFT's LoRA layers over a frozen base, or float32 weights that are all
tuned, under autocast, as `deft.training.policy` runs them; a test counts the tensors that autograd really saves and
holds these numbers against it. Letters: D width of the residual, F of the MLP, H of all heads together, L tokens of the
longest row, b bytes of an element. It knows no data.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from deft import budgets
from deft.planning.documents import Card, Memory, Operation, Remedy, Sharded
from deft.planning.shapes import Shape
from deft.specs import Lora, Quantisation

GIB = 2**30
CARDS_GIB = (80, 24, 16, 12)
USABLE_SHARE = 0.92
"""Assumed: of a card's memory, what the driver, the CUDA context and fragmentation leave."""

HAS_FUSED_LORA = False
"""What the code can do today to need less memory; a test holds these against the code."""

NF4_BYTES = 4.127 / 8
"""Of one parameter of a linear module in NF4 with double quantisation (arXiv 2305.14314, section 3)."""

SHARDS = (2, 4, 8)
"""Numbers of processes for which a plan says what each needs where all weights are tuned."""

ADAMW_BYTES = 16
"""Of one trainable parameter in float32: itself, its gradient and two moments (8 more in half precision: its copy)."""

TUNED_NORM_BYTES = {"rms": 8, "layer": 4, "layer_without_bias": 8, "plain": 4}
"""What a norm over a float32 residual keeps of one element where its own weight is tuned too: input, normed input."""

Precision = Literal["fp32", "bf16", "fp16"]
Checkpointing = Literal["auto", "on", "off"]
PRECISIONS: dict[str, Precision] = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
"""By the name of torch's dtype."""


@dataclass(frozen=True, slots=True)
class Pass:
    """One forward pass: *tokens* with padding, in rows of at most *row_tokens*; *example_tokens* of its longest one."""

    tokens: int
    row_tokens: int
    example_tokens: int
    is_halved: bool = False
    """Whether the code halves such passes by itself until they fit."""


def element_bytes(precision: Precision) -> int:
    """Return the bytes of one element."""
    return 4 if precision == "fp32" else 2


def saved_bytes_per_token(shape: Shape, lora: Lora | None, precision: Precision, row_tokens: int) -> int:
    """Return what one token keeps in all layers for the backward pass, without gradient checkpointing.

    *lora* None: all weights are tuned.
    """
    own = shape.layers * _layer_bytes(shape, lora, precision, row_tokens)
    return own + _outside_bytes(shape, lora, precision, row_tokens)


def checkpointed_bytes_per_token(shape: Shape, lora: Lora | None, precision: Precision, row_tokens: int) -> int:
    """Return the same where only the input of every layer is kept, and one layer at a time is computed again."""
    kept = shape.layers * shape.width * (4 if lora is None else element_bytes(precision))
    return kept + _layer_bytes(shape, lora, precision, row_tokens) + _outside_bytes(shape, lora, precision, row_tokens)


def working_bytes_per_token(shape: Shape, precision: Precision, row_tokens: int) -> int:
    """Return what one token needs in a forward pass that keeps nothing: the widest layer's tensors, and the mask."""
    b = element_bytes(precision)
    heads = shape.heads * shape.head_width
    scores = 8 * shape.heads * row_tokens if shape.family.has_eager_attention else 0
    widest = max(4 * heads * b + scores, (3 if shape.family.is_gated else 2) * shape.mlp_width * b)
    return 2 * shape.width * b + 8 * shape.width + widest + b * row_tokens


def _layer_bytes(shape: Shape, lora: Lora | None, precision: Precision, row_tokens: int) -> int:
    """Return what one token keeps in one layer: norms, inputs of adapters or of tuned weights, attention, MLP."""
    b = element_bytes(precision)
    family, heads = shape.family, shape.heads * shape.head_width
    is_rms = family.norm in ("rms", "plain")
    by_norm = (8 if b == 2 else 4) if family.norm == "layer_without_bias" else 4 if is_rms else b
    if lora is None:
        by_norm = TUNED_NORM_BYTES[family.norm]
    norms = family.norms * shape.width * by_norm + (4 if lora else 8) * _qk_norm_elements(shape)
    attention = 4 * heads * b + (8 * shape.heads * row_tokens if family.has_eager_attention else 4 * shape.heads)
    copies = 3 if family.is_gated else family.activation_copies
    inputs = _input_bytes(shape, precision) if lora is None else _adapter_bytes(shape, lora, precision)
    return norms + inputs + attention + copies * shape.mlp_width * b


def _input_bytes(shape: Shape, precision: Precision) -> int:
    """Return what the tuned linear modules of one layer keep of one token: their inputs.

    The residual is float32, so in half precision each module that reads it keeps a rounded copy of its own; in float32
    they share it. Attention's output is kept by attention already.
    """
    b = element_bytes(precision)
    of_residual = [linear for linear in shape.linears if linear.reads in ("attention_input", "mlp_input")]
    own = {(linear.reads if precision == "fp32" else linear.name): linear.inputs * b for linear in of_residual}
    return sum(own.values()) + shape.mlp_width * b


def _qk_norm_elements(shape: Shape) -> int:
    """Return the elements of queries and keys that their norms keep in float32."""
    heads = shape.heads + shape.key_value_heads
    return 0 if shape.family.qk_norm == "none" else heads * shape.head_width


def _adapter_bytes(shape: Shape, lora: Lora, precision: Precision) -> int:
    """Return what the adapters of one layer keep of one token: their inputs, and r numbers each.

    In half precision PEFT casts each adapter's input to float32 and autocast casts it back, so each keeps a copy of
    its own. In float32, and where LoRA layers are one operation (no dropout), adapters on one tensor share it, and
    attention's output is kept by attention already.
    """
    b, targets = element_bytes(precision), shape.targets(lora)
    inner = sum(lora.r * b for _ in targets)
    if precision != "fp32" and not (HAS_FUSED_LORA and lora.dropout == 0):
        return inner + sum(linear.inputs * b for linear in targets)
    read = {linear.reads: linear.inputs * b for linear in targets if linear.reads != "attention_output"}
    return inner + sum(read.values())


def _outside_bytes(shape: Shape, lora: Lora | None, precision: Precision, row_tokens: int) -> int:
    """Return what one token keeps outside the layers: the mask's row, the final norm, the head's gradient or input."""
    b = element_bytes(precision)
    if lora is None:
        return b * row_tokens + (TUNED_NORM_BYTES[shape.family.norm] + 4) * shape.width
    return b * row_tokens + 4 * shape.width + 2 * b * shape.width


def full_training_memory(
    shape: Shape, precision: Precision, parameters: int, planned: Pass, checkpointing: Checkpointing = "off"
) -> Memory:
    """Return the peak of a training of all weights: they, their gradients and AdamW's states in float32, and passes.

    In half precision autocast keeps a copy of every weight for as long as a pass lasts. Sharded over processes, each
    has its part, and whole what is computed with at the time. *checkpointing* as in `training_memory`.
    """
    b = element_bytes(precision)
    head_gradient = 4 * shape.vocabulary_size * shape.width
    need = _Need(
        operation="train",
        precision=precision,
        weights_bytes=parameters * (4 if precision == "fp32" else 4 + b),
        adapter_bytes=0,
        tuned_bytes=12 * parameters,
        logits_bytes=_chunk_bytes(shape, precision) + head_gradient,
        bytes_per_token=saved_bytes_per_token(shape, None, precision, planned.row_tokens),
        checkpointed=checkpointed_bytes_per_token(shape, None, precision, planned.row_tokens),
        checkpointing=checkpointing,
        sharded={count: held_by_each(shape, precision, parameters, count) for count in SHARDS},
    )
    return _memory(need, planned)


def held_by_each(shape: Shape, precision: Precision, parameters: int, processes: int) -> int:
    """Return what each of several *processes* holds of weights, gradients and AdamW's states of all weights."""
    return -(-ADAMW_BYTES * parameters // processes) + _gathered_bytes(shape, element_bytes(precision))


def _gathered_bytes(shape: Shape, b: int) -> int:
    """Return what one process holds of the others' parts at one time, with its gradients before they are added.

    Embedding, final norm and head from the forward to the end of the backward pass, and two layers: the one at work
    and the one that is fetched.
    """
    layer = shape.linear_parameters // max(shape.layers, 1)
    together = shape.embedding_parameters + shape.head_parameters + 2 * layer
    return together * (2 * b + 4)


def _chunk_bytes(shape: Shape, precision: Precision) -> int:
    by_logit = 8 + (2 if precision != "fp32" else 0) + (4 if shape.head_softcap is not None else 0)
    return budgets.TRAINING_POSITIONS * shape.vocabulary_size * by_logit


def training_memory(
    shape: Shape,
    lora: Lora,
    precision: Precision,
    weights_bytes: int,
    planned: Pass,
    checkpointing: Checkpointing = "off",
    quantisation: Quantisation = "none",
) -> Memory:
    """Return the peak of a training: weights, adapter with AdamW, what the passes keep, and one chunk of logits.

    With *checkpointing* `auto` the peak is that without it; cards have it where one example does not fit otherwise.
    *weights_bytes* are those in memory, in four bits where *quantisation* says so.
    """
    half = precision != "fp32"
    need = _Need(
        operation="train",
        precision=precision,
        weights_bytes=weights_bytes,
        adapter_bytes=shape.lora_parameters(lora) * (ADAMW_BYTES + (2 if half else 0)),
        logits_bytes=_chunk_bytes(shape, precision),
        bytes_per_token=saved_bytes_per_token(shape, lora, precision, planned.row_tokens),
        checkpointed=checkpointed_bytes_per_token(shape, lora, precision, planned.row_tokens),
        checkpointing=checkpointing,
        saved_by_nf4=0 if quantisation == "nf4" else saved_by_nf4(shape, precision),
    )
    return _memory(need, planned)


def forward_memory(
    shape: Shape,
    precision: Precision,
    weights_bytes: int,
    planned: Pass,
    *,
    operation: Operation,
    adapter_bytes: int = 0,
    cache_bytes: int = 0,
    logits_bytes: int = 0,
) -> Memory:
    """Return the peak of forward passes that keep nothing: a scoring or an evaluation."""
    need = _Need(
        operation=operation,
        precision=precision,
        weights_bytes=weights_bytes,
        adapter_bytes=adapter_bytes,
        logits_bytes=logits_bytes,
        bytes_per_token=working_bytes_per_token(shape, precision, planned.row_tokens),
        cache_bytes=cache_bytes,
    )
    return _memory(need, planned)


def cache_bytes_per_token(shape: Shape, precision: Precision) -> int:
    """Return the bytes of one token's keys and values in all layers."""
    return 2 * shape.layers * shape.key_value_heads * shape.head_width * element_bytes(precision)


def weights_in_memory(shape: Shape, precision: Precision, parameters: int, quantisation: Quantisation) -> int:
    """Return the bytes of a base of so many *parameters*, as it lies in memory."""
    whole = parameters * element_bytes(precision)
    return whole - saved_by_nf4(shape, precision) if quantisation == "nf4" else whole


def saved_by_nf4(shape: Shape, precision: Precision) -> int:
    """Return the bytes that NF4 takes off the linear modules of all layers, less the largest, unpacked to be used."""
    sizes = [linear.inputs * linear.outputs for linear in shape.linears]
    saved = shape.layers * sum(sizes) * (element_bytes(precision) - NF4_BYTES)
    return int(saved - max(sizes) * element_bytes(precision))


@dataclass(frozen=True, slots=True)
class _Need:
    """What an operation takes: some of it in any case, *bytes_per_token* and the cache with the size of its passes."""

    operation: Operation
    precision: Precision
    weights_bytes: int
    adapter_bytes: int
    logits_bytes: int
    bytes_per_token: int
    cache_bytes: int = 0
    checkpointed: int | None = None
    checkpointing: Checkpointing = "off"
    saved_by_nf4: int = 0
    tuned_bytes: int = 0
    sharded: Mapping[int, int] = field(default_factory=dict)
    """By number of processes: what each holds in any case in place of weights, gradients and states."""

    @property
    def fixed(self) -> int:
        """What it takes in any case."""
        return self.weights_bytes + self.adapter_bytes + self.tuned_bytes + self.logits_bytes

    def per_token(self, usable: int | None, example_tokens: int) -> int:
        """Return what a token keeps where *usable* bytes are there (None: as many as it takes)."""
        is_short = usable is not None and self.fixed + example_tokens * self.bytes_per_token > usable
        is_on = self.checkpointing == "on" or (self.checkpointing == "auto" and is_short)
        return self.checkpointed if is_on and self.checkpointed is not None else self.bytes_per_token


def _memory(need: _Need, planned: Pass) -> Memory:
    pass_bytes = planned.tokens * need.per_token(None, planned.example_tokens)
    return Memory(
        operation=need.operation,
        precision=need.precision,
        weights_bytes=need.weights_bytes,
        adapter_bytes=need.adapter_bytes,
        tuned_bytes=need.tuned_bytes,
        bytes_per_token=need.bytes_per_token,
        checkpointed_bytes_per_token=need.checkpointed,
        pass_tokens=planned.tokens,
        pass_bytes=pass_bytes,
        logits_bytes=need.logits_bytes,
        cache_bytes=need.cache_bytes,
        peak_bytes=need.fixed + need.cache_bytes + pass_bytes,
        cards=[_card(gib, need, planned) for gib in CARDS_GIB],
        sharded=[_sharded(count, held + need.logits_bytes + pass_bytes) for count, held in need.sharded.items()],
    )


def _sharded(processes: int, peak: int) -> Sharded:
    fitting = (gib for gib in reversed(CARDS_GIB) if peak <= int(USABLE_SHARE * gib * GIB))
    return Sharded(processes=processes, peak_bytes=peak, smallest_card_gib=next(fitting, None))


def _card(gib: int, need: _Need, planned: Pass) -> Card:
    usable = int(USABLE_SHARE * gib * GIB)
    kept = need.per_token(usable, planned.example_tokens)
    per_token = kept + -(-need.cache_bytes // planned.tokens)
    largest = max(0, (usable - need.fixed) // per_token)
    least = planned.example_tokens
    fits = (least if planned.is_halved else planned.tokens) <= largest
    cures: dict[Remedy, int] = {"smaller_micro_batch": need.fixed + least * per_token}
    if need.checkpointed is not None:
        cures["checkpointing"] = need.fixed + least * need.checkpointed
    if need.checkpointed is not None and need.saved_by_nf4:
        cures["nf4"] = cures["checkpointing"] - need.saved_by_nf4
    if need.sharded:
        cures["sharding"] = min(need.sharded.values()) + need.logits_bytes + least * per_token
    remedy = None if fits else next((name for name, size in cures.items() if size <= usable), None)
    return Card(
        card_gib=gib,
        usable_bytes=usable,
        fits=fits,
        has_checkpointing=kept == need.checkpointed,
        largest_pass_tokens=largest,
        largest_pass_examples=largest // least,
        remedy=remedy,
    )
