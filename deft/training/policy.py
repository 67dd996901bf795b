"""The trained model: a frozen base with one LoRA adapter.

Knows PEFT and the modules of models; it must not know the data, the loss or the optimiser.
"""

from contextlib import nullcontext
from copy import copy
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import check_target_module_exists
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from deft.adapters.targets import require_all_by_suffix, suffixes_of
from deft.models.loading import causal_model, decoder, load_policy
from deft.packing import Pack
from deft.planning.shapes import unknown_target_modules
from deft.sharding import is_sharded, states_of_all
from deft.specs import Lora


def attach_lora(base: nn.Module, lora: Lora, *, seed: int, start: Path | None = None) -> PeftModel:
    """Put a trainable LoRA adapter on *base* (in place): a fresh one drawn from *seed*, or that in the folder *start*.

    Raises:
        InvalidInput: a target module is not one of the model's, or the adapter in *start* names modules that suffixes
            cannot tell from others.
        ModelNotUsable: the adapter in *start* does not fit the base.
    """
    if start is not None:
        return _portable(load_policy(base, start, is_trainable=True))
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


def _portable(policy: PeftModel) -> PeftModel:
    """Return *policy*, whose adapter must be on every module that the suffixes of its targets match."""
    config = copy(policy.peft_config["default"])
    config.target_modules = set(suffixes_of(config.target_modules))
    modules = dict(policy.get_base_model().named_modules())
    adapted = [name for name, module in modules.items() if isinstance(module, LoraLayer)]
    require_all_by_suffix(adapted, [name for name in modules if check_target_module_exists(config, name)])
    return policy


def lora_of(model: PeftModel, asked: Lora) -> dict[str, Any]:
    """Return the settings of the model's adapter, which are not those *asked* for where it started from another."""
    config = model.peft_config["default"]
    targets = config.target_modules if isinstance(config.target_modules, str) else sorted(config.target_modules)
    alike = asked.target_modules == "all-linear" and targets == target_suffixes(model.get_base_model(), asked)
    return {
        "r": config.r,
        "alpha": float(config.lora_alpha),
        "dropout": config.lora_dropout,
        "target_modules": "all-linear" if alike else targets,
    }


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
        raise unknown_target_modules(unknown, present)
    return sorted(set(lora.target_modules))


def set_training_mode(model: nn.Module) -> None:
    """Switch on the dropout of the adapter alone: the base is frozen, and it must compute what the reference does.

    Dropout of the base would make the policy differ from its reference at step 0 (TRL's DPO disables it too).
    """
    model.eval()
    for name, module in model.named_modules():
        if ".lora_dropout" in name:
            module.train()


def draws_dropout(model: nn.Module) -> bool:
    """Whether the adapter's dropout draws random numbers as the model stands."""
    return any(
        isinstance(module, nn.Dropout) and module.training and module.p > 0
        for name, module in model.named_modules()
        if ".lora_dropout" in name
    )


def predicting_states(model: nn.Module, pack: Pack, dtype: torch.dtype | None = None) -> Tensor:
    """Return the [P, D] hidden states (past the final norm) that predict the response tokens of *pack*.

    Over a half-precision base the adapter, kept in float32, is computed in the base's precision; weights that are all
    trained, in float32, in *dtype*.
    """
    first = next(decoder(model).parameters())
    computed = dtype or first.dtype
    with nullcontext() if computed == torch.float32 else torch.autocast(first.device.type, dtype=computed):
        return states_of_all(model, pack) if is_sharded(model) else pack.hidden(model)
