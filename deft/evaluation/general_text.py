"""Perplexity of every system on a general text, unlike its training data: what a training forgot.

A row's text is its prompt with its best response; of a prompt set, the prompt. A text is cut to
`tokens.max_total_tokens`, its first token (BOS where the tokenizer puts one) is given, every other is predicted. Knows
dataset folders, a tokenizer and scored likelihoods; no model.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deft.data.datasets import read_examples
from deft.data.identities import identities
from deft.data.prompt_sets import is_prompt_set, read_prompts
from deft.data.splits import chosen_rows
from deft.errors import Finding, InvalidInput
from deft.evaluation.held_out import HeldOut
from deft.evaluation.metrics import Measurement, PairScores, Who, measure_mean
from deft.examples import Example, is_transcript, key_of
from deft.specs import EvaluateSpec
from deft.tokens import TokenizedExample, encode_texts, specials_before, transcript_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer


def load_texts(spec: EvaluateSpec, folder: Path, tokenizer: "Tokenizer") -> HeldOut:
    """Return the texts of `spec.general_rows` as examples whose one response is what is predicted.

    Raises:
        InvalidInput: no row, or no text of two tokens.
    """
    found = list(_of_set(spec, folder) if is_prompt_set(folder) else _of_dataset(spec, folder))
    before = specials_before(tokenizer)
    ids = encode_texts(tokenizer, [text_of(text.example) for text in found])
    cut = [[*before, *own][: spec.tokens.max_total_tokens] for own in ids]
    kept = [place for place, own in enumerate(cut) if len(own) > 1]
    if not kept:
        raise _no_text(len(found))
    return _as_held_out([found[place] for place in kept], [cut[place] for place in kept])


@dataclass(frozen=True, slots=True)
class _Text:
    """One row of the general dataset: *point* is what it clusters by."""

    row: int
    example: Example
    point: float
    key: str


def _of_dataset(spec: EvaluateSpec, folder: Path) -> Iterator[_Text]:
    wanted, known = set(chosen_rows(folder, spec.general_rows)), identities(folder)
    for row, example in read_examples(folder):
        if row in wanted:
            yield _Text(row, example, *known[row])


def _of_set(spec: EvaluateSpec, folder: Path) -> Iterator[_Text]:
    """Yield the prompts of a prompt set, or a seeded sample of them; their categories stand for sources."""
    prompts, rows = read_prompts(folder), spec.general_rows
    drawn = np.random.default_rng(rows.seed).permutation(len(prompts))[: rows.sample]
    for row, prompt, point in (prompts[place] for place in sorted(drawn.tolist())):
        example = Example(prompt.prompt, (), source=prompt.category, source_line=prompt.source_line)
        yield _Text(row, example, point, key_of(prompt.prompt, ()))


def text_of(example: Example) -> str:
    """Return the text of *example*: the prompt, with the best response behind it where there is one."""
    prompt = transcript_of(example.prompt)
    if not example.responses:
        return prompt
    between = " " if is_transcript(prompt) else "" if prompt.endswith((" ", "\n")) or not prompt else "\n"
    return prompt + between + example.responses[0].strip()


def _as_held_out(found: Sequence[_Text], ids: Sequence[list[int]]) -> HeldOut:
    return HeldOut(
        rows=[text.row for text in found],
        examples=[text.example for text in found],
        tokenized=[TokenizedExample(own[:1], [own[1:]], [True]) for own in ids],
        clusters=[text.point for text in found],
        keys=[text.key for text in found],
        cut_at_marks=[False] * len(found),
    )


def measure_texts(who: Who, scores: PairScores, texts: HeldOut) -> Measurement:
    """Return the perplexity: exp of the summed negative log-probabilities over the number of predicted tokens."""
    tokens = scores.chosen_tokens.astype(float)
    return measure_mean("perplexity", who, -scores.chosen_logp, texts.clusters, counted=tokens)


def _no_text(rows: int) -> InvalidInput:
    finding = Finding(
        code="no_general_text",
        pointer="/general_dataset",
        found=f"{rows} rows, none with a text of two tokens",
        expected="texts",
        fix="name a dataset with longer texts",
    )
    return InvalidInput("the general dataset has no text", code="no_general_text", findings=[finding])
