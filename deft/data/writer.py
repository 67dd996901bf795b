"""The files of a dataset's folder, written in chunks while rows are accepted and rejected. Torch-free.

Knows no file format of users and no checks: `deft.data.datasets` brings examples and findings.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from deft.data.columns import OneTypeWriter, Row, json_bytes, parquet_writer
from deft.data.splits import split_of
from deft.errors import Finding, InvalidRows
from deft.examples import Example, key_of, prompt_text, split_point_of
from deft.folders import sha256_of
from deft.specs import SplitFractions

FINDINGS_LISTED = 20
CHUNK_ROWS = 4096
CHUNK_CHARACTERS = 8 * 2**20

EXAMPLES_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("source_line", pa.int64()),
        ("prompt", pa.string()),
        ("prompt_is_messages", pa.bool_()),
        ("responses", pa.list_(pa.string())),
        ("scores", pa.list_(pa.float64())),
        ("weight", pa.float64()),
        ("source", pa.string()),
        ("aspect", pa.string()),
        ("split", pa.string()),
        ("split_point", pa.float64()),
        ("key", pa.string()),
    ]
)


class DatasetWriter:
    """Writes the files of one dataset to the folder *out*.

    With *keeps_going* False the first rejected row ends the writing, but rows and findings are still counted.
    """

    def __init__(self, out: Path, *, keeps_going: bool) -> None:
        self.out, self.keeps_going = out, keeps_going
        self.rows = 0
        self.findings: list[Finding] = []
        self.rejected: Counter[str] = Counter()
        self._sources: Counter[str] = Counter()
        self._responses: Counter[int] = Counter()
        self._with: Counter[str] = Counter()
        self._splits = {"train": 0, "reward_model": 0, "evaluation": 0}
        self._hash = hashlib.sha256()
        self._examples: list[tuple[Any, ...]] = []
        self._originals: list[Row] = []
        self._characters = 0
        self._example_file: pq.ParquetWriter | None = None
        self._original_file = OneTypeWriter(out / "original.parquet")
        self._rejected_file: IO[bytes] | None = None

    def add(self, example: Example, row: Row) -> None:
        """Take over the accepted *example*, made of the user's *row*."""
        if self.rejected and not self.keeps_going:
            self.rows += 1
            return
        key, point = key_of(example.prompt, example.responses), split_point_of(example.prompt)
        self._hash.update(key.encode() + json_bytes(row))
        prompt = prompt_text(example.prompt)
        own = (example.scores, example.weight, example.source, example.aspect, example.split)
        is_messages = not isinstance(example.prompt, str)
        self._examples.append(
            (self.rows, example.source_line, prompt, is_messages, example.responses, *own, point, key)
        )
        self._originals.append(row)
        self._splits[split_of(point, example.split, _DEFAULT_FRACTIONS)] += 1
        self._responses[len(example.responses)] += 1
        self._with["scores"] += example.scores is not None
        self._with["weight"] += example.weight is not None
        if example.source is not None:
            self._sources[example.source] += 1
        self.rows += 1
        self._characters += len(prompt) + sum(map(len, example.responses))
        if len(self._examples) >= CHUNK_ROWS or self._characters >= CHUNK_CHARACTERS:
            self._flush()

    def reject(self, finding: Finding) -> None:
        """Record a row that cannot be used."""
        self.rejected[finding.code] += 1
        if len(self.findings) < FINDINGS_LISTED:
            self.findings.append(finding)
        if not self.keeps_going:
            return
        if self._rejected_file is None:
            self._rejected_file = (self.out / "rejected_rows.jsonl").open("wb")
        self._rejected_file.write(orjson.dumps(finding.as_dict(), option=orjson.OPT_APPEND_NEWLINE))

    def finish(self, paths: Sequence[Path], form: str) -> dict[str, Any]:
        """Finish all files and return the summary.

        Raises:
            InvalidRows: no row was accepted, or rows were rejected and may not be skipped.
        """
        if self.rejected and (self.rows == 0 or not self.keeps_going):
            raise self._refusal()
        self._flush()
        self._close()
        summary = {
            "format": form,
            "rows": self.rows,
            "rejected": self.rejected.total(),
            "rejected_by_code": dict(self.rejected),
            "files": [{"name": p.name, "bytes": p.stat().st_size, "sha256": sha256_of(p)} for p in paths],
            "findings": [finding.as_dict() for finding in self.findings],
            "content_hash": self._hash.hexdigest(),
            "counts": {"source": dict(self._sources)},
            "responses": {str(size): count for size, count in sorted(self._responses.items())},
            "rows_with": dict(self._with),
            "splits": self._splits,
            "json_columns": self._original_file.json_columns,
        }
        (self.out / "dataset.json").write_bytes(orjson.dumps(summary, option=orjson.OPT_INDENT_2))
        return summary

    def discard(self) -> None:
        """Remove every file that was written."""
        self._close()
        for name in ("examples.parquet", "original.parquet", "original.parquet.wider", "rejected_rows.jsonl"):
            (self.out / name).unlink(missing_ok=True)

    def _refusal(self) -> InvalidRows:
        bad, total = self.rejected.total(), self.rejected.total() + self.rows
        codes = ", ".join(f"{code} {count}" for code, count in self.rejected.most_common())
        return InvalidRows(f"{bad:,} of {total:,} rows cannot be used: {codes}.", findings=self.findings)

    def _flush(self) -> None:
        if not self._examples:
            return
        columns = zip(*self._examples, strict=True)
        arrays = [pa.array(values, field.type) for values, field in zip(columns, EXAMPLES_SCHEMA, strict=True)]
        if self._example_file is None:
            path = self.out / "examples.parquet"
            self._example_file = parquet_writer(path, EXAMPLES_SCHEMA)
        self._example_file.write_table(pa.Table.from_arrays(arrays, schema=EXAMPLES_SCHEMA))
        self._original_file.write(self._originals)
        self._examples, self._originals, self._characters = [], [], 0

    def _close(self) -> None:
        self._original_file.close()
        for file in (self._example_file, self._rejected_file):
            if file is not None:
                file.close()


_DEFAULT_FRACTIONS = SplitFractions()
