"""The evidence behind a report as one zip: the report, raw numbers row by row, settings, hashes.

What holds texts of rows (generations.jsonl, kept rows) stays out; its hash is in the manifests, so that it can be
matched. Equal content makes equal bytes.
"""

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from api.reports.page import page
from store import study_evidence
from store.reports import Made
from store.study_tables import Study
from store.tables import Artifact

WANTED: Mapping[str, tuple[str, ...]] = {
    "evaluation": (
        "comparison.json",
        "metrics.json",
        "evaluation.json",
        "pairs.parquet",
        "values.parquet",
        "safety.json",
    ),
    "scoring": ("scoring.json", "discrepancy.json", "distribution.safetensors", "scores.parquet"),
    "subset": ("subset.json", "ledger.parquet"),
    "calibration": ("omega.json",),
    "reward_model": ("training.json",),
    "adapter": ("training.json", "adapter_config.json"),
    "tuned_model": ("training.json",),
    "data_report": ("data_report.json",),
    "judging": ("judging.json", "metrics.json", "safety.json", "values.parquet", "judgements.parquet"),
}
"""Files that go into the pack, by the kind of artifact; none of them holds a text of a row."""

MADE_AT = (1980, 1, 1, 0, 0, 0)
IN_MEMORY = 8 * 1024 * 1024
README = """What is in this pack

report.html, report.json   the report of the pipeline
jobs/NAME.json             spec, times, inputs and output of each job
artifacts/NAME/            numbers of what each job made, with its manifest (SHA-256 of every file, also of those that
                           are not in this pack because they hold texts or weights)
artifacts/judge-ID/        the same of each judging of the evaluation
studies/ID/                of each closed study of the evaluation: results.json, and what it can be computed from:
                           items.jsonl, judgements.jsonl (raters by id)
SHA256SUMS                 of the files of this pack; check with: sha256sum --check SHA256SUMS
"""


def write_pack(made: Made, report: Mapping[str, Any]) -> IO[bytes]:
    """Return an open file, at its beginning, with the zip of what *made* holds and its *report*.

    Raises:
        ArtifactCorrupt: a file that an artifact has cannot be read.
    """
    file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 -- the answer closes it
    sums = []
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as pack:
        for name, content in _entries(made, report):
            data = content.read_bytes() if isinstance(content, Path) else content.encode()
            pack.writestr(_entry(name), data)
            sums.append(f"{hashlib.sha256(data).hexdigest()}  {name}\n")
        pack.writestr(_entry("SHA256SUMS"), "".join(sums))
    file.seek(0)
    return file


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, MADE_AT)
    entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
    return entry


def _entries(made: Made, report: Mapping[str, Any]) -> Iterator[tuple[str, str | Path]]:
    """Yield names and contents: text, or the file that has it."""
    yield "README.txt", README
    yield "report.html", page(report)
    yield "report.json", _json(report)
    for line in report["lineage"]:
        place = line["name"].replace(":", "-")
        yield f"jobs/{place}.json", _json({**line, "spec": made.children[line["name"]].spec})
        artifact = made.artifact(line["name"])
        if artifact is not None:
            yield from _files(made, artifact, place)
    for judging in made.judgings():
        yield from _files(made, judging, f"judge-{judging.id}")
    for study in made.studies():
        yield from _of_study(made, study)


def _files(made: Made, artifact: Artifact, place: str) -> Iterator[tuple[str, Path]]:
    """Yield the manifest of *artifact* and those of its files that go into the pack."""
    folder, wanted = made.files.folder(artifact), WANTED.get(artifact.kind, ())
    yield f"artifacts/{place}/manifest.json", folder / "manifest.json"
    names = sorted(entry["path"] for entry in artifact.files)
    yield from ((f"artifacts/{place}/{name}", folder / name) for name in names if name in wanted)


def _of_study(made: Made, study: Study) -> Iterator[tuple[str, str]]:
    """Yield what people said in *study*, one by one, and what came of it."""
    yield f"studies/{study.id}/results.json", _json(study_evidence.found_in(made.session, study))
    yield f"studies/{study.id}/items.jsonl", _lines(study_evidence.items_of(made.session, study))
    yield f"studies/{study.id}/judgements.jsonl", _lines(study_evidence.judgements_of(made.session, study))


def _lines(rows: Iterable[Any]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _json(value: Any) -> str:  # noqa: ANN401 -- JSON
    return json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True)
