"""Tiny models and tokenizers made in code: what every test uses in place of a real model."""

import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def byte_tokenizer(*, has_chat_template: bool = True, bos: bool = False) -> "PreTrainedTokenizerFast":
    """A byte-level tokenizer: one token a byte (ids 3..258), three specials, pad is its end token."""
    from transformers import PreTrainedTokenizerFast

    core = byte_core(bos=bos)
    end = SPECIALS[2] if has_chat_template else SPECIALS[0]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=SPECIALS[0], eos_token=end, pad_token=end, model_max_length=512
    )
    if has_chat_template:
        tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def byte_core(*, bos: bool = False) -> "Tokenizer":
    """The same without transformers."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(SPECIALS + alphabet)}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIALS])
    if bos:
        core.post_processor = processors.TemplateProcessing(
            single="<|endoftext|> $A", pair="<|endoftext|> $A $B", special_tokens=[("<|endoftext|>", 0)]
        )
    return core


TINY_CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 259,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": False,
}


def write_model_files(folder: Path, config: dict[str, Any] | None = None, *, has_chat_template: bool = True) -> Path:
    """Write files that look like a tiny model's, without torch: settings, a tokenizer, two tensors of zeros."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {**TINY_CONFIG, **(config or {})}
    (folder / "config.json").write_text(json.dumps(settings))
    byte_core().save(str(folder / "tokenizer.json"))
    template = {"chat_template": CHAT_TEMPLATE} if has_chat_template else {}
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": SPECIALS[0], **template}))
    names = ("model.embed_tokens.weight", "lm_head.weight")
    write_tensors(folder / "model.safetensors", dict.fromkeys(names, (settings["vocab_size"], settings["hidden_size"])))
    return folder


def write_tensors(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """Write a safetensors file of float16 zeros of these shapes, without torch."""
    header, end = {}, 0
    for name, shape in shapes.items():
        size = 2
        for width in shape:
            size *= width
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(end))


def tiny_llama(
    seed: int = 0, *, vocabulary_size: int = 259, tied: bool = False, positions: int = 512, spread: float = 0.3
) -> "LlamaForCausalLM":
    """A two-layer Llama of about 40,000 parameters in float32, evaluating.

    Its weights' *spread* is wide, so that a wrong position or mask moves the numbers well above rounding.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocabulary_size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=positions,
        tie_word_embeddings=tied,
        initializer_range=spread,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=2,
    )
    torch.manual_seed(seed)
    return LlamaForCausalLM(config).eval()


def save_tiny_llama(folder: Path, seed: int = 0, *, has_chat_template: bool = True, **options: int) -> Path:
    """Save a tiny Llama and its byte tokenizer to *folder*, as any model folder; return it."""
    tiny_llama(seed, **options).save_pretrained(folder)
    byte_tokenizer(has_chat_template=has_chat_template).save_pretrained(folder)
    return folder
