"""Rows of a data set through a model, window by window: their R_d and mean hidden states, in the order of the rows.

Rows whose content an earlier scoring has are taken from there. Knows data set folders; no spec, no summary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deft.budgets import SCORING_WINDOW
from deft.data.datasets import iterate_examples
from deft.distribution import Distribution
from deft.scoring.folder import write_scores
from deft.scoring.projections import Projection
from deft.scoring.rescoring import HIDDEN
from deft.scoring.scorer import Scorer, Scores
from deft.scoring.stored_states import StoredStates, keys_of
from deft.tokens import TokenizedExample, encode_examples, iter_encoded

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from deft.examples import Example
    from deft.specs import TokenOptions

T = TypeVar("T")
Scored = tuple[pa.Table, NDArray[np.float32] | None]
"""Scored responses: a row a response as in scores.parquet, and their mean hidden states (none under a soft-cap)."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """States of an earlier scoring, and the Q_diff that they are scored by now."""

    states: StoredStates
    projection: Projection | None
    distribution: Distribution

    def take(self, rows: Sequence[int], keys: Sequence[str]) -> Scored:
        """Return table and states of the examples *keys*, which it has, as *rows*."""
        assert self.projection is not None  # noqa: S101 -- a soft-capped head has no earlier states
        table, hidden = self.states.take(rows, keys)
        r_d = self.projection.rewards(hidden, self.projection.u, self.distribution.q_diff)
        return table.set_column(table.column_names.index("r_d"), "r_d", pa.array(r_d)), hidden


@dataclass(slots=True)
class Work:
    """What scores a window of examples: the model, or the states of an *earlier* scoring for the same content."""

    scorer: Scorer
    tokenizer: PreTrainedTokenizerBase
    options: TokenOptions
    vocabulary_size: int
    earlier: Earlier | None = None
    reused: int = 0

    def window(self, rows: Sequence[int], examples: Sequence[Example], keys: Sequence[str]) -> Scored:
        """Return table and states of the *examples*, in their order, then best response first."""
        known = [self.earlier is not None and key in self.earlier.states for key in keys]
        found = [self._run(*_picked(rows, examples, known, False))] if not all(known) else []
        if self.earlier is not None and any(known):
            found.append(self.earlier.take(*_picked(rows, keys, known, True)))
            self._note_reused(sum(known))
        return found[0] if len(found) == 1 else _in_order(*found)

    def _run(self, rows: Sequence[int], examples: Sequence[Example]) -> Scored:
        tokenized = encode_examples(examples, self.tokenizer, self.options, self.vocabulary_size)
        scores = self.scorer.score(tokenized)
        return _table(rows, tokenized, scores), scores.hidden

    def _note_reused(self, examples: int) -> None:
        self.reused += examples
        self.scorer.done += examples
        self.scorer.report.progress(self.scorer.done, self.scorer.total, "examples")


def score_rows(work: Work, rows: Sequence[int], dataset: Path, out: Path) -> None:
    """Score *rows* (ascending) of the data set in *dataset*; write hidden.npy and scores.parquet to *out*.

    Forward passes are packed within windows of `SCORING_WINDOW` of the rows, from the first one on.
    """
    responses = sum(len(example.responses) for _, example in _examples(dataset, rows))
    work.scorer.total = len(rows)
    hidden = None
    direction = work.scorer.direction
    if direction.is_linear:
        shape = (responses, direction.u.shape[0])
        hidden = np.lib.format.open_memmap(out / HIDDEN, mode="w+", dtype=np.float32, shape=shape)
    parts, at, keys = [], 0, keys_of(dataset)
    examples = _examples(dataset, rows)
    while window := list(islice(examples, SCORING_WINDOW)):
        numbers = [row for row, _ in window]
        table, states = work.window(numbers, [example for _, example in window], [keys[row] for row in numbers])
        if hidden is not None and states is not None:
            hidden[at : at + table.num_rows] = states
        at += table.num_rows
        parts.append(table)
    if hidden is not None:
        hidden.flush()
    write_scores(out, pa.concat_tables(parts))


def require_known_tokens(
    dataset: Path, rows: Sequence[int], tokenizer: PreTrainedTokenizerBase, options: TokenOptions, vocabulary_size: int
) -> None:
    """Refuse *rows* that hold tokens which a model has no embedding for, before it is loaded.

    Raises:
        ModelNotUsable: there are such rows; findings name them.
    """
    for _ in iter_encoded((example for _, example in _examples(dataset, rows)), tokenizer, options, vocabulary_size):
        pass


def _picked(
    rows: Sequence[int], things: Sequence[T], is_known: Sequence[bool], wanted: bool
) -> tuple[list[int], list[T]]:
    places = [place for place, known in enumerate(is_known) if known == wanted]
    return [rows[place] for place in places], [things[place] for place in places]


def _in_order(one: Scored, other: Scored) -> Scored:
    """Put two parts of a window together in the order of rows, then responses."""
    table = pa.concat_tables([one[0], other[0]])
    order = np.lexsort((table["response"].to_numpy(), table["row"].to_numpy()))
    assert one[1] is not None and other[1] is not None  # noqa: S101 -- only linear heads have earlier states
    return table.take(pa.array(order)), np.concatenate([one[1], other[1]])[order]


def _table(rows: Sequence[int], tokenized: Sequence[TokenizedExample], scores: Scores) -> pa.Table:
    """One row a scored response, in the order of *scores*."""
    of = [
        (row, index, example)
        for row, example in zip(rows, tokenized, strict=True)
        for index in range(len(example.response_ids))
    ]
    columns = {
        "row": pa.array([row for row, _, _ in of], pa.int64()),
        "response": pa.array([index for _, index, _ in of], pa.int32()),
        "response_tokens": pa.array(scores.tokens, pa.int32()),
        "prompt_tokens": pa.array([len(example.prompt_ids) for _, _, example in of], pa.int32()),
        "is_cut": pa.array([example.is_cut[index] for _, index, example in of], pa.bool_()),
        "r_d": pa.array(scores.r_d, pa.float64()),
    }
    return pa.table(columns)


def _examples(dataset: Path, rows: Sequence[int]) -> Iterator[tuple[int, Example]]:
    wanted = set(rows)
    return ((row, example) for row, example in iterate_examples(dataset) if row in wanted)
