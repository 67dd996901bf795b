"""The rows of the experiment: so many of each source, divided by prompt into train, development and test.

It reads JSONL files with `prompt`, `chosen`, `rejected` and `source`, plain or compressed, and prints none of them. The
order is by a hash of the prompt, so that the same files give the same rows on any machine.
"""

import gzip
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.experiment.design import LONGEST_ROW, ROWS_OF_A_PROMPT, SOURCES
from deft.data.datasets import import_files
from deft.errors import Finding, InvalidInput

Row = dict[str, Any]
PARTS = ("train", "development", "test")


def prepare(data: Path, out: Path, sizes: Mapping[str, int]) -> Path:
    """Return a folder below *out* with a dataset folder for each of `PARTS`, of *sizes* rows of each source.

    It is named after the rows and made where it is not there.

    Raises:
        InvalidInput: a source has no file in *data*, or too few rows.
    """
    divided = [divide(_rows(data, source), source, sizes) for source in SOURCES]
    texts = {
        part: "".join(json.dumps(row, ensure_ascii=False) + "\n" for own in divided for row in own[part])
        for part in PARTS
    }
    folder = out / hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    for part, text in texts.items():
        if not (folder / part / "dataset.json").exists():
            path = folder / f"{part}.jsonl"
            path.write_text(text, encoding="utf-8")
            import_files([path], folder / part, columns={"source": "source"}, on_bad_row="skip")
    return folder


def divide(rows: Iterable[Row], source: str, sizes: Mapping[str, int]) -> dict[str, list[Row]]:
    """Return *sizes* rows of one *source* for each part, none too long; all rows of a prompt go to one part.

    Raises:
        InvalidInput: there are too few.
    """
    groups: dict[str, list[Row]] = {}
    short = (row for row in rows if sum(len(row[name]) for name in ("prompt", "chosen", "rejected")) <= LONGEST_ROW)
    for row in short:
        groups.setdefault(row["prompt"], []).append(row)
    left = iter(sorted(groups, key=lambda prompt: hashlib.sha256(prompt.encode()).digest()))
    found: dict[str, list[Row]] = {}
    for part in reversed(PARTS):
        found[part] = _filled(left, groups, source, sizes[part])
        if len(found[part]) < sizes[part]:
            raise _too_few(source, part, len(found[part]), sizes[part])
    return found


def _filled(left: Iterator[str], groups: Mapping[str, list[Row]], source: str, size: int) -> list[Row]:
    taken: list[Row] = []
    while len(taken) < size and (prompt := next(left, None)) is not None:
        own = sorted(groups[prompt], key=lambda row: hashlib.sha256(json.dumps(row, sort_keys=True).encode()).digest())
        for row in own[: min(ROWS_OF_A_PROMPT, size - len(taken))]:
            taken.append({"prompt": prompt, "chosen": row["chosen"], "rejected": row["rejected"], "source": source})
    return taken


def _rows(data: Path, source: str) -> list[Row]:
    for path in (data / f"{source}.jsonl.gz", data / f"{source}.jsonl"):
        if path.exists():
            content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            return [json.loads(line) for line in content.decode("utf-8").splitlines() if line.strip()]
    finding = Finding(
        "no_source", "no such file", f"{source}.jsonl.gz in the data folder", "name the folder with --data"
    )
    raise InvalidInput(f"The source {source} is not there.", code="no_source", findings=[finding])


def _too_few(source: str, part: str, found: int, wanted: int) -> InvalidInput:
    finding = Finding("too_few_rows", str(found), f"{wanted} rows for {part}", "more rows, or smaller sizes: --rows")
    return InvalidInput(f"The source {source} has too few rows.", code="too_few_rows", findings=[finding])
