"""Answers to prompts, many at a time, as each prompt alone would be answered: greedy, or sampled by a seed of its own.

Knows a causal model, its tokenizer and token ids; it must not know files, adapters or metrics.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from deft.examples import Example
from deft.memory import OnHalving, in_halves, unheard
from deft.models.loading import causal_model
from deft.packing import plan
from deft.specs import TokenOptions

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

RECIPE = "greedy-1"
"""Name and version of this decoding: no sampling, no penalty, a turn mark cuts the answers to transcripts."""

TURN_MARK = re.compile(r"\b(?:Human|Assistant):")
"""Where a model that was asked a transcript has begun to write the next turn itself."""

MARK_TOKENS = 24
"""Last tokens that are searched for a turn mark while generating; a mark has 16 bytes at most."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One generated answer: its own *ids*, the *end* token that followed (or None), its *text*, what stopped it."""

    ids: list[int]
    end: int | None
    text: str
    stop: Literal["end", "turn_mark", "limit"]

    @property
    def is_ended(self) -> bool:
        """Whether the model gave its end token."""
        return self.end is not None

    @property
    def chosen_ids(self) -> list[int]:
        """The tokens that the model chose to answer with, its end token included."""
        return self.ids if self.end is None else [*self.ids, self.end]


@dataclass(frozen=True, slots=True)
class Questions:
    """Prompts as token ids; beside each whether a turn mark cuts its answer, and, unless all are greedy, its seed."""

    prompts: Sequence[Sequence[int]]
    cut_at_marks: Sequence[bool]
    seeds: Sequence[int] | None = None

    def __len__(self) -> int:
        return len(self.prompts)

    def seed(self, place: int) -> int | None:
        """Return the seed of the prompt at *place*; None: greedy."""
        return None if self.seeds is None else self.seeds[place]

    def take(self, places: Sequence[int]) -> "Questions":
        """Return those at *places*."""
        seeds = None if self.seeds is None else [self.seeds[place] for place in places]
        return Questions([self.prompts[at] for at in places], [self.cut_at_marks[at] for at in places], seeds)


Keep = Callable[[Mapping[int, Answer]], None]
"""Given answers as soon as they are there, by the places of their prompts."""


def unkept(answers: Mapping[int, Answer]) -> None:
    """Keep nothing: the default of the library functions."""
    del answers


@dataclass(frozen=True, slots=True)
class Decoding:
    """Greedy decoding of at most *max_new_tokens*, ended by any of *end_ids*."""

    max_new_tokens: int
    end_ids: frozenset[int]
    token_budget: int = 8192
    """Padded prompt and answer tokens of one batch."""
    on_halving: OnHalving = unheard


def end_ids(model: nn.Module, end_id: int) -> frozenset[int]:
    """Return the tokens that end an answer: *end_id*, which training appends, and those of the model's own settings."""
    named = getattr(causal_model(model).generation_config, "eos_token_id", None)
    more = [] if named is None else named if isinstance(named, list) else [named]
    return frozenset([end_id, *more])


def is_cut_at_marks(example: Example, options: TokenOptions) -> bool:
    """Return whether *example* is laid out as a transcript, so that a turn mark in the answer begins another turn."""
    if options.template == "auto":
        return isinstance(example.prompt, str) and example.prompt.rstrip().endswith("Assistant:")
    return options.template == "hh"


Choose = Callable[[Tensor], Tensor]
"""Returns the next token of each row [B] from the logits [B, V] behind its last one."""


def likeliest(logits: Tensor) -> Tensor:
    """Return the likeliest token of each row."""
    return logits.argmax(dim=-1)


def generate(
    model: nn.Module,
    tokenizer: "Tokenizer",
    questions: Questions,
    decoding: Decoding,
    on_progress: Callable[[int], None] = lambda _: None,
    keep: Keep = unkept,
    chooser: Callable[[Sequence[int]], Choose] = lambda _: likeliest,
) -> list[Answer]:
    """Answer *questions*, those of similar length together; *on_progress* gets the number done.

    *keep* gets the answers of each batch: the longest prompts are the first, so that those which are left fall into the
    batches that they would have been in. *chooser* makes what chooses the tokens of a batch, from the places of its
    prompts.
    """
    prompts, cut_at_marks = questions.prompts, questions.cut_at_marks
    answers: dict[int, Answer] = {}
    lengths = [len(prompt) + decoding.max_new_tokens for prompt in prompts]
    done = 0

    def answer(batch: Sequence[int]) -> None:
        def is_done(row: int, ids: list[int]) -> bool:
            return cut_at_marks[batch[row]] and has_mark(tokenizer, ids)

        found = greedy_ids(model, [prompts[index] for index in batch], decoding, is_done, chooser(batch))
        for index, ids in zip(batch, found, strict=True):
            answers[index] = as_answer(tokenizer, ids, decoding.end_ids, cut_at_marks[index])

    for batch in plan(lengths, decoding.token_budget):
        in_halves(batch, answer, decoding.on_halving)
        keep({index: answers[index] for index in batch})
        done += len(batch)
        on_progress(done)
    return [answers[index] for index in range(len(prompts))]


def has_mark(tokenizer: "Tokenizer", ids: list[int]) -> bool:
    """Return whether the last of *ids* hold a turn mark."""
    return bool(TURN_MARK.search(_text(tokenizer, ids[-MARK_TOKENS:])))


@torch.inference_mode()
def greedy_ids(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    is_done: Callable[[int, list[int]], bool] = lambda _row, _ids: False,
    choose: Choose = likeliest,
) -> list[list[int]]:
    """Return the tokens that follow each of *prompts*, up to and with an end token, a stop by *is_done*, or the limit.

    Greedy unless *choose* says otherwise. Prompts are padded on the left and masked; positions count real tokens only.
    """
    device = next(model.parameters()).device
    input_ids, mask = _left_padded(prompts, device)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    found: list[list[int]] = [[] for _ in prompts]
    alive = set(range(len(prompts)))
    cache = None
    for _ in range(decoding.max_new_tokens):
        output = model(
            input_ids=input_ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache, following = output.past_key_values, choose(output.logits[:, -1])
        alive = _append(found, alive, following.tolist(), decoding.end_ids, is_done)
        if not alive:
            break
        input_ids = following.unsqueeze(1)
        mask = torch.cat([mask, mask.new_ones(len(prompts), 1)], dim=1)
        positions = positions[:, -1:] + 1
    return found


def _append(
    found: list[list[int]],
    alive: Collection[int],
    following: list[int],
    ends: Collection[int],
    is_done: Callable[[int, list[int]], bool],
) -> set[int]:
    """Append the next token to every answer that is not finished; return those that still are not."""
    for row in alive:
        found[row].append(following[row])
    return {row for row in alive if found[row][-1] not in ends and not is_done(row, found[row])}


def _left_padded(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    width = max(map(len, prompts))
    ids = [[0] * (width - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def as_answer(tokenizer: "Tokenizer", ids: list[int], ends: Collection[int], is_cut_at_marks: bool) -> Answer:
    """Return generated *ids* as an answer: take the end token or everything from a turn mark on away from *ids*."""
    end = ids[-1] if ids and ids[-1] in ends else None
    own = ids if end is None else ids[:-1]
    text = _text(tokenizer, own)
    mark = TURN_MARK.search(text) if is_cut_at_marks else None
    if mark is None:
        return Answer(own, end, text.strip(), "limit" if end is None else "end")
    kept = len(text[: mark.start()].rstrip())
    size = len(own)
    while size and len(_text(tokenizer, own[:size])) > kept:
        size -= 1
    return Answer(own[:size], None, text[:kept].strip(), "turn_mark")


def _text(tokenizer: "Tokenizer", ids: list[int]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=True)
    return text
