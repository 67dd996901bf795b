"""The differential distribution of a data set: M1-M3, as integer counts and a float64 vector. Torch-free.

Knows token ids only: no text, model or split. V is the size of the model's vocabulary (rows of its head).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deft.aspects import used_weights
from deft.errors import ArtifactCorrupt, Finding, InvalidInput, ModelNotUsable
from deft.tokenizer import hash_without_pad, tokenizer_hash

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from deft.scoring.token_table import TokenTable
    from deft.tokens import TokenizedExample

SUM_TOLERANCE = 1e-12
_EXAMPLES_PER_BATCH = 8192


@dataclass(frozen=True, slots=True)
class Counts:
    """How often each token stands in the chosen and in the rejected responses: int64 [V] each; *rows* examples."""

    chosen: NDArray[np.int64]
    rejected: NDArray[np.int64]
    rows: int

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.chosen + other.chosen, self.rejected + other.rejected, self.rows + other.rows)


@dataclass(frozen=True, slots=True)
class Distribution:
    """Q_diff (M3), float64 [V], with the counts it comes from and what it was counted on.

    *aspects* are the counts of the rows of each aspect (M12), "" for rows without one; empty where no row has one.
    """

    counts: Counts
    q_diff: NDArray[np.float64]
    facts: Mapping[str, str] = field(default_factory=dict)
    aspects: Mapping[str, Counts] = field(default_factory=dict)

    @property
    def l1(self) -> float:
        """Sum of |Q_diff|: 0 when chosen and rejected use tokens alike, 2 when they share none."""
        return float(np.abs(self.q_diff).sum())


def count(tokenized: Iterable[TokenizedExample], vocabulary_size: int, special_ids: Iterable[int]) -> Counts:
    """Count tokens for M1 and M2 as `count_responses` does, of tokenised examples."""
    return count_responses((example.response_ids for example in tokenized), vocabulary_size, special_ids)


def count_responses(
    responses: Iterable[Sequence[Sequence[int]]], vocabulary_size: int, special_ids: Iterable[int]
) -> Counts:
    """Count tokens for M1 and M2, after truncation, without special tokens.

    *responses* holds the token ids of each example's responses, best first: the first counts as chosen, all others as
    rejected.

    Raises:
        ModelNotUsable: a token id is not in the vocabulary.
    """
    chosen, rejected = np.zeros(vocabulary_size, np.int64), np.zeros(vocabulary_size, np.int64)
    rows = 0
    for batch in _batches(responses):
        rows += len(batch)
        chosen += _count(chain.from_iterable(ids[0] for ids in batch), vocabulary_size)
        rejected += _count(chain.from_iterable(chain.from_iterable(ids[1:]) for ids in batch), vocabulary_size)
    specials = [index for index in special_ids if index < vocabulary_size]
    chosen[specials] = 0
    rejected[specials] = 0
    return Counts(chosen, rejected, rows)


def counts_of(table: TokenTable, vocabulary_size: int) -> Counts:
    """Return M1's and M2's counts of the responses in *table*.

    Raises:
        ModelNotUsable: a token id is not in the vocabulary.
    """
    if len(table.tokens) and table.tokens[-1] >= vocabulary_size:
        raise _beyond_vocabulary(int(table.tokens[-1]), vocabulary_size)
    sides = table.totals(np.stack([table.is_chosen, ~table.is_chosen], axis=1)).astype(np.int64)
    counts = np.zeros((2, vocabulary_size), np.int64)
    counts[:, table.tokens] = sides.T
    return Counts(counts[0], counts[1], table.examples)


def difference(counts: Counts) -> NDArray[np.float64]:
    """M3: Q_diff[v] = chosen[v] / sum(chosen) - rejected[v] / sum(rejected), float64 [V], summing to 0.

    Raises:
        InvalidInput: one side has no tokens.
    """
    total_chosen, total_rejected = int(counts.chosen.sum()), int(counts.rejected.sum())
    if not total_chosen or not total_rejected:
        raise InvalidInput("there is nothing to count: no chosen or no rejected response has a token")
    return checked(counts.chosen / total_chosen - counts.rejected / total_rejected)


def mixture(aspects: Mapping[str, Counts], weights: Mapping[str, float]) -> NDArray[np.float64]:
    """M12: Q_diff = sum_a w_a Q_diff_a, float64 [V]; an aspect without a weight has weight 0.

    Raises:
        InvalidInput: a weight is of no aspect, all are 0, or a weighted aspect has no tokens on one side.
    """
    used = used_weights(weights, aspects)
    return checked(np.sum([weight * difference(aspects[name]) for name, weight in used.items()], axis=0))


def checked(q_diff: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return *q_diff* when it is float64, finite and sums to 0 within 1e-12; any edit of it must re-centre first.

    Raises:
        ValueError: it is not; the reward's softmax normaliser would not cancel.
    """
    if q_diff.dtype != np.float64 or q_diff.ndim != 1:
        raise ValueError(f"Q_diff must be a float64 vector, not {q_diff.dtype} of {q_diff.ndim} dimensions")
    total = math.fsum(q_diff.tolist())
    if not abs(total) <= SUM_TOLERANCE:
        raise ValueError(f"Q_diff must sum to 0 within {SUM_TOLERANCE}, not to {total:.3g}: re-centre it after an edit")
    return q_diff


def save(path: Path, distribution: Distribution) -> None:
    """Write *distribution* as safetensors: `count_chosen`, `count_rejected` int64 [V], `q_diff` float64 [V].

    With A aspects also `aspect_chosen`, `aspect_rejected` int64 [A, V]; their names and rows are in the metadata.
    """
    from safetensors.numpy import save_file

    tensors = {
        "count_chosen": distribution.counts.chosen,
        "count_rejected": distribution.counts.rejected,
        "q_diff": distribution.q_diff,
    }
    facts = {**distribution.facts, "rows": str(distribution.counts.rows)}
    if distribution.aspects:
        tensors["aspect_chosen"] = np.stack([counts.chosen for counts in distribution.aspects.values()])
        tensors["aspect_rejected"] = np.stack([counts.rejected for counts in distribution.aspects.values()])
        facts["aspects"] = json.dumps({name: counts.rows for name, counts in distribution.aspects.items()})
    save_file(tensors, str(path), metadata=facts)


def load(path: Path) -> Distribution:
    """Read what `save` wrote.

    Raises:
        ArtifactCorrupt: the file is not such a distribution, or its Q_diff does not sum to 0.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy") as file:
            facts = dict(file.metadata())
            counts = Counts(file.get_tensor("count_chosen"), file.get_tensor("count_rejected"), int(facts.pop("rows")))
            rows: dict[str, int] = json.loads(facts.pop("aspects", "{}"))
            sides = [file.get_tensor(f"aspect_{side}") for side in ("chosen", "rejected")] if rows else []
            aspects = {name: Counts(sides[0][at], sides[1][at], rows[name]) for at, name in enumerate(rows)}
            return Distribution(counts, checked(file.get_tensor("q_diff")), facts, aspects)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise ArtifactCorrupt(f"{path.name} is not a distribution: {error}") from error


def require_same_tokenizer(distribution: Distribution, tokenizer: PreTrainedTokenizerBase) -> None:
    """Check that *distribution* was counted with *tokenizer*, or before a new token was added to it to pad.

    One that does not say is taken as it is.

    Raises:
        InvalidInput: it was counted with another, so its token ids mean something else.
    """
    counted_with, own = distribution.facts.get("tokenizer_sha256"), tokenizer_hash(tokenizer)
    if counted_with is None or counted_with == own or counted_with == hash_without_pad(tokenizer):
        return
    found = f"a distribution counted with tokenizer {counted_with[:12]}"
    expected = f"one counted with the tokenizer of the model, {own[:12]}"
    fix = "score (or count) the data with this model first, or use the model that it was scored with; hashes recorded "
    fix += "before the rules of this version differ as well: score again"
    code = "distribution_of_another_tokenizer"
    finding = Finding(code=code, pointer="/model", found=found, expected=expected, fix=fix)
    raise InvalidInput(f"expected {expected}, found {found}: {fix}", code=code, findings=[finding])


def _batches(responses: Iterable[Sequence[Sequence[int]]]) -> Iterator[list[Sequence[Sequence[int]]]]:
    iterator = iter(responses)
    while batch := list(islice(iterator, _EXAMPLES_PER_BATCH)):
        yield batch


def _count(ids: Iterable[int], vocabulary_size: int) -> NDArray[np.int64]:
    found = np.bincount(np.fromiter(ids, np.int64), minlength=vocabulary_size)
    if len(found) > vocabulary_size:
        raise _beyond_vocabulary(len(found) - 1, vocabulary_size)
    return found.astype(np.int64)


def _beyond_vocabulary(token: int, vocabulary_size: int) -> ModelNotUsable:
    return ModelNotUsable(
        f"token id {token} is beyond the model's vocabulary of {vocabulary_size}: the tokenizer does not belong to the "
        "model"
    )
