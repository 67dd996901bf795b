"""Whether an evaluation measured an adapter on rows apart from those it was trained on, by what both jobs recorded.

Rows are alike where their normalised first user turns are (their split points). What the base itself was trained on,
before the first training on record, is not known here.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from deft.data.splits import points_of
from deft.errors import InvalidInput
from deft.evaluation.changes import Measured
from deft.evaluation.directions import kind_of
from deft.specs.data import Rows
from store.artifacts import ArtifactFiles
from store.tables import Artifact, Job, JobInput

Json = dict[str, Any]
GENERAL_TEXT = "perplexity"
"""The metric that is over `general_dataset`; every other one is over the held-out rows."""
FIX = "evaluate on rows that are apart, with `apart_from` naming what it was trained on"


class _NotOnRecordError(Exception):
    """Something that has to be known is not; its text says what."""


def with_objections(
    session: Session, files: ArtifactFiles, evaluation: Artifact, adapter: Artifact, measured: Measured, *metrics: str
) -> Measured:
    """Return what was *measured* with the reason why *metrics* may decide nothing of *adapter*, where there is one.

    That is so where rows that they are over were trained on, or where it is not on record that none was.
    """
    found = dict(measured.reasons)
    for metric in dict.fromkeys(metrics):
        told = _objection(session, files, evaluation, adapter, metric)
        if told is not None:
            found[metric] = "; ".join([*([found[metric]] if metric in found else []), told])
    return replace(measured, reasons=found)


def _objection(
    session: Session, files: ArtifactFiles, evaluation: Artifact, adapter: Artifact, metric: str
) -> str | None:
    try:
        measured_on = _measured_on(session, files, evaluation, metric)
        both = measured_on & _trained_on(session, files, adapter) if measured_on else set()
    except _NotOnRecordError as error:
        return f"it is not on record that it was measured on rows that the adapter was not trained on: {error}; {FIX}"
    if not both:
        return None
    return f"{len(both)} of the {len(measured_on)} prompts that it is over were trained on by the adapter: {FIX}"


def _measured_on(session: Session, files: ArtifactFiles, evaluation: Artifact, metric: str) -> set[float]:
    """Return the split points of the rows that *metric* is over; of a prompt set none, which nothing is trained on."""
    job = _job(session, evaluation, "evaluation")
    inputs = _inputs(session, job)
    if kind_of(metric) == GENERAL_TEXT:
        text = inputs.get("general_dataset")
        is_dataset = text is not None and text.kind == "dataset"
        return _points(files, text, job.spec, "general_rows") if text is not None and is_dataset else set()
    found = _points(files, _named(inputs, "dataset", "the evaluation"), job.spec, "rows")
    apart = job.spec.get("apart_from")
    if apart is None:
        return found
    return found - _points(files, _named(inputs, "apart_from", "the evaluation"), apart, "rows")


def _trained_on(session: Session, files: ArtifactFiles, adapter: Artifact) -> set[float]:
    """Return the split points of all rows that *adapter*, and the adapters it started from, were trained on."""
    found: set[float] = set()
    start: Artifact | None = adapter
    while start is not None:
        job = _job(session, start, f"the training of {start.id}")
        inputs = _inputs(session, job)
        data = _named(inputs, "data", f"the training of {start.id}")
        found |= _points(files, data, job.spec if data.kind == "dataset" else {"rows": {}}, "rows")
        start = inputs.get("adapter")
    return found


def _job(session: Session, artifact: Artifact, what: str) -> Job:
    job = session.get(Job, artifact.job_id) if artifact.job_id else None
    if job is None:
        raise _NotOnRecordError(f"the job of {what} is not")
    return job


def _inputs(session: Session, job: Job) -> dict[str, Artifact]:
    named = select(JobInput.name, Artifact).join(Artifact, Artifact.id == JobInput.artifact_id)
    return {row[0]: row[1] for row in session.execute(named.where(JobInput.job_id == job.id))}


def _named(inputs: dict[str, Artifact], name: str, what: str) -> Artifact:
    if name not in inputs:
        raise _NotOnRecordError(f"`{name}` of {what} is not")
    return inputs[name]


def _points(files: ArtifactFiles, data: Artifact, spec: Json, name: str) -> set[float]:
    folder: Path = files.folder(data)
    if spec.get(name) is None:
        raise _NotOnRecordError(f"which rows of {data.id} is not")
    try:
        return points_of(folder, Rows.model_validate(spec[name]))
    except (InvalidInput, OSError) as error:
        raise _NotOnRecordError(f"the rows of {data.id} cannot be read") from error
