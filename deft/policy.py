"""The trained model: a frozen base with one LoRA adapter, and the choice of the layout that it computes rightly.

Knows PEFT and model configs; it must not know the data beyond token ids, the loss or the optimiser.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from deft.batches import Batch, Layout, TrainingExample, collate
from deft.errors import Finding, InvalidInput
from deft.models import causal_model, decoder, load_policy
from deft.specs import Lora

FULL_PRECISION_GAP, HALF_PRECISION_GAP = 1e-4, 5e-2
"""Largest difference of hidden states between the layouts, as a share of the largest hidden state."""


def attach_lora(base: nn.Module, lora: Lora, *, seed: int, start: Path | None = None) -> PeftModel:
    """Put a trainable LoRA adapter on *base* (in place): a fresh one drawn from *seed*, or that in the folder *start*.

    Raises:
        InvalidInput: a target module is not one of the model's.
        ModelNotUsable: the adapter in *start* does not fit the base.
    """
    if start is not None:
        return load_policy(base, start, is_trainable=True)
    torch.manual_seed(seed)  # LoRA's A is drawn from the global generator
    config = LoraConfig(
        r=lora.r,
        lora_alpha=int(lora.alpha) if lora.alpha == int(lora.alpha) else lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=target_suffixes(base, lora),
        bias="none",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(base, config)


def target_suffixes(base: nn.Module, lora: Lora) -> list[str]:
    """Return the sorted suffix names of the modules that get an adapter; the head never does.

    Raises:
        InvalidInput: a name asked for is not one of the model's linear modules.
    """
    model = causal_model(base)
    head = model.get_output_embeddings()
    present = sorted(
        {
            name.rpartition(".")[2]
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear | Conv1D) and module is not head
        }
    )
    if lora.target_modules == "all-linear":
        return present
    unknown = sorted(set(lora.target_modules) - set(present))
    if unknown:
        finding = Finding(
            code="unknown_target_module",
            pointer="/lora/target_modules",
            found=", ".join(unknown),
            expected=f"some of: {', '.join(present)}",
            fix="use these names, or all-linear",
        )
        raise InvalidInput(
            f"the model has no linear module named {', '.join(unknown)}; it has {', '.join(present)}",
            code="unknown_target_module",
            findings=[finding],
        )
    return sorted(set(lora.target_modules))


def predicting_states(model: nn.Module, batch: Batch) -> Tensor:
    """Return the [P, D] hidden states (past the final norm) that predict the response tokens of *batch*."""
    mask: Tensor = batch.attention_mask
    backbone = decoder(model)
    if mask.dim() == 4 and _attention(backbone) == "eager":
        dtype = next(backbone.parameters()).dtype
        mask = torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, torch.finfo(dtype).min)
    with _autocast(backbone):
        states: Tensor = backbone(
            input_ids=batch.input_ids,
            position_ids=batch.position_ids,
            attention_mask=mask,
            use_cache=False,  # with a cache, transformers rewrites the masks of rows whose positions restart
        ).last_hidden_state
    return states.flatten(0, 1).index_select(0, batch.predicting)


def choose_layout(model: nn.Module, examples: Sequence[TrainingExample], *, max_tokens: int) -> Layout:
    """Return `shared` where the model computes the same hidden states with the prompt shared, else `apart`.

    What the config says is looked at first (a window or another attention kernel cannot take our mask); the rest is
    not assumed but tried, on the shortest example.
    """
    if all(len(example.responses) < 2 for example in examples) or not _takes_masks(model, max_tokens):
        return "apart"
    shortest = min(examples, key=lambda example: (min(map(len, example.responses)) < 2, example.width("shared")))
    return "shared" if _layouts_agree(model, shortest) else "apart"


@torch.no_grad()
def _layouts_agree(model: nn.Module, example: TrainingExample) -> bool:
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        shared, apart = (
            predicting_states(model, collate([example], layout=layout).to(device)).float()
            for layout in ("shared", "apart")
        )
    except (RuntimeError, ValueError, TypeError, AttributeError):  # the model does not take such a mask
        return False
    finally:
        model.train(was_training)
    is_full = next(decoder(model).parameters()).dtype == torch.float32
    gap = (FULL_PRECISION_GAP if is_full else HALF_PRECISION_GAP) * apart.abs().max()
    return bool((shared - apart).abs().max() <= gap)


def _takes_masks(model: nn.Module, max_tokens: int) -> bool:
    config = causal_model(model).config.get_text_config()
    window = getattr(config, "sliding_window", None) or getattr(config, "attention_chunk_size", None)
    is_windowed = window is not None and window < max_tokens and getattr(config, "use_sliding_window", True)
    return _attention(decoder(model)) in ("sdpa", "eager") and not is_windowed


def _attention(backbone: nn.Module) -> str | None:
    config: Any = backbone.config
    return getattr(config, "_attn_implementation", None)


def _autocast(backbone: nn.Module) -> AbstractContextManager[Any]:
    """Return mixed precision for a half-precision base: adapters are kept in float32 and computed in the base's."""
    first = next(backbone.parameters())
    return nullcontext() if first.dtype == torch.float32 else torch.autocast(first.device.type, dtype=first.dtype)
