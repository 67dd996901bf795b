"""The held-out rows of an evaluation: which pairs are judged, which prompts answered, and what they cluster by.

Knows dataset folders and tokenizers, no model.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deft.data.datasets import read_examples
from deft.data.identities import identities
from deft.data.splits import chosen_rows, held_out_of
from deft.errors import Finding, InvalidInput
from deft.evaluation.generation import is_cut_at_marks
from deft.examples import Example, prompt_text
from deft.models.fit import chosen_metrics, require_lists
from deft.specs import EvaluateSpec, TokenOptions
from deft.tokens import TokenizedExample, encode_examples

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Some rows of a dataset: their numbers, examples, token ids, and the cluster (first user turn) of each."""

    rows: list[int]
    examples: list[Example]
    tokenized: list[TokenizedExample]
    clusters: list[float]
    keys: list[str]
    cut_at_marks: list[bool]

    @property
    def samples(self) -> list[int]:
        """How often the row of each place stood before it: 0 everywhere unless rows are repeated."""
        seen: Counter[int] = Counter()
        found = []
        for row in self.rows:
            found.append(seen[row])
            seen[row] += 1
        return found

    @property
    def once(self) -> "HeldOut":
        """Every row once."""
        return self.take([place for place, sample in enumerate(self.samples) if sample == 0])

    def repeated(self, times: int) -> "HeldOut":
        """Return every row *times* times, one after the other."""
        return self.take([place for place in range(len(self.rows)) for _ in range(times)])

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256, in hex, over the identities of the examples, in order."""
        return hashlib.sha256(json.dumps(self.keys).encode()).hexdigest()

    @property
    def prompts(self) -> int:
        """Number of distinct first user turns: what intervals resample."""
        return len(set(self.clusters))

    @property
    def prompts_cut(self) -> int:
        """Number of rows whose prompt is longer than `tokens.max_prompt_tokens` and loses its beginning."""
        return sum(each.is_prompt_cut for each in self.tokenized)

    @property
    def sources(self) -> list[str | None]:
        """The source of each row."""
        return [example.source for example in self.examples]

    def take(self, places: Sequence[int]) -> "HeldOut":
        """Return the rows at *places*."""
        columns = (self.rows, self.examples, self.tokenized, self.clusters, self.keys, self.cut_at_marks)
        return HeldOut(*([column[place] for place in places] for column in columns))  # type: ignore[arg-type]


def held_out_rows(spec: EvaluateSpec, inputs: Mapping[str, Path]) -> tuple[list[int], int]:
    """Return the rows of the dataset that `spec.rows` asks for and `spec.apart_from` leaves, and how many it took.

    Raises:
        InvalidInput: no row is held out.
    """
    asked = chosen_rows(inputs["dataset"], spec.rows)
    if spec.apart_from is None:
        return asked, 0
    rows = held_out_of(inputs["dataset"], asked, inputs["apart_from"], spec.apart_from.rows)
    return rows, len(asked) - len(rows)


def load_held_out(
    spec: EvaluateSpec, folder: Path, rows: Sequence[int], tokenizer: "Tokenizer", vocabulary_size: int | None = None
) -> tuple[HeldOut, HeldOut]:
    """Return the pairs that are judged by likelihood, and the rows whose prompts are answered.

    Both are drawn from the held-out *rows*, with `options.seed`; of several rows with one prompt, one is answered. An
    answer may be asked of a row whose pair is not judged.

    Raises:
        InvalidInput: a row does not become tokens; or the ranking accuracy was chosen, and no pair is of a list.
        ModelNotUsable: a row holds a token of *vocabulary_size* or beyond.
    """
    wanted = set(rows)
    found = [(row, example) for row, example in read_examples(folder) if row in wanted]
    seed = spec.options.seed
    pairs = sorted(_shuffled(len(found), seed)[: spec.options.pairs])
    has_lists = any(len(found[place][1].responses) > 2 for place in pairs)
    require_lists(chosen_metrics(spec), has_lists=has_lists, pointer="/options/metrics")
    answered = _distinct_prompts([example for _, example in found], spec.options.prompts, seed)
    needed = sorted({*pairs, *answered})
    chosen = [found[place] for place in needed]
    tokenized = encode_examples([example for _, example in chosen], tokenizer, spec.tokens, vocabulary_size)
    every = _held_out(chosen, folder, tokenized, spec.tokens)
    place_of = {place: index for index, place in enumerate(needed)}
    return every.take([place_of[p] for p in pairs]), every.take([place_of[p] for p in answered])


def _held_out(
    found: Sequence[tuple[int, Example]], folder: Path, tokenized: list[TokenizedExample], options: TokenOptions
) -> HeldOut:
    known = identities(folder)
    rows, examples = [row for row, _ in found], [example for _, example in found]
    return HeldOut(
        rows=rows,
        examples=examples,
        tokenized=tokenized,
        clusters=[known[row][0] for row in rows],
        keys=[known[row][1] for row in rows],
        cut_at_marks=[is_cut_at_marks(example, options) for example in examples],
    )


def require_references(examples: Sequence[Example], metrics: Sequence[str], asked: Sequence[str]) -> None:
    """Check that every prompt has a chosen response, which *metrics*, among those *asked* for, set answers beside.

    Raises:
        InvalidInput: some have none; one finding a metric.
    """
    missing = sum(not example.responses or not example.responses[0].strip() for example in examples)
    findings = [
        Finding(
            code="missing_references",
            pointer=f"/options/metrics/{list(asked).index(metric)}",
            found=f"{missing} of {len(examples)} prompts without a chosen response",
            expected=f"a reference for every prompt: {metric} sets the answer beside it",
            fix=f"leave {metric} out, or evaluate on rows with chosen responses",
        )
        for metric in metrics
        if missing
    ]
    if findings:
        names = ", ".join(metrics)
        raise InvalidInput(f"prompts have no references for {names}", code="missing_references", findings=findings)


def _shuffled(number: int, seed: int) -> list[int]:
    order: list[int] = np.random.default_rng(seed).permutation(number).tolist()
    return order


def _distinct_prompts(examples: Sequence[Example], most: int, seed: int) -> list[int]:
    """Return, sorted, the places of up to *most* examples that all have different prompts."""
    first: dict[str, int] = {}
    for place in _shuffled(len(examples), seed):
        if len(first) == most:
            break
        first.setdefault(prompt_text(examples[place].prompt), place)
    return sorted(first.values())
