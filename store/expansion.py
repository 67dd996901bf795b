"""A pipeline becomes its parent row and its child jobs, in one transaction.

What the arms are is decided in `deft.arms`. `resolve` settles the rest against the rows of the datasets; it reads whole
files, so it comes before the transaction in which `expand` stores.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy.orm import Session

from deft.arms import FULL_ARM_LIMIT, arms, held_out_rows, scored_rows, sft_rows, submit_children, trained_rows
from deft.data.datasets import have_scores
from deft.data.splits import apart_from, chosen_rows
from deft.errors import Finding, InvalidInput
from deft.selection import resolve_keep
from deft.specs import DEFAULT_ARMS, OperationSpec, PipelineSpec, ProMethod, Rows, ScoreSpec
from deft.training.supervision import reward_source
from store import artifacts, jobs, sharding
from store.artifacts import ArtifactFiles
from store.tables import Artifact, Job


class Resolved(NamedTuple):
    """A pipeline with every choice written into its *spec*, and what the choices came to."""

    spec: PipelineSpec
    summary: dict[str, Any]


class HeldOut(NamedTuple):
    """How many rows are evaluated on, and how many were left out since their prompts are trained on."""

    rows: int
    left_out: int


def resolve(session: Session, files: ArtifactFiles, team_id: str, spec: PipelineSpec) -> Resolved:
    """Settle what *spec* leaves open; stores nothing.

    Raises:
        NotFound: the model or a dataset is not there for this team.
        InvalidInput: no row is left to train on, or none to evaluate on; the evaluation dataset is the dataset; PRO is
            to take its rewards from scores that rows lack.
    """
    jobs.check(session, team_id, spec)
    dataset = artifacts.get(session, team_id, spec.dataset, "dataset")
    held_out = artifacts.get(session, team_id, spec.evaluation_dataset or spec.dataset, "dataset")
    if spec.evaluation_dataset is not None:
        _refuse_equal_content(dataset, held_out)
    examples = _rows_of(files.folder(dataset), scored_rows(spec), "/split/train")
    evaluated = _held_out(files.folder(dataset), files.folder(held_out), spec)
    if isinstance(spec.method, ProMethod):
        spec = spec.model_copy(update={"method": _with_rewards(spec.method, files.folder(dataset), examples)})
    resolved = _settled(spec, len(examples), evaluated)
    if spec.sft is not None:
        tuned = _rows_of(files.folder(dataset), sft_rows(spec, spec.sft), "/split/train")
        resolved.summary["examples_of_sft"] = len(tuned)
    return resolved


def expand(session: Session, team_id: str, resolved: Resolved, *, shard_rows: int) -> Job:
    """Store the pipeline and its children and return the parent; *shard_rows* are the most that one job scores.

    Raises:
        NotFound: the model or a dataset is not there for this team.
    """
    spec, summary = resolved
    parent = jobs.create(session, team_id, spec)
    parent.summary = summary

    def submit(name: str, child: OperationSpec) -> str:
        if isinstance(child, ScoreSpec):
            sizes = {"rows": summary["examples_scored"], "shard_rows": shard_rows}
            return sharding.create(session, team_id, child, **sizes, parent_id=parent.id, name=name).id
        return jobs.create(session, team_id, child, parent_id=parent.id, name=name).id

    submit_children(spec, submit)
    session.flush()
    return parent


def _settled(spec: PipelineSpec, examples: int, evaluated: HeldOut) -> Resolved:
    steps = spec.optimisation
    kept, reason = resolve_keep(spec.selection.keep, examples, steps.batch_size, steps.epochs)
    if spec.selection.count is not None:
        kept, reason = min(spec.selection.count, examples), "the count that was asked for"
    changes: dict[str, Any] = {"selection": spec.selection.model_copy(update={"count": kept})}
    if spec.arms == DEFAULT_ARMS and examples > FULL_ARM_LIMIT:
        changes["arms"] = [arm for arm in spec.arms if arm != "full"]
    resolved = spec.model_copy(update=changes)
    pairs = spec.evaluation.pairs
    summary = {
        "examples_scored": examples,
        "examples_kept": kept,
        "keep_reason": reason,
        "examples_held_out": evaluated.rows if pairs is None else min(evaluated.rows, pairs),
        "examples_left_out_of_evaluation": evaluated.left_out,
        "arms": [arm.system for arm in arms(resolved)],
    }
    return Resolved(resolved, summary)


def _with_rewards(method: ProMethod, dataset: Path, rows: list[int]) -> ProMethod:
    """Settle where PRO's rewards come from once for all arms: a subset may have scores where not all rows do."""
    source = reward_source(method, has_scores=have_scores(dataset, rows))
    return method.model_copy(update={"rewards": source})


def _refuse_equal_content(dataset: Artifact, held_out: Artifact) -> None:
    content = dataset.summary.get("content_hash")
    if content is None or content != held_out.summary.get("content_hash"):
        return
    finding = Finding(
        code="evaluated_on_training_data",
        pointer="/evaluation_dataset",
        found=f"{held_out.id}, whose rows are those of {dataset.id}",
        expected="a dataset that is not trained on",
        fix="send null to hold out a split of `dataset`, or name another dataset",
    )
    raise InvalidInput(
        "The evaluation dataset has the same rows as the dataset.", code=finding.code, findings=[finding]
    )


def _held_out(dataset: Path, held_out: Path, spec: PipelineSpec) -> HeldOut:
    pointer = "/split/evaluation" if spec.evaluation_dataset is None else "/evaluation_dataset"
    asked = _rows_of(held_out, held_out_rows(spec), pointer)
    rows = apart_from(held_out, asked, dataset, trained_rows(spec))
    if rows:
        return HeldOut(len(rows), len(asked) - len(rows))
    finding = Finding(
        code="evaluated_on_training_data",
        pointer=pointer,
        found=f"{len(asked)} rows, each with the first user turn of a row of the train split",
        expected="at least one row whose prompt is not trained on",
        fix="evaluate on prompts that are not in the train split",
    )
    raise InvalidInput("Every evaluation prompt is trained on.", code=finding.code, findings=[finding])


def _rows_of(folder: Path, rows: Rows, pointer: str) -> list[int]:
    try:
        return chosen_rows(folder, rows)
    except InvalidInput as error:
        findings = [replace(finding, pointer=pointer) for finding in error.findings]
        raise InvalidInput(error.message, code=error.error_code, findings=findings) from error
