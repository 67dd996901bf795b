"""Token lengths of a data set: counted in a seeded sample of its rows, or bounded by the spec's caps.

Knows dataset folders and the tokenizer's ids; no model, no cost.
"""

import random
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

import pyarrow.parquet as pq

from deft.examples import Example, prompt_from_text
from deft.planning.documents import Basis, Lengths
from deft.planning.tokenizer import PlanningTokenizer
from deft.specs import DpoMethod, Method, SftMethod, TokenOptions
from deft.tokens import encode_examples

SAMPLE_ROWS = 256
UNCUT = {"max_prompt_tokens": 999_999, "max_total_tokens": 1_000_000}
COLUMNS = ["prompt", "prompt_is_messages", "responses", "source_line"]


@dataclass(frozen=True, slots=True)
class Sizes:
    """Tokens of one example after cutting; *cut* and *is_prompt_cut* say what has lost some."""

    prompt: int
    responses: tuple[int, ...]
    cut: tuple[bool, ...]
    is_prompt_cut: bool

    def row_tokens(self, *, is_shared: bool, has_end: bool) -> int:
        """Return the tokens of all its rows, as `deft.packing` lays them out; *is_shared*: one row, one prompt."""
        own = sum(size + self._end(cut, has_end) - 1 for size, cut in zip(self.responses, self.cut, strict=True))
        return own + self.prompt * (1 if is_shared else len(self.responses))

    def longest_row(self, *, is_shared: bool, has_end: bool) -> int:
        """Return the tokens of its longest row."""
        if is_shared:
            return self.row_tokens(is_shared=True, has_end=has_end)
        ends = [size + self._end(cut, has_end) - 1 for size, cut in zip(self.responses, self.cut, strict=True)]
        return self.prompt + max(ends)

    def positions(self, *, has_end: bool) -> int:
        """Return the positions that predict a token of a response."""
        return sum(size + self._end(cut, has_end) for size, cut in zip(self.responses, self.cut, strict=True))

    @staticmethod
    def _end(is_cut: bool, has_end: bool) -> int:
        return int(has_end and not is_cut)

    def picked(self, method: Method) -> "Sizes":
        """Return what *method* looks at: sft the best response, dpo two, pro all."""
        places = picks(method, len(self.responses))
        return Sizes(
            self.prompt,
            tuple(self.responses[place] for place in places),
            tuple(self.cut[place] for place in places),
            self.is_prompt_cut,
        )


def picks(method: Method, responses: int) -> list[int]:
    """Return the places of the responses that *method* looks at; as `deft.training.methods` picks, without torch."""
    if isinstance(method, SftMethod):
        return [0]
    if isinstance(method, DpoMethod):
        return [0, 1 if method.rejected == "second" else responses - 1]
    return list(range(responses))


@dataclass(frozen=True, slots=True)
class Sample:
    """The sizes of some rows of a data set, and what is known of them."""

    basis: Basis
    sizes: tuple[Sizes, ...]
    is_template_approximate: bool = False

    def mean(self, of: Callable[[Sizes], float]) -> float:
        """Return the mean of a number over the rows."""
        return sum(map(of, self.sizes)) / len(self.sizes)

    def largest(self, of: Callable[[Sizes], int]) -> int:
        """Return the largest of a number over the rows."""
        return max(map(of, self.sizes))

    def longest_chosen(self, share: float) -> "Sample":
        """Return the *share* of the rows with the longest chosen responses: what the arm `length` keeps."""
        count = max(1, round(share * len(self.sizes)))
        longest = sorted(self.sizes, key=lambda sizes: -sizes.responses[0])[:count]
        return replace(self, sizes=tuple(longest))

    def picked(self, method: Method) -> "Sample":
        """Return the same rows with the responses that *method* looks at."""
        return replace(self, sizes=tuple(sizes.picked(method) for sizes in self.sizes))

    def lengths(self) -> Lengths:
        """Return the sample as the plan shows it."""
        responses = sum(len(sizes.responses) for sizes in self.sizes)
        return Lengths(
            basis=self.basis,
            rows_sampled=len(self.sizes) if self.basis == "counted" else 0,
            is_template_approximate=self.is_template_approximate,
            prompt_tokens=self.mean(lambda sizes: sizes.prompt),
            response_tokens=sum(sum(sizes.responses) for sizes in self.sizes) / responses,
            responses=responses / len(self.sizes),
            longest_prompt_tokens=self.largest(lambda sizes: sizes.prompt),
            longest_row_tokens=self.largest(lambda sizes: sizes.row_tokens(is_shared=True, has_end=True)),
            share_of_prompts_cut=self.mean(lambda sizes: sizes.is_prompt_cut),
            share_of_responses_cut=sum(sum(sizes.cut) for sizes in self.sizes) / responses,
        )


def capped(options: TokenOptions, responses: int = 2) -> Sample:
    """Return the largest example that *options* allow: what is assumed where nothing can be counted."""
    answer = options.max_total_tokens - options.max_prompt_tokens
    sizes = Sizes(options.max_prompt_tokens, (answer,) * responses, (False,) * responses, False)
    return Sample("assumed", (sizes,))


def sampled(
    folder: Path, rows: Sequence[int], tokenizer: PlanningTokenizer, options: TokenOptions, *, seed: int = 0
) -> Sample:
    """Count the tokens of up to `SAMPLE_ROWS` of *rows* of the data set in *folder*, drawn with *seed*.

    Raises:
        InvalidInput: a row does not become tokens as *options* ask: its prompt does not fit the template, the tokenizer
            has no chat template, or a prompt or response has no tokens; findings name the lines.
    """
    examples = sample_examples(folder, rows, SAMPLE_ROWS, seed=seed)
    whole = encode_examples(examples, tokenizer, options.model_copy(update=UNCUT))
    sizes = [_cut(len(each.prompt_ids), [len(ids) for ids in each.response_ids], options) for each in whole]
    has_messages = any(not isinstance(example.prompt, str) for example in examples)
    return Sample(
        basis="counted",
        sizes=tuple(sizes),
        is_template_approximate=options.template == "chat" or (options.template == "auto" and has_messages),
    )


def _cut(prompt: int, responses: Sequence[int], options: TokenOptions) -> Sizes:
    """Cut as `deft.tokens` does: the prompt first, then each response to what is left."""
    kept = min(prompt, options.max_prompt_tokens)
    room = options.max_total_tokens - kept
    return Sizes(
        kept, tuple(min(size, room) for size in responses), tuple(size > room for size in responses), prompt > kept
    )


def sample_examples(folder: Path, rows: Sequence[int], size: int, *, seed: int) -> list[Example]:
    """Return up to *size* of *rows* of the data set in *folder*, in order; reads the row groups that hold them only."""
    wanted = set(random.Random(seed).sample(rows, min(size, len(rows))))  # noqa: S311 -- a sample, no secret
    with pq.ParquetFile(folder / "examples.parquet") as file:
        numbers: list[int] = file.read(columns=["row"])["row"].to_pylist()
        places = [place for place, row in enumerate(numbers) if row in wanted]
        ends = list(accumulate(file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)))
        by_group: dict[int, list[int]] = {}
        for place in places:
            group = bisect_right(ends, place)
            by_group.setdefault(group, []).append(place - (ends[group - 1] if group else 0))
        found = []
        for group, inside in by_group.items():
            found += file.read_row_group(group, columns=COLUMNS).take(inside).to_pylist()
    return [
        Example(
            prompt=prompt_from_text(each["prompt"], is_messages=each["prompt_is_messages"]),
            responses=tuple(each["responses"]),
            source_line=each["source_line"],
        )
        for each in found
    ]
