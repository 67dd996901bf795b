"""Peak memory of one forward pass, with or without its backward pass, calculated from a model's shape.

What is kept for the backward pass follows PEFT's LoRA layers over a frozen base, or float32 weights that are all
tuned, under autocast, as `deft.training.policy` runs them; a test counts the tensors that autograd really saves and
holds these numbers against it. Letters: D width of the residual, F of the MLP, H of all heads together, L tokens of the
longest row, b bytes of an element. It knows no data.
"""

from collections.abc import Callable, Iterator

from deft import budgets
from deft.planning.cards import USABLE_SHARE as USABLE_SHARE
from deft.planning.cards import Checkpointing as Checkpointing
from deft.planning.cards import Need, memory_of
from deft.planning.cards import Pass as Pass
from deft.planning.cards import Precision as Precision
from deft.planning.documents import Memory, Operation, Remedy
from deft.planning.shapes import Shape
from deft.specs import Lora, Quantisation

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

PRECISIONS: dict[str, Precision] = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
"""By the name of torch's dtype."""


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

    def need_in(precision: Precision) -> Need:
        return Need(
            operation="train",
            precision=precision,
            weights_bytes=parameters * (4 if precision == "fp32" else 4 + element_bytes(precision)),
            adapter_bytes=0,
            tuned_bytes=12 * parameters,
            logits_bytes=_chunk_bytes(shape, precision)
            + 4 * shape.vocabulary_size * shape.width,  # the head's gradient
            bytes_per_token=saved_bytes_per_token(shape, None, precision, planned.row_tokens),
            checkpointed=checkpointed_bytes_per_token(shape, None, precision, planned.row_tokens),
            checkpointing=checkpointing,
            sharded={count: held_by_each(shape, precision, parameters, count) for count in SHARDS},
        )

    cheaper: dict[Remedy, Need] = {"half_precision": need_in("bf16")} if precision == "fp32" else {}
    return memory_of(need_in(precision), planned, cheaper)


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
    quantisation: Quantisation | None = "none",
) -> Memory:
    """Return the peak of a training: weights, adapter with AdamW, what the passes keep, and one chunk of logits.

    With *checkpointing* `auto` the peak is that without it; cards have it where one example does not fit otherwise.
    *weights_bytes* are those in memory, in four bits where *quantisation* says so; None: there may be none.
    """

    def need_in(precision: Precision, weights_bytes: int) -> Need:
        return Need(
            operation="train",
            precision=precision,
            weights_bytes=weights_bytes,
            adapter_bytes=shape.lora_parameters(lora) * (ADAMW_BYTES + (0 if precision == "fp32" else 2)),
            logits_bytes=_chunk_bytes(shape, precision),
            bytes_per_token=saved_bytes_per_token(shape, lora, precision, planned.row_tokens),
            checkpointed=checkpointed_bytes_per_token(shape, lora, precision, planned.row_tokens),
            checkpointing=checkpointing,
        )

    cheaper = dict(_cheaper(shape, precision, weights_bytes, quantisation, need_in))
    return memory_of(need_in(precision, weights_bytes), planned, cheaper)


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
    quantisation: Quantisation | None = None,
) -> Memory:
    """Return the peak of forward passes that keep nothing: a scoring or an evaluation.

    *weights_bytes* and *quantisation* as in `training_memory`.
    """

    def need_in(precision: Precision, weights_bytes: int) -> Need:
        return Need(
            operation=operation,
            precision=precision,
            weights_bytes=weights_bytes,
            adapter_bytes=adapter_bytes,
            logits_bytes=logits_bytes,
            bytes_per_token=working_bytes_per_token(shape, precision, planned.row_tokens),
            cache_bytes=cache_bytes,
        )

    cheaper = dict(_cheaper(shape, precision, weights_bytes, quantisation, need_in))
    return memory_of(need_in(precision, weights_bytes), planned, cheaper)


def _cheaper(
    shape: Shape,
    precision: Precision,
    weights_bytes: int,
    quantisation: Quantisation | None,
    need_in: Callable[[Precision, int], Need],
) -> Iterator[tuple[Remedy, Need]]:
    """Yield what the same takes in half precision, over an NF4 base, and with both, as far as that is a change."""
    saved = saved_by_nf4(shape, precision) if quantisation == "nf4" else 0
    parameters = (weights_bytes + saved) // element_bytes(precision)
    if precision == "fp32":
        yield "half_precision", need_in("bf16", weights_in_memory(shape, "bf16", parameters, quantisation or "none"))
    if quantisation == "none":
        yield "nf4", need_in(precision, weights_in_memory(shape, precision, parameters, "nf4"))
    if quantisation == "none" and precision == "fp32":
        yield "half_precision_nf4", need_in("bf16", weights_in_memory(shape, "bf16", parameters, "nf4"))


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
