"""The public face of the method: four functions over rows in memory and models that the caller has loaded.

Rows are what preference data is published as: TRL's explicit and implicit forms, plain and conversational, HH-RLHF
transcripts, or a prompt with `responses`; a list of dicts or a `datasets.Dataset`. Knows no folder and no job.
Letters: E examples, B sequences, L positions, V vocabulary, D hidden width. Formulas M1..M9 are those of docs/method.md
(DEFT: arXiv 2604.01787); nothing here draws random numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor, nn

from deft import distribution as distributions
from deft.data.formats import Columns
from deft.data.importers import importer_for
from deft.data.row_checks import BadRow
from deft.distribution import Distribution
from deft.errors import Finding, InvalidInput, InvalidRows, ModelNotUsable, shown
from deft.examples import Example
from deft.models.loading import check_fit
from deft.reward import Direction, direction_of, head_of, learning_direction, response_rewards
from deft.scoring.scorer import score_examples
from deft.selection import ScoredRow
from deft.selection import select as select_rows
from deft.spec_errors import findings_of
from deft.specs import Selection, TokenOptions
from deft.tokens import encode_examples, iter_responses, special_token_ids, tokenizer_hash

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

_ROWS_TO_TELL_THE_FORMAT = 100
_REWARD = "deft_r_d"


class Rows(Protocol):
    """A list of dicts, or a `datasets.Dataset`."""

    def __iter__(self) -> Iterator[Mapping[str, Any]]: ...

    def __len__(self) -> int: ...


R = TypeVar("R", bound=Rows)


def count_distribution(rows: Rows, tokenizer: Tokenizer, *, tokens: TokenOptions | None = None) -> Distribution:
    """M1-M3: Q_diff = Q+ - Q-, the shares of every token in the chosen and in the rejected responses.

    Args:
        rows: E preference examples; in a list of more than two responses the first is chosen, all others rejected.
        tokenizer: that of the model to be trained.
        tokens: how rows become ids: template, cuts. Give the same to `score`.

    Returns:
        The distribution: `q_diff` float64 [V] (a difference of shares, summing to 0), `counts.chosen` and
        `counts.rejected` int64 [V], V the tokenizer's length; special tokens are left out.

    Raises:
        InvalidInput: a row cannot be used (findings name rows from 1), or nothing is left to count.
    """
    options = tokens or TokenOptions()
    counts = distributions.count_responses(
        iter_responses(_examples(rows), tokenizer, options), len(tokenizer), special_token_ids(tokenizer)
    )
    facts = {"tokenizer_sha256": tokenizer_hash(tokenizer), "options": options.model_dump_json()}
    return Distribution(counts, distributions.difference(counts), facts)


def score(
    model: nn.Module,
    tokenizer: Tokenizer,
    rows: Rows,
    distribution: Distribution,
    *,
    tokens: TokenOptions | None = None,
) -> list[ScoredRow]:
    """M4-M5: R_d(x, y) = sum_v Q_diff[v] * mean_t log p(v | x, y_<t), of every example of *rows*, in order.

    The model runs in evaluation mode, in its own dtype and on its own device, without its head and without softmax: R_d
    is linear in the mean hidden state. Mean and dot product are at least float32.

    Args:
        model: any causal language model with a linear, scaled, biased or soft-capped head; adapters count.
        tokenizer: its tokenizer.
        rows: E preference examples.
        distribution: of `count_distribution`, counted with this tokenizer.
        tokens: as in `count_distribution`.

    Returns:
        E scored rows: `row` (from 0), R_d in nats of the `chosen` response and, a mean, of the `rejected` ones, and
        `chosen_tokens`, T of the chosen one.

    Raises:
        InvalidInput: a row cannot be used, or the distribution was counted with another tokenizer.
        ModelNotUsable: the model's head is of no known kind, or tokenizer and model do not fit.
    """
    options = tokens or TokenOptions()
    size = check_fit(model, tokenizer, options)
    distributions.require_same_tokenizer(distribution, tokenizer)
    direction = _direction(model, distribution)
    encoded = encode_examples(_examples(rows), tokenizer, options, size)
    was_training = model.training
    model.eval()  # dropout would be noise in R_d
    try:
        found = score_examples(model, encoded, direction)
    finally:
        model.train(was_training)
    ends = np.cumsum([len(example.response_ids) for example in encoded])
    starts = [0, *ends[:-1].tolist()]
    return [
        ScoredRow(row, float(found.r_d[at]), float(found.r_d[at + 1 : end].mean()), int(found.tokens[at]))
        for row, (at, end) in enumerate(zip(starts, ends.tolist(), strict=True))
    ]


def select(
    rows: R,
    scores: Sequence[ScoredRow],
    *,
    keep: float | Literal["auto"] = 0.05,
    end: Literal["lowest", "highest", "random", "length"] = "lowest",
    by: Literal["chosen", "rejected", "margin", "length_adjusted"] = "chosen",
    seed: int = 0,
) -> R:
    """M6: keep the k = ceil(keep * E) rows with the lowest R_d of the chosen response; ties go to the first row.

    Args:
        rows: E rows, a list of dicts or a `datasets.Dataset`.
        scores: theirs, of `score`.
        keep: a fraction in (0, 1], taken by its decimal text (0.07 of 100 is 7), or `auto`: the largest of 5 %, 1,000
            rows and what 100 optimiser steps of 8 need.
        end: which end is kept; `random` (by a hash of *seed* and row) and `length` (the longest chosen) are controls.
        by: whose R_d ranks the rows; `margin` is chosen minus rejected, `length_adjusted` the chosen one's less what a
            straight line over its number of tokens explains.
        seed: of the random end.

    Returns:
        The kept rows in their order, with R_d of the chosen response, in nats, as the column `deft_r_d` (in place of
        one that is there): a list of dicts for a list, a `datasets.Dataset` for a `datasets.Dataset`.

    Raises:
        InvalidInput: a setting is not one of those above, nothing was scored, or an R_d is not finite.
        ValueError: *scores* are not those of *rows*.
    """
    if len(rows) != len(scores):
        raise ValueError(f"{len(rows)} rows, but {len(scores)} scores: give the scores of these rows")
    chosen = select_rows(scores, _selection({"keep": keep, "end": end, "by": by, "seed": seed}))
    kept = [index for index, is_kept in enumerate(chosen.kept) if is_kept]
    r_d = [scores[index].chosen for index in kept]
    if hasattr(rows, "select") and hasattr(rows, "add_column"):
        subset = rows.select(kept)
        old = [_REWARD] if _REWARD in subset.column_names else []  # of a subset that was selected before
        return cast(R, subset.remove_columns(old).add_column(_REWARD, r_d))
    listed = list(rows)
    return cast(R, [{**listed[index], _REWARD: value} for index, value in zip(kept, r_d, strict=True)])


def reward_term(model: nn.Module, distribution: Distribution) -> Callable[[Tensor, Tensor], Tensor]:
    """M9: return the function that gives R_d with gradient; loss = base_loss - omega * term(hidden, labels).mean().

    The function takes *hidden* [B, L, D], the states after the final norm (`hidden_states[-1]` of a transformers
    model), and *labels* int64 [B, L], -100 everywhere but on the response's own tokens (not on an appended end token),
    and returns R_d [B], float32, in nats. A label is predicted by the position before it, as everywhere in
    transformers; the labels' values are not looked at. Under all but soft-capped heads the gradient by a state is the
    constant scale * u / T, u = W^T Q_diff. A frozen head is read once, here; where it learns too (`requires_grad`), u
    is computed at every call and the head gets its gradient.

    Args:
        model: the policy, with or without adapters.
        distribution: of `count_distribution`.

    Raises:
        ModelNotUsable: the model's head is of no known kind, or has an adapter.
    """
    head = head_of(model)
    q_diff = _fitted(distribution.q_diff, head.weight.shape[0])
    frozen = direction_of(head, q_diff)

    def term(hidden: Tensor, labels: Tensor) -> Tensor:
        direction = learning_direction(head, q_diff) if head.weight.requires_grad else frozen
        row, position = torch.nonzero(labels[:, 1:] != -100, as_tuple=True)
        return response_rewards(hidden[row, position], row, len(labels), direction)

    return term


def _direction(model: nn.Module, distribution: Distribution) -> Direction:
    head = head_of(model)
    return direction_of(head, _fitted(distribution.q_diff, head.weight.shape[0]))


def _fitted(q_diff: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Pad Q_diff with zeros to the head's rows, which often are more than the tokenizer's tokens."""
    if np.any(q_diff[size:]):
        raise ModelNotUsable(f"Q_diff has tokens beyond the model's vocabulary of {size}: count with its own tokenizer")
    return np.pad(q_diff[:size], (0, max(0, size - len(q_diff))))


def _selection(settings: dict[str, Any]) -> Selection:
    """Return *settings* as a selection.

    Raises:
        InvalidInput: one of them is not valid; findings name it.
    """
    try:
        return Selection.model_validate(settings)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        findings = findings_of([dict(detail) for detail in details], settings, Selection.model_json_schema())
        told = "; ".join(f"{(at.pointer or '')[1:]}: expected {at.expected}, found {at.found}" for at in findings)
        raise InvalidInput(told, findings=findings) from error


def _examples(rows: Rows) -> Iterator[Example]:
    """Yield the example of every row.

    Raises:
        InvalidInput: there are none, or *rows* are several splits.
        InvalidRows: a row cannot be used; the finding has its 1-based number.
    """
    if isinstance(rows, Mapping):
        found = f"a {type(rows).__name__} with the splits {shown(', '.join(map(str, rows)))}"
        fix = 'choose one: rows["train"], or load_dataset(..., split="train")'
        raise _rows_refusal("several_splits", found, "the rows of one split", fix)
    first = [dict(row) for row in islice(rows, _ROWS_TO_TELL_THE_FORMAT)]
    if not first:
        raise _rows_refusal("no_rows", "no rows", "at least one preference row", "give rows; was a filter too narrow?")
    importer = importer_for(first, Columns())
    for number, row in enumerate(rows, start=1):
        try:
            yield importer.example(number, dict(row))
        except BadRow as bad:
            finding = bad.at(number)
            raise InvalidRows(
                f"row {number}: expected {finding.expected}, found {finding.found}; {finding.fix}", findings=[finding]
            ) from bad


def _rows_refusal(code: str, found: str, expected: str, fix: str) -> InvalidInput:
    finding = Finding(code, found, expected, fix)
    return InvalidInput(f"expected {expected}, found {found}: {fix}", code=code, findings=[finding])
