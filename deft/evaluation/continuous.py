"""Greedy answers by transformers' continuous batching: an answer that is done makes room for the next prompt at once.

The keys and values of all answers lie in one paged cache of `Decoding.token_budget` tokens. Flash attention reads each
answer's own; without it every token is set against the keys of all answers, under a mask, which is right and slow.
It works on the base under an adapter too: LoRA layers sit inside it. It has been run on CPUs alone. Knows a causal
model and token ids; who falls back where it fails is told in `deft.evaluation.engines`.
"""

import queue
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import GenerationConfig
from transformers.generation.configuration_utils import ContinuousBatchingConfig
from transformers.utils import is_flash_attn_2_available, is_flash_attn_3_available

from deft.evaluation.generation import Answer, Decoding, Keep, Questions, as_answer, has_mark, unkept
from deft.models.loading import causal_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers import PreTrainedTokenizerBase as Tokenizer

CONTINUOUS_FAMILIES = frozenset(
    {
        "cohere",
        "cohere2",
        "gemma",
        "gemma2",
        "gemma3_text",
        "gpt2",
        "granite",
        "llama",
        "ministral",
        "mistral",
        "mixtral",
        "olmo",
        "olmo2",
        "olmo3",
        "phi",
        "phi3",
        "qwen2",
        "qwen3",
        "qwen3_moe",
        "smollm3",
        "starcoder2",
    }
)
"""`model_type` of the families whose answers are tested against those of sorted batches. It is needed: GPT-J and BLOOM
run, and answer something else."""

PAGE_TOKENS = 256
"""Of one page of the cache: the block of flash attention's kernels."""

TOGETHER = 256
"""Most answers that are under way at a time."""

PASS_TOKENS, MASKED_PASS_TOKENS = 8192, 1024
"""Tokens of one forward pass, with flash attention and where a mask of as many rows as the cache is long is needed."""

LOOK_SECONDS = 1.0
"""Between two looks at whether the operation should stop."""


class EngineFailed(Exception):
    """Continuous batching did not answer everything; its text says why."""


def generate_continuously(
    model: nn.Module,
    tokenizer: "Tokenizer",
    questions: Questions,
    decoding: Decoding,
    on_progress: Callable[[int], None] = lambda _: None,
    keep: Keep = unkept,
) -> list[Answer]:
    """Answer *questions* greedily, as `deft.evaluation.generation.generate` does; *keep* gets each answer by itself.

    Raises:
        EngineFailed: the model cannot be run so, or an answer failed.
    """
    cut_at_marks = questions.cut_at_marks
    answers: dict[int, Answer] = {}

    def is_done(place: int, ids: list[int]) -> bool:
        return cut_at_marks[place] and has_mark(tokenizer, ids)

    def on_answer(place: int, ids: list[int]) -> None:
        answers[place] = as_answer(tokenizer, ids, decoding.end_ids, cut_at_marks[place])
        keep({place: answers[place]})

    continuous_ids(model, questions.prompts, decoding, is_done, cut_at_marks, on_progress, on_answer)
    return [answers[place] for place in range(len(questions))]


def continuous_ids(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    is_done: Callable[[int, list[int]], bool] = lambda _place, _ids: False,
    watched: Sequence[bool] | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
    on_answer: Callable[[int, list[int]], None] = lambda _place, _ids: None,
) -> list[list[int]]:
    """Return the tokens that follow each of *prompts*: as `deft.evaluation.generation.greedy_ids`.

    Of *watched* places alone every token is looked at by *is_done*; *on_answer* gets each place that is done.

    Raises:
        EngineFailed: the model cannot be run so, or an answer failed.
    """
    manager, restore = _started(model, prompts, decoding)
    try:
        return _collected(manager, prompts, is_done, watched or [False] * len(prompts), on_progress, on_answer)
    finally:
        manager.stop(block=True, hard_stop=True)
        manager.destroy()
        restore()


def flash_attention(model: "PreTrainedModel") -> str | None:
    """Return the flash attention that *model* can use here, by an installed package; None: none. Downloads nothing."""
    is_half = model.dtype in (torch.float16, torch.bfloat16)
    if model.device.type != "cuda" or not is_half or not getattr(model, "_supports_flash_attn", False):
        return None
    if is_flash_attn_3_available():
        return "flash_attention_3"
    return "flash_attention_2" if is_flash_attn_2_available() else None


def _started(model: nn.Module, prompts: Sequence[Sequence[int]], decoding: Decoding) -> tuple[Any, Callable[[], None]]:
    """Return a running manager, sized for *prompts*, and what gives the model its own attention back."""
    longest = max(map(len, prompts)) + decoding.max_new_tokens
    blocks = max(decoding.token_budget, longest) // PAGE_TOKENS + 2
    own: Any = causal_model(model)
    attention, flash = own.config._attn_implementation, flash_attention(own)  # there is no public name
    settings = ContinuousBatchingConfig(
        page_size=PAGE_TOKENS,
        num_blocks=blocks,
        max_batch_tokens=min(blocks * PAGE_TOKENS, MASKED_PASS_TOKENS if flash is None else PASS_TOKENS),
        max_requests_per_batch=min(len(prompts), TOGETHER),
        allow_block_sharing=False,
        auto_switch_to_flash=False,  # it might download kernels
    )
    greedy = GenerationConfig(
        max_new_tokens=decoding.max_new_tokens, do_sample=False, eos_token_id=sorted(decoding.end_ids), pad_token_id=0
    )
    try:
        if flash is not None:
            own.set_attn_implementation(flash)
        manager = own.init_continuous_batching(generation_config=greedy, continuous_batching_config=settings)
        manager.start()
    except Exception as error:
        own.set_attn_implementation(attention)  # which it may have changed before it failed
        raise _failed(error) from error
    return manager, partial(own.set_attn_implementation, attention)


def _collected(
    manager: Any,  # noqa: ANN401 -- untyped
    prompts: Sequence[Sequence[int]],
    is_done: Callable[[int, list[int]], bool],
    watched: Sequence[bool],
    on_progress: Callable[[int], None],
    on_answer: Callable[[int, list[int]], None],
) -> list[list[int]]:
    """Ask everything, the longest prompts first, and return the answers as they come, in the order of *prompts*."""
    for place in sorted(range(len(prompts)), key=lambda place: -len(prompts[place])):
        try:
            manager.add_request(list(prompts[place]), request_id=str(place), streaming=watched[place])
        except queue.Full as error:
            raise _failed(error) from error
    found: dict[int, list[int]] = {}
    while len(found) < len(prompts):
        result = manager.get_result(timeout=LOOK_SECONDS)
        if result is None:
            _require_running(manager)
            on_progress(len(found))
            continue
        place, ids = int(result.request_id), list(result.generated_tokens)
        if result.error is not None:
            raise EngineFailed(str(result.error))
        if place not in found and (result.is_finished() or is_done(place, ids)):
            if not result.is_finished():
                manager.cancel_request(result.request_id)
            found[place] = ids
            on_answer(place, ids)
            on_progress(len(found))
    return [found[place] for place in range(len(prompts))]


def _require_running(manager: Any) -> None:  # noqa: ANN401 -- untyped
    if not manager.is_running():
        raise _failed(manager.background_thread_status.fatal_error)


def _failed(error: BaseException | None) -> EngineFailed:
    return EngineFailed("its thread ended" if error is None else f"{type(error).__name__}: {error}"[:200])
