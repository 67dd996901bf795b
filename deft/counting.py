"""Counting a data set under a tokenizer: Q_diff (M1-M3) and its discrepancy report (M11), for the operations.

Knows data set folders and tokenizers, no model: what it does needs a CPU and seconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from deft import distribution as distributions
from deft.datasets import iterate_examples
from deft.discrepancy import discrepancy, warnings_of
from deft.distribution import Distribution
from deft.reports import Report, stop_if_asked
from deft.splits import chosen_rows
from deft.token_table import TokenTable, token_table
from deft.tokens import EXAMPLES_PER_BATCH, iter_responses, special_token_ids, tokenizer_hash

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

    from deft.specs import Gate, Rows, TokenOptions

T = TypeVar("T")

DISCREPANCY = "discrepancy.json"
DISTRIBUTION = "distribution.safetensors"
_SUMMARISED = ("examples", "l1", "null_mean", "ratio", "z", "p", "r", "gate", "warnings")


@dataclass(frozen=True, slots=True)
class Counted:
    """Q_diff of a data set, and the report on it as JSON."""

    distribution: Distribution
    report: dict[str, Any]

    def write(self, out: Path) -> None:
        """Write distribution.safetensors and discrepancy.json to the folder *out*."""
        distributions.save(out / DISTRIBUTION, self.distribution)
        (out / DISCREPANCY).write_text(json.dumps(self.report, indent=1, allow_nan=False), encoding="utf-8")

    def summary(self) -> dict[str, Any]:
        """Return the numbers of the report that matter first."""
        return {name: self.report[name] for name in _SUMMARISED}


def count_dataset(
    dataset: Path,
    rows: Rows,
    tokenizer: Tokenizer,
    tokens: TokenOptions,
    *,
    vocabulary_size: int,
    gate: Gate,
    report: Report,
) -> Counted:
    """Count *rows* of the data set in the folder *dataset* and say how far its Q_diff is from noise.

    Raises:
        InvalidInput: no such rows, rows without tokens, or nothing to count.
        ModelNotUsable: a token id is beyond *vocabulary_size*.
        Interrupted: the report asked to stop.
    """
    wanted = set(chosen_rows(dataset, rows))
    examples = (example for row, example in iterate_examples(dataset) if row in wanted)
    encoded = _watched(iter_responses(examples, tokenizer, tokens), len(wanted), report)
    table = token_table(encoded, special_token_ids(tokenizer))
    counts = distributions.counts_of(table, vocabulary_size)
    facts = {
        "dataset_sha256": _content_hash(dataset),
        "tokenizer_sha256": tokenizer_hash(tokenizer),
        "options": tokens.model_dump_json(),
    }
    distribution = Distribution(counts, distributions.difference(counts), facts)
    stop_if_asked(report)
    return Counted(distribution, _report(table, tokenizer, gate))


def _report(table: TokenTable, tokenizer: Tokenizer, gate: Gate) -> dict[str, Any]:
    """Return the report with the text of its tokens, and its warnings unless *gate* is off."""
    found = discrepancy(table).as_dict()
    for leading in found["leading_tokens"]:
        leading["text"] = tokenizer.decode([leading["token"]])
    return {**found, "gate": gate, "warnings": [] if gate == "off" else warnings_of(found)}


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
