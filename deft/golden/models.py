"""The model, adapter and tokenizer of the golden vectors, as transformers and PEFT have them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from deft.golden.layout import Json


def base_model(document: Json) -> LlamaForCausalLM:
    """Return the base model of *document* in float32, evaluating."""
    model = LlamaForCausalLM(LlamaConfig(**document["model"]["config"]))
    model.load_state_dict(tensors_of(document["model"]["tensors"]))
    model.requires_grad_(False)
    return model.eval()


def policy_model(document: Json, *, has_zero_b: bool = False) -> PeftModel:
    """Return the base model with the adapter of *document* on it, its B zero if that is asked."""
    lora = document["lora"]
    config = LoraConfig(r=lora["r"], lora_alpha=lora["alpha"], target_modules=lora["target_modules"])
    policy = get_peft_model(base_model(document), config)
    values = tensors_of(lora["tensors"])
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_" in name:
                value = values[name.removeprefix("base_model.model.").replace(".default", "")]
                parameter.copy_(value * (not (has_zero_b and "lora_B" in name)))
    return cast(PeftModel, policy.eval())


def tokenizer_of(document: Json) -> PreTrainedTokenizerFast:
    """Return a tokenizer with the vocabulary of *document*: a token a character, <s> before a text."""
    from tokenizers import AddedToken, Tokenizer, models, processors

    tokens, specials = document["tokenizer"]["vocabulary"], document["tokenizer"]["specials"]
    core = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=[]))
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    begin = specials[0]
    core.post_processor = processors.TemplateProcessing(single=f"{begin} $A", special_tokens=[(begin, 0)])
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token=begin, eos_token=specials[1])


def tensors_of(tensors: Iterable[Json]) -> dict[str, Tensor]:
    """Return the *tensors* of a section by name, float32."""
    return {tensor["name"]: torch.tensor(tensor["values"]).reshape(tensor["shape"]) for tensor in tensors}
