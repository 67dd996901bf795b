"""Counting a data set under a tokenizer: Q_diff (M1-M3, M12) and its discrepancy report (M11), for the operations.

Knows data set folders and tokenizers, no model: what it does needs a CPU and seconds.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from deft import distribution as distributions
from deft.aspects import kept_apart, used_weights
from deft.data.datasets import iterate_examples
from deft.data.splits import chosen_rows
from deft.distribution import Distribution
from deft.errors import Finding, ReviewNeeded
from deft.reports import Report, stop_if_asked
from deft.scoring.discrepancy import FEW_PAIRS, P_LIMIT, R_LIMIT, Part, discrepancy, warnings_of
from deft.scoring.token_table import TokenTable, token_table
from deft.tokens import EXAMPLES_PER_BATCH, iter_responses, special_token_ids, tokenizer_hash

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

    from deft.examples import Example
    from deft.specs import Gate, Rows, TokenOptions

T = TypeVar("T")

DISCREPANCY = "discrepancy.json"
REVIEW = "discrepancy"
"""The code under which a person accepts a Q_diff that may be noise."""

_SUMMARISED = ("examples", "l1", "null_mean", "ratio", "z", "p", "r", "gate", "warnings")


@dataclass(frozen=True, slots=True)
class Counted:
    """The tokens of some rows, all together and apart by aspect ("" for none); *facts* say of what data and how."""

    table: TokenTable
    aspects: Mapping[str, TokenTable]
    facts: Mapping[str, str]

    def parts(self, weights: Mapping[str, float] | None) -> list[Part]:
        """Return what Q_diff is a sum of (M12): the aspects with their *weights*, or everything at once.

        Raises:
            InvalidInput: *weights* do not fit the aspects.
        """
        if weights is None:
            return [Part(1.0, self.table)]
        used = used_weights(weights, self.aspects)
        return [Part(weight, self.aspects[name]) for name, weight in used.items()]

    def distribution(self, vocabulary_size: int, weights: Mapping[str, float] | None) -> Distribution:
        """Return Q_diff (M3), mixed by the *weights* of aspects where they are given (M12).

        Raises:
            InvalidInput: nothing to count, or *weights* do not fit the aspects.
            ModelNotUsable: a token id is beyond *vocabulary_size*.
        """
        counts = distributions.counts_of(self.table, vocabulary_size)
        aspects = {name: distributions.counts_of(table, vocabulary_size) for name, table in self.aspects.items()}
        q_diff = distributions.difference(counts) if weights is None else distributions.mixture(aspects, weights)
        facts = self.facts if weights is None else {**self.facts, "aspect_weights": json.dumps(dict(weights))}
        return Distribution(counts, q_diff, facts, aspects)


def count_rows(
    dataset: Path, rows: Rows, tokenizer: Tokenizer, tokens: TokenOptions, vocabulary_size: int, *, report: Report
) -> Counted:
    """Count the responses of *rows* of the data set in the folder *dataset*.

    Rows of more than 32 aspects are not kept apart.

    Raises:
        InvalidInput: no such rows, or rows without tokens.
        ModelNotUsable: a response holds a token of *vocabulary_size* or beyond.
        Interrupted: the report asked to stop.
    """
    wanted = set(chosen_rows(dataset, rows))
    names: list[str | None] = []

    def examples() -> Iterator[Example]:
        for row, example in iterate_examples(dataset):
            if row in wanted:
                names.append(example.aspect)
                yield example

    encoded = _watched(iter_responses(examples(), tokenizer, tokens, vocabulary_size), len(wanted), report)
    table = token_table(encoded, special_token_ids(tokenizer))
    facts = {
        "dataset_sha256": _content_hash(dataset),
        "tokenizer_sha256": tokenizer_hash(tokenizer),
        "options": tokens.model_dump_json(),
    }
    return Counted(table, _by_aspect(table, names), facts)


def _by_aspect(table: TokenTable, names: Sequence[str | None]) -> dict[str, TokenTable]:
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        rows.setdefault(name or "", []).append(row)
    return {name: table.take(np.array(rows[name])) for name in kept_apart(rows.keys())}


def report_on(parts: Sequence[Part], tokenizer: Tokenizer, gate: Gate) -> dict[str, Any]:
    """Return the discrepancy report (M11) with the text of its tokens, and its warnings unless *gate* is off."""
    found = discrepancy(parts).as_dict()
    for leading in found["leading_tokens"]:
        leading["text"] = tokenizer.decode([leading["token"]])
    return {**found, "gate": gate, "warnings": [] if gate == "off" else warnings_of(found)}


def require_review(told: Mapping[str, Any], accepted: Collection[str]) -> None:
    """Stop for a person to look where the report *told* warns, its gate is `pause`, and nobody has *accepted* it yet.

    Raises:
        ReviewNeeded: so it is.
    """
    if told["gate"] != "pause" or not told["warnings"] or REVIEW in accepted:
        return
    finding = Finding(
        code=REVIEW,
        pointer="/gate",
        found=f"L1 {told['l1']:.3f}, p {_number(told['p'])}, r {_number(told['r'])}, {told['examples']} examples",
        expected=f"p at most {P_LIMIT}, r at least {R_LIMIT}, at least {FEW_PAIRS} examples",
        fix="resume the job to go on with this Q_diff, or cancel it and score more data",
    )
    raise ReviewNeeded(" ".join(told["warnings"]), code=REVIEW, findings=[finding])


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def write_report(told: Mapping[str, Any], out: Path) -> None:
    """Write the report as discrepancy.json to the folder *out*."""
    (out / DISCREPANCY).write_text(json.dumps(told, indent=1, allow_nan=False), encoding="utf-8")


def summary_of(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers of the report that matter first."""
    return {name: told[name] for name in _SUMMARISED}


def warnings_in(folder: Path) -> list[str]:
    """Return the warnings in the report of the scoring in *folder*; none where it has no report."""
    path = folder / DISCREPANCY
    return list(json.loads(path.read_text(encoding="utf-8"))["warnings"]) if path.is_file() else []


def _watched(encoded: Iterable[T], total: int, report: Report) -> Iterator[T]:
    for done, example in enumerate(encoded, start=1):
        if done % EXAMPLES_PER_BATCH == 0 or done == total:
            report.progress(done, total, "examples")
            stop_if_asked(report)
        yield example


def _content_hash(dataset: Path) -> str:
    path = dataset / "dataset.json"
    return str(json.loads(path.read_text(encoding="utf-8")).get("content_hash", "")) if path.exists() else ""
