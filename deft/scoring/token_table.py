"""How often each token stands in each response: the sparse table that statistics of Q_diff are computed from.

Knows token ids only: no text, model or split; torch-free. Shape letters: E examples, S responses, U tokens that occur.
About 8 bytes for each different token of a response, twice that while the table is put together.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

_EXAMPLES_PER_BATCH = 2048
_RESPONSES_PER_BLOCK = 65_536

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TokenTable:
    """Token counts of S responses, ordered by example, then best first.

    *counts* is a sparse int32 [S, U] array; *tokens* int64 [U] are the ids of its columns, ascending; *starts* int64
    [E + 1] says where each example's responses begin: the first of them is the chosen one, all others are rejected.
    """

    counts: Any  # scipy ships no types
    tokens: Integers
    starts: Integers
    sums: Integers = field(init=False)
    """Of each token over all responses, int64 [U]."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "sums", np.asarray(self.counts.sum(axis=0), np.int64))

    @property
    def examples(self) -> int:
        """Number of examples, E."""
        return len(self.starts) - 1

    @property
    def example_of(self) -> Integers:
        """The example of each response, int64 [S]."""
        return np.repeat(np.arange(self.examples), np.diff(self.starts))

    @property
    def is_chosen(self) -> NDArray[np.bool_]:
        """Whether each response is the chosen one of its example, bool [S]."""
        found = np.zeros(self.counts.shape[0], np.bool_)
        found[self.starts[:-1]] = True
        return found

    def take(self, examples: Integers) -> "TokenTable":
        """Return the table of *examples* (numbers from 0), in their order."""
        sizes = np.diff(self.starts)[examples]
        ends = np.cumsum(sizes)
        rows = np.repeat(self.starts[:-1][examples] - (ends - sizes), sizes) + np.arange(ends[-1] if len(ends) else 0)
        return TokenTable(self.counts[rows], self.tokens, np.concatenate([[0], ends]))

    def totals(self, members: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the token counts of B sets of responses *members* [S, B]: float64 [U, B], exact."""
        # float32 holds whole numbers up to 2^24 exactly, and sums them three times as fast.
        is_small = self.counts.nnz == 0 or self.sums.max() < 2**24
        kind = np.float32 if is_small else np.float64
        found = np.zeros((len(self.tokens), members.shape[1]))
        for start in range(0, self.counts.shape[0], _RESPONSES_PER_BLOCK):
            block = slice(start, start + _RESPONSES_PER_BLOCK)
            found += self._block(block, kind).T @ members[block].astype(kind)
        return found

    def _block(self, rows: slice, kind: type[np.floating[Any]]) -> Any:  # noqa: ANN401 -- scipy ships no types
        """Return the counts of *rows* as *kind*, without a copy of their columns."""
        starts = self.counts.indptr[rows.start : rows.stop + 1]
        cells = slice(starts[0], starts[-1])
        shape = (len(starts) - 1, len(self.tokens))
        return sparse.csr_array(
            (self.counts.data[cells].astype(kind), self.counts.indices[cells], starts - starts[0]), shape
        )


def token_table(responses: Iterable[Sequence[Sequence[int]]], special_ids: Iterable[int] = ()) -> TokenTable:
    """Count the tokens of each response, special tokens left out.

    *responses* holds the token ids of each example's responses, best first, as `deft.tokens.iter_responses` yields.
    """
    specials = np.fromiter(special_ids, np.int64)
    parts = [_counted(batch, specials) for batch in _batches(responses)]
    tokens = np.unique(np.concatenate([part.tokens for part in parts])) if parts else np.zeros(0, np.int64)
    starts = np.concatenate([[0], *(np.diff(part.starts) for part in parts)]).cumsum()
    return TokenTable(_joined(parts, tokens), tokens, starts)


def _joined(parts: list[TokenTable], tokens: Integers) -> Any:  # noqa: ANN401 -- scipy ships no types
    """Return the counts of *parts*, one below the other, over the columns *tokens*, which hold all of theirs.

    Takes *parts* apart, so that no more than two copies are held.
    """
    cells = sum(part.counts.nnz for part in parts)
    kind = np.int32 if cells < 2**31 else np.int64  # of columns and places alike, or scipy widens both
    data, indices, places = np.empty(cells, np.int32), np.empty(cells, kind), [np.zeros(1, kind)]
    at = 0
    parts.reverse()
    while parts:
        part = parts.pop()
        piece = slice(at, at + part.counts.nnz)
        data[piece] = part.counts.data
        indices[piece] = np.searchsorted(tokens, part.tokens)[part.counts.indices]
        places.append((part.counts.indptr[1:] + at).astype(kind))
        at = piece.stop
    indptr = np.concatenate(places)
    return sparse.csr_array((data, indices, indptr), shape=(len(indptr) - 1, len(tokens)))


def _counted(batch: Sequence[Sequence[Sequence[int]]], specials: Integers) -> TokenTable:
    flat = list(chain.from_iterable(batch))
    lengths = np.fromiter(map(len, flat), np.int64, len(flat))
    ids = np.fromiter(chain.from_iterable(flat), np.int64, int(lengths.sum()))
    rows = np.repeat(np.arange(len(flat)), lengths)
    is_text = ~np.isin(ids, specials)
    tokens, columns = np.unique(ids[is_text], return_inverse=True)
    cells, found = np.unique(rows[is_text] * max(len(tokens), 1) + columns, return_counts=True)
    at, column = np.divmod(cells, max(len(tokens), 1))
    shape = (len(flat), len(tokens))
    places = at.astype(np.int32), column.astype(np.int32)
    counts = sparse.csr_array((found.astype(np.int32), places), shape=shape)
    return TokenTable(counts, tokens, np.cumsum([0, *map(len, batch)]))


def _batches(responses: Iterable[Sequence[Sequence[int]]]) -> Iterator[list[Sequence[Sequence[int]]]]:
    iterator = iter(responses)
    while batch := list(islice(iterator, _EXAMPLES_PER_BATCH)):
        yield batch
