"""What is measured on: a model folder, and preference pairs of random tokens whose lengths are those of HH-RLHF.

The lengths are read from the data that the demo finds (DEFT_DEMO_DATA, ../shared/data), cut as training cuts them;
where there is none, they are drawn from the quantiles of harmless-base below. No text of a data set is used or kept.
"""

import json
import os
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import LlamaConfig, PreTrainedModel, PreTrainedTokenizerBase

from cli.demo.origin import find
from deft import smollm2
from deft.data.datasets import import_files, read_examples
from deft.models.loading import load_base, load_tokenizer
from deft.specs import TokenOptions
from deft.tokens import TokenizedExample, encode_examples, end_token_id

PERCENTILES = [0, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99, 100]
HH_TOKENS = (
    [13, 17, 19, 25, 48, 75, 100, 125, 151, 189, 273, 359, 384, 384],
    [1, 6, 8, 12, 16, 21, 27, 35, 45, 62, 90, 117, 157, 258],
    [1, 6, 9, 14, 20, 27, 36, 46, 58, 76, 108, 132, 214, 460],
)
"""Tokens of prompt, chosen and rejected at PERCENTILES (harmless-base, 1,860 pairs, SmolLM2's tokenizer)."""

HH_CHARACTERS = (
    [34, 52, 62, 93, 170, 273, 374, 474, 583, 746, 1096, 1460, 2320, 3498],
    [1, 19, 30, 45, 63, 84, 111, 143, 192, 264, 389, 517, 804, 1076],
    [2, 21, 33, 56, 80, 108, 145, 191, 247, 324, 464, 613, 1030, 2469],
)
"""The same in characters, the transcript's marks included."""

LLAMA_3_8B = {
    "vocab_size": 128_256,
    "hidden_size": 4096,
    "intermediate_size": 14_336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0},
    "tie_word_embeddings": False,
    "bos_token_id": 128_000,
    "eos_token_id": 128_001,
}
TINY = {**LLAMA_3_8B, "vocab_size": 49_152, "hidden_size": 64, "intermediate_size": 224, "num_hidden_layers": 2}
TINY |= {"num_attention_heads": 4, "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2}
SHAPES: dict[str, dict[str, Any]] = {"llama-3-8b": LLAMA_3_8B, "tiny": TINY}


@dataclass(frozen=True)
class Workload:
    """A device, a model folder, and how much of everything is measured."""

    device: str
    folder: Path
    precision: str
    scratch: Path
    is_small: bool = False
    seed: int = 0

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer."""
        return load_tokenizer(self.folder)

    @cached_property
    def end_id(self) -> int:
        """The token that ends a response."""
        return end_token_id(self.tokenizer)

    def model(self) -> PreTrainedModel:
        """Return the base model, loaded anew, with fewer warnings than usual."""
        return load_base(self.folder, precision=self.precision, device=self.device)  # type: ignore[arg-type]

    @cached_property
    def lengths(self) -> tuple[NDArray[np.int64], str]:
        """[E, 3] tokens of prompt, chosen and rejected, and where they come from."""
        return real_lengths(self.scratch, self.tokenizer) or (drawn_lengths(HH_TOKENS, 4000), "quantiles of HH-RLHF")

    def pairs(self, count: int) -> list[TokenizedExample]:
        """Return *count* pairs of random tokens with lengths drawn from `lengths`; the same ones at every call."""
        rng = np.random.default_rng(self.seed)
        lengths, _ = self.lengths
        drawn = lengths[rng.permutation(len(lengths))[np.arange(count) % len(lengths)]]
        return [_pair(row, rng, len(self.tokenizer)) for row in drawn]

    def facts(self, pairs: list[TokenizedExample]) -> dict[str, Any]:
        """Return what a reader must know of the model and of *pairs*."""
        prompts = [len(pair.prompt_ids) for pair in pairs]
        responses = [[len(ids) for ids in pair.response_ids] for pair in pairs]
        return {
            "model": self.folder.name,
            "precision": self.precision,
            "pairs": len(pairs),
            "lengths_from": self.lengths[1],
            "mean_tokens": {
                "prompt": round(float(np.mean(prompts)), 1),
                "chosen": round(float(np.mean([r[0] for r in responses])), 1),
                "rejected": round(float(np.mean([r[1] for r in responses])), 1),
            },
        }


def tokens_apart(pairs: list[TokenizedExample]) -> int:
    """Return the tokens of *pairs* with the prompt counted for each response: what anyone would call their size."""
    return sum(len(pair.prompt_ids) + len(ids) for pair in pairs for ids in pair.response_ids)


def real_lengths(scratch: Path, tokenizer: PreTrainedTokenizerBase) -> tuple[NDArray[np.int64], str] | None:
    """Return the lengths of the pairs that are found on this machine, and their name; None: there are none."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        origin = find(None, Path(folder), fetch=lambda _: False)
        if origin.is_made_up:
            return None
        import_files(origin.files, Path(folder) / "dataset", on_bad_row="skip")
        examples = [example for _, example in read_examples(Path(folder) / "dataset")]
    tokenized = encode_examples(examples, tokenizer, TokenOptions())
    rows = [[len(e.prompt_ids), len(e.response_ids[0]), len(e.response_ids[1])] for e in tokenized]
    return np.array(rows), ", ".join(path.name for path in origin.files)


def drawn_lengths(quantiles: tuple[list[int], ...], count: int, seed: int = 0) -> NDArray[np.int64]:
    """Return *count* rows of lengths, each column drawn by itself from its *quantiles* at PERCENTILES."""
    rng = np.random.default_rng(seed)
    columns = [np.interp(rng.uniform(0, 100, count), PERCENTILES, values) for values in quantiles]
    return np.stack(columns, axis=1).round().astype(np.int64).clip(min=1)


def _pair(lengths: NDArray[np.int64], rng: np.random.Generator, vocabulary: int) -> TokenizedExample:
    prompt, chosen, rejected = (rng.integers(100, vocabulary, size).tolist() for size in lengths)
    return TokenizedExample(prompt, [chosen, rejected], [False, False])


def random_difference(vocabulary: int) -> NDArray[np.float64]:
    """Return a made-up Q_diff: heavy-tailed, of L1 norm about 1, with sum 0."""
    q_diff = np.random.default_rng(1).standard_t(2, vocabulary)
    q_diff /= np.abs(q_diff).sum()
    return np.asarray(q_diff - q_diff.mean(), np.float64)


def small_model() -> Path:
    """Return the folder of the small real model, made from its package where it is not there yet."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return smollm2.prepare(cache / "deft" / "models" / "smollm2-135m")


def random_model(shape: str, folder: Path, dtype: torch.dtype, device: str) -> Path:
    """Write a model of *shape* with random weights, and the small model's tokenizer, to *folder* and return it."""
    if (folder / "config.json").exists():
        return folder
    config = LlamaConfig(**SHAPES[shape], architectures=["LlamaForCausalLM"])
    torch.manual_seed(0)
    with torch.device(device):
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    model.save_pretrained(folder)
    load_tokenizer(small_model()).save_pretrained(folder)
    (folder / "deft-model.json").write_text(json.dumps({"name": f"{shape} with random weights"}), encoding="utf-8")
    return folder
