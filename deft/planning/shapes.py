"""The shape of a model, from its config.json alone: parameters, linear modules, head, context. Knows no file.

Letters: D width of the residual, V vocabulary. Everything here is calculated; nothing is estimated.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from deft.errors import Finding, InvalidInput, ModelNotUsable, shown
from deft.models.heads import head_settings, unknown_head_fields
from deft.planning.families import FAMILIES, RENAMED, Family, Flag
from deft.specs import Lora

LARGEST_SIZE = 2**31
"""A width, number or length beyond this is no model's."""

Reads = Literal["attention_input", "attention_output", "mlp_input", "mlp_output"]
"""Which tensor a linear module reads; modules that read the same one share it."""


@dataclass(frozen=True, slots=True)
class Linear:
    """One linear module of a layer: [*outputs*, *inputs*], on what it *reads*."""

    name: str
    reads: Reads
    inputs: int
    outputs: int
    has_bias: bool

    @property
    def parameters(self) -> int:
        """Elements of weight and bias."""
        return self.outputs * (self.inputs + self.has_bias)


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoder-only model of a known family."""

    model_type: str
    family: Family
    vocabulary_size: int
    width: int
    layers: int
    heads: int
    key_value_heads: int
    head_width: int
    mlp_width: int
    context_tokens: int | None
    window_tokens: int | None
    is_tied: bool
    linears: tuple[Linear, ...]
    head_scale: float
    head_softcap: float | None

    @property
    def embedding_parameters(self) -> int:
        """Elements of the token embedding, and of the position embedding where there is one."""
        positions = (self.context_tokens or 0) * self.width if self.family.has_positions else 0
        return self.vocabulary_size * self.width + positions

    @property
    def head_parameters(self) -> int:
        """Elements of the head that are not the embedding's."""
        own = 0 if self.is_tied else self.vocabulary_size * self.width
        return own + (self.vocabulary_size if self.family.head_bias else 0)

    @property
    def linear_parameters(self) -> int:
        """Elements of all linear modules in the layers: what a token is multiplied by, twice this many FLOPs."""
        return self.layers * sum(linear.parameters for linear in self.linears)

    @property
    def norm_parameters(self) -> int:
        """Elements of all norms."""
        each = {"rms": 1, "layer": 2, "layer_without_bias": 1, "plain": 0}[self.family.norm]
        return each * self.width * (self.layers * self.family.norms + 1) + self.layers * self.qk_norm_width

    @property
    def qk_norm_width(self) -> int:
        """Elements of the norms of queries and keys in a layer."""
        if self.family.qk_norm == "none":
            return 0
        heads = 2 if self.family.qk_norm == "head" else self.heads + self.key_value_heads
        return heads * self.head_width

    @property
    def parameters(self) -> int:
        """All elements of the model."""
        return self.embedding_parameters + self.head_parameters + self.linear_parameters + self.norm_parameters

    @property
    def head_kind(self) -> str:
        """`softcap`, `bias`, `scaled` or `plain`, as `deft.reward.Head.kind`."""
        if self.head_softcap is not None:
            return "softcap"
        return "bias" if self.family.head_bias else "scaled" if self.head_scale != 1.0 else "plain"

    def targets(self, lora: Lora) -> list[Linear]:
        """Return the linear modules of a layer that get an adapter.

        Raises:
            InvalidInput: a name that is asked for is not one of the model's.
        """
        present = sorted({linear.name for linear in self.linears})
        wanted = present if lora.target_modules == "all-linear" else lora.target_modules
        unknown = sorted(set(wanted) - set(present))
        if unknown:
            raise unknown_target_modules(unknown, present)
        return [linear for linear in self.linears if linear.name in wanted]

    def lora_parameters(self, lora: Lora) -> int:
        """Return the trainable parameters of the adapter: r * (inputs + outputs) of each module with one."""
        return self.layers * sum(lora.r * (linear.inputs + linear.outputs) for linear in self.targets(lora))


def unknown_target_modules(unknown: list[str], present: list[str]) -> InvalidInput:
    """Return the error that the model has no linear modules called *unknown*; it has those in *present*."""
    finding = Finding(
        code="unknown_target_module",
        pointer="/lora/target_modules",
        found=", ".join(unknown),
        expected=f"some of: {', '.join(present)}",
        fix="use these names, or all-linear",
    )
    return InvalidInput(
        f"the model has no linear module named {', '.join(unknown)}; it has {', '.join(present)}",
        code="unknown_target_module",
        findings=[finding],
    )


def text_settings(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part of a config.json that describes the language model."""
    inner = config.get("text_config")
    return inner if isinstance(inner, dict) else config


def check_architecture(config: Mapping[str, Any]) -> None:
    """Refuse a model that is no causal language model, or whose head is known to be of no supported kind.

    A head that passes is still compared with the model's own logits before anything is scored.

    Raises:
        ModelNotUsable: with the reason.
    """
    _check_sizes(config)
    names = config.get("architectures")
    named = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
    causal = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "ModelWithLMHead", "Decoder")
    if named and not any(name.endswith(causal) for name in named):
        raise _refusal("not_causal", f"the architecture {', '.join(named)}", "a causal language model")
    if config.get("is_encoder_decoder") is True:
        raise _refusal("not_causal", "an encoder-decoder model", "a causal language model (decoder only)")
    unknown = unknown_head_fields(text_settings(config))
    if unknown:
        found = f"a head whose logits are changed by {', '.join(unknown)}"
        raise _refusal("unknown_head", found, "a head whose logits are W h (+ b), scaled or soft-capped")


def _check_sizes(config: Mapping[str, Any]) -> None:
    """Refuse settings of no model: without a type, or with a size that is none. What is absent may have a default."""
    settings = text_settings(config)
    model_type = settings.get("model_type", config.get("model_type"))
    if not isinstance(model_type, str):
        raise _refusal(
            "no_model_type", "a config.json without model_type", "the config.json of a model of transformers"
        )
    own = RENAMED.get(model_type, {})
    heads = ("num_attention_heads",) if model_type in FAMILIES else ()  # some models without attention write 0
    for name in (own.get(each, each) for each in ("hidden_size", "num_hidden_layers", "vocab_size", *heads)):
        value = settings.get(name)
        if value is not None and size_in(value) is None:
            raise _refusal("no_size", f"{name} {shown(value)} in its config.json", f"a number from 1 to {LARGEST_SIZE}")


def _refusal(code: str, found: str, expected: str) -> ModelNotUsable:
    finding = Finding(code, found, expected, "use a model such as Llama, Qwen or Mistral", pointer="/model")
    return ModelNotUsable(f"the model has {found}; expected {expected}", findings=[finding])


def shape_of(config: Mapping[str, Any]) -> Shape | None:
    """Return the shape of the model that *config* (a config.json) describes; None: its family is not known here."""
    settings = text_settings(config)
    model_type = str(settings.get("model_type", config.get("model_type")))
    family = FAMILIES.get(model_type)
    if family is None or settings.get("use_qk_norm") or settings.get("qk_layernorm"):
        return None
    read = _Reader(model_type, family, settings)
    width, layers, heads = (read.size(name) for name in ("hidden_size", "num_hidden_layers", "num_attention_heads"))
    vocabulary = read.size("vocab_size")
    if width is None or layers is None or heads is None or vocabulary is None:
        return None
    head_width = read.size("head_dim") or width // heads
    if head_width == 0:
        return None
    key_value_heads = read.size("num_key_value_heads") or heads
    mlp_width = read.size("intermediate_size") or 4 * width
    head = head_settings({**family.defaults, **settings}, model_type)
    return Shape(
        model_type=model_type,
        family=family,
        vocabulary_size=vocabulary,
        width=width,
        layers=layers,
        heads=heads,
        key_value_heads=key_value_heads,
        head_width=head_width,
        mlp_width=mlp_width,
        context_tokens=read.size("max_position_embeddings"),
        window_tokens=_window(settings),
        is_tied=read.flag("tie_word_embeddings", config.get("tie_word_embeddings", family.is_tied)),
        linears=_linears(read, width, heads * head_width, key_value_heads * head_width, mlp_width),
        head_scale=head.scale,
        head_softcap=head.softcap,
    )


def _window(settings: Mapping[str, Any]) -> int | None:
    """Return the tokens that a position sees where that is fewer than all."""
    if settings.get("use_sliding_window") is False:
        return None
    sizes = [size_in(settings.get(name)) for name in ("sliding_window", "attention_chunk_size")]
    return min((size for size in sizes if size is not None), default=None)


def size_in(value: object) -> int | None:
    """Return *value* as a positive integer of a real model's size, None where it is anything else."""
    is_size = isinstance(value, int) and not isinstance(value, bool) and 0 < value <= LARGEST_SIZE
    return value if is_size and isinstance(value, int) else None


def _linears(read: "_Reader", width: int, query: int, key_value: int, mlp: int) -> tuple[Linear, ...]:
    family = read.family
    *inner, out = family.attention
    sizes = [query, key_value, key_value] if len(inner) == 3 else [query + 2 * key_value]
    in_bias, out_bias, mlp_bias = (read.fact(flag) for flag in (family.qkv_bias, family.out_bias, family.mlp_bias))
    found = [Linear(name, "attention_input", width, size, in_bias) for name, size in zip(inner, sizes, strict=True)]
    found.append(Linear(out, "attention_output", query, width, out_bias))
    *inner, out = family.mlp
    wide = 2 * mlp if inner == ["gate_up_proj"] else mlp
    found += [Linear(name, "mlp_input", width, wide, mlp_bias) for name in inner]
    return (*found, Linear(out, "mlp_output", mlp, width, mlp_bias))


@dataclass(frozen=True, slots=True)
class _Reader:
    """Fields of a config by the names that most families use."""

    model_type: str
    family: Family
    settings: Mapping[str, Any]

    def _value(self, name: str) -> Any:  # noqa: ANN401 -- JSON
        own = RENAMED.get(self.model_type, {}).get(name, name)
        found = self.settings.get(own)
        return self.family.defaults.get(name) if found is None else found

    def size(self, name: str) -> int | None:
        """Return the field as `size_in` does."""
        return size_in(self._value(name))

    def flag(self, name: str, default: bool) -> bool:
        """Return the field as a boolean."""
        value = self._value(name)
        return value if isinstance(value, bool) else bool(default)

    def fact(self, flag: Flag) -> bool:
        """Return what *flag* comes to for this config."""
        return flag if isinstance(flag, bool) else self.flag(flag, default=False)
