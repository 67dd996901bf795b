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


def swap_letters(folder: Path) -> None:
    """Give the letters of the model's tokenizer in *folder* each other's ids, the first the last one's."""
    path = folder / "tokenizer.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = document["model"]["vocab"]
    letters = [token for token in vocabulary if len(token) == 1 and token.isascii() and token.isalpha()]
    ids = [vocabulary[letter] for letter in letters]
    vocabulary.update(zip(letters, reversed(ids), strict=True))
    path.write_text(json.dumps(document), encoding="utf-8")


def save_tiny_llama(folder: Path, seed: int = 0, *, has_chat_template: bool = True, **options: int) -> Path:
    """Save a tiny Llama and its byte tokenizer to *folder*, as any model folder; return it."""
    tiny_llama(seed, **options).save_pretrained(folder)
    byte_tokenizer(has_chat_template=has_chat_template).save_pretrained(folder)
    return folder


MARKS = ["[PAD]", "[CLS]", "[SEP]"]


def encoder_tokenizer() -> "PreTrainedTokenizerFast":
    """A byte-level tokenizer that lays out texts as an encoder's does: [CLS] text [SEP] text [SEP]."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(MARKS + alphabet)}, merges=[]))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in MARKS])
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    pad, start, separator = MARKS
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token=pad, cls_token=start, sep_token=separator, eos_token=separator
    )


def save_tiny_encoder(folder: Path, *, labels: int | None = None, seed: int = 0, positions: int = 256) -> Path:
    """Save a two-layer BERT and its tokenizer to *folder*; with *labels*, as a sequence classifier."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertModel

    config = BertConfig(
        vocab_size=259,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=positions,
        initializer_range=0.2,
        pad_token_id=0,
        num_labels=labels or 2,
    )
    torch.manual_seed(seed)
    model = BertModel(config) if labels is None else BertForSequenceClassification(config)
    model.eval().save_pretrained(folder)
    encoder_tokenizer().save_pretrained(folder)
    return folder


def save_tiny_bart(folder: Path, seed: int = 0) -> Path:
    """Save a random BART of two and two layers and its tokenizer to *folder*."""
    import torch
    from transformers import BartConfig, BartForConditionalGeneration

    sizes = {"encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
    heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
    config = BartConfig(
        vocab_size=259,
        d_model=32,
        max_position_embeddings=128,
        init_std=0.3,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=2,
        forced_eos_token_id=2,
        **sizes,
        **heads,
    )
    torch.manual_seed(seed)
    BartForConditionalGeneration(config).eval().save_pretrained(folder)
    encoder_tokenizer().save_pretrained(folder)
    return folder
