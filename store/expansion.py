"""A pipeline becomes its parent row and its child jobs, in one transaction.

What the arms are is decided in `deft.arms`; here it is resolved against the dataset's rows and stored.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from deft.arms import FULL_ARM_LIMIT, arms, held_out_rows, scored_rows, submit_children
from deft.errors import InvalidInput
from deft.selection import resolve_keep
from deft.specs import DEFAULT_ARMS, OperationSpec, PipelineSpec, Rows, spec_hash, spec_json
from deft.splits import chosen_rows
from store import artifacts, jobs
from store.artifacts import ArtifactFiles
from store.tables import Job


def expand(session: Session, files: ArtifactFiles, team_id: str, spec: PipelineSpec) -> Job:
    """Store the pipeline and its children and return the parent, whose spec has every choice written in.

    Raises:
        NotFound: the model or a dataset is not there for this team.
        InvalidInput: no row is left to train on, or none to evaluate on.
    """
    parent = jobs.create(session, team_id, spec)
    resolved, summary = _resolved(session, files, team_id, spec)
    parent.spec, parent.spec_hash, parent.summary = spec_json(resolved), spec_hash(resolved), summary

    def submit(name: str, child: OperationSpec) -> str:
        return jobs.create(session, team_id, child, parent_id=parent.id, name=name).id

    submit_children(resolved, submit)
    session.flush()
    return parent


def _resolved(
    session: Session, files: ArtifactFiles, team_id: str, spec: PipelineSpec
) -> tuple[PipelineSpec, dict[str, Any]]:
    dataset = files.folder(artifacts.get(session, team_id, spec.dataset, "dataset"))
    held_out = files.folder(artifacts.get(session, team_id, spec.evaluation_dataset or spec.dataset, "dataset"))
    examples = _rows_of(dataset, scored_rows(spec), "/split/train")
    evaluated = _rows_of(held_out, held_out_rows(spec), "/split/evaluation")
    steps = spec.optimisation
    kept, reason = resolve_keep(spec.selection.keep, examples, steps.batch_size, steps.epochs)
    if spec.selection.count is not None:
        kept, reason = min(spec.selection.count, examples), "the count that was asked for"
    changes: dict[str, Any] = {"selection": spec.selection.model_copy(update={"count": kept})}
    if spec.arms == DEFAULT_ARMS and examples > FULL_ARM_LIMIT:
        changes["arms"] = [arm for arm in spec.arms if arm != "full"]
    resolved = spec.model_copy(update=changes)
    summary = {
        "examples_scored": examples,
        "examples_kept": kept,
        "keep_reason": reason,
        "examples_held_out": evaluated if spec.evaluation.pairs is None else min(evaluated, spec.evaluation.pairs),
        "arms": [arm.system for arm in arms(resolved)],
    }
    return resolved, summary


def _rows_of(folder: Path, rows: Rows, pointer: str) -> int:
    try:
        return len(chosen_rows(folder, rows))
    except InvalidInput as error:
        findings = [replace(finding, pointer=pointer) for finding in error.findings]
        raise InvalidInput(error.message, code=error.error_code, findings=findings) from error
