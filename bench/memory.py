"""How much memory scoring takes beyond the weights as the vocabulary V grows: ours, and the obvious script at batch 8.

Models of one width with random weights, each way in a fresh process: the peak of the resident memory (on a GPU: of
allocated memory) above what the loaded model takes.
"""

from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from bench.fresh import forget_peak, in_fresh_process, megabytes
from bench.obvious import obvious_scores
from bench.workload import HH_TOKENS, Workload, drawn_lengths, random_difference
from deft.reward import head_direction
from deft.scoring.scorer import score_examples
from deft.tokens import TokenizedExample

VOCABULARIES = (8_192, 32_768, 131_072, 262_144)
WIDTH = 256
PAIRS = 24


def measure(work: Workload) -> dict[str, Any]:
    """Measure both ways at every V."""
    sizes = VOCABULARIES[:2] if work.is_small else VOCABULARIES
    found = {
        way: {
            str(v): in_fresh_process("bench.memory", "peak", way=way, vocabulary=v, device=work.device) for v in sizes
        }
        for way in ("deft", "obvious_batch_8")
    }
    first, last = (found["deft"][str(v)]["megabytes"] for v in (sizes[0], sizes[-1]))
    return {
        "goal": "peak memory independent of V",
        "width": WIDTH,
        "pairs": PAIRS,
        "megabytes_above_the_model": {w: {v: p["megabytes"] for v, p in by.items()} for w, by in found.items()},
        "growth_of_ours_in_megabytes": round(last - first, 1),
    }


def peak(way: str, vocabulary: int, device: str) -> dict[str, float]:
    """Return the megabytes that scoring PAIRS pairs adds at its peak."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config).eval().to(device)
    rows = drawn_lengths(HH_TOKENS, PAIRS).tolist()
    pairs = [TokenizedExample([7] * p, [[8] * c, [9] * r], [False, False]) for p, c, r in rows]
    q_diff = random_difference(vocabulary)
    direction = head_direction(model, q_diff)
    short = [TokenizedExample([1, 2, 3], [[4], [5]], [False, False])]
    score_examples(model, short, direction)  # what the libraries allocate once
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated() / 1e6
    else:
        forget_peak()
        before = megabytes("VmRSS")
    if way == "deft":
        score_examples(model, pairs, direction)
    else:
        obvious_scores(model, pairs, q_diff, 8)
    after = torch.cuda.max_memory_allocated() / 1e6 if device == "cuda" else megabytes("VmHWM")
    return {"megabytes": round(after - before, 1)}
