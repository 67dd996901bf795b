"""Registered models that a spec names beside its own: reward models, a BART. Their ids stand for their names in a job.

A name may come to mean a team's own model later; an id never means another. It loads nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy.orm import Session

from deft.errors import Finding, NotFound, shown
from deft.models.files import CONFIG, read_settings
from deft.reward_models.apart import Known, require_apart, require_once
from deft.reward_models.heads import require_encoder_decoder, require_reward_head
from deft.reward_models.rows import learnt_rows
from deft.specs import ModelReference, Spec, model_references
from store import models
from store.artifacts import ArtifactFiles
from store.settings import Settings
from store.tables import Artifact, Job, JobInput, Model

TRAINED_ON, BARTSCORE_MODEL = "/training_reward_models/", "bartscore_model"
AnySpec = TypeVar("AnySpec", bound=Spec)


def pinned(session: Session, team_id: str, spec: AnySpec) -> AnySpec:
    """Return *spec* with the ids of the registered models that it names.

    Raises:
        NotFound: the team sees no such model; findings have the pointer.
        InvalidInput: a reward model is named twice, or both to evaluate and as trained on.
    """
    found = {named: _model(session, team_id, named) for named in model_references(spec)}
    if not found:
        return spec
    _require_apart([_known_model(row, named) for named, row in found.items() if named.name != BARTSCORE_MODEL])
    ids = {named.id: row.id for named, row in found.items()}
    changed: dict[str, object] = {}
    for field in ("reward_models", "training_reward_models"):
        changed[field] = [ids.get(named, named) for named in getattr(spec, field, ())]
    if getattr(spec, "bartscore_model", None) is not None:
        changed["bartscore_model"] = ids[getattr(spec, "bartscore_model")]  # noqa: B009 - not every spec has it
    return spec.model_copy(update=changed)


def check_heads(session: Session, settings: Settings, team_id: str, spec: Spec) -> None:
    """Check by config.json that the models which *spec* names can judge, as far as they are on this machine.

    Raises:
        ModelNotUsable: a reward model has no head of one label, or the model for BARTScore is no encoder-decoder.
        NotFound: as `pinned`.
    """
    for named in model_references(spec):
        folder = models.folder_of(settings, _model(session, team_id, named))
        if folder.is_dir():
            _check_head(folder, named)


def check_apart(
    session: Session, files: ArtifactFiles, settings: Settings, team_id: str, spec: Spec, inputs: Sequence[JobInput]
) -> None:
    """Check that the reward models of *spec* and its *inputs*, as far as they are made, are apart where they must be.

    It reads their files, and so has no place in a transaction that stores.

    Raises:
        InvalidInput: one is named twice, or one that evaluates shares weights or rows with one that was trained on.
    """
    known = []
    for named in model_references(spec):
        if named.name != BARTSCORE_MODEL:
            row = _model(session, team_id, named)
            known.append(replace(_known_model(row, named), folder=models.folder_of(settings, row)))
    for each in inputs:
        if each.artifact_id is not None and each.name.startswith(("reward_model.", "training_reward_model.")):
            known.append(_known_artifact(files, session.get_one(Artifact, each.artifact_id), each.pointer))
    _require_apart(known)


def reward_model_configs(
    session: Session, files: ArtifactFiles, settings: Settings, team_id: str, spec: Spec, inputs: Sequence[JobInput]
) -> dict[str, Mapping[str, Any]]:
    """Return the config.json of the reward models that *spec* names, by the names there, as far as they are here.

    Of one that a job has still to make, it is that of the model which the job trains.
    """
    folders = {
        named.id: models.folder_of(settings, _model(session, team_id, named)) for named in model_references(spec)
    }
    for each in inputs:
        if "reward_model." not in each.name:
            continue
        if each.artifact_id is not None:
            folders[each.reference] = files.folder(session.get_one(Artifact, each.artifact_id))
        elif each.input_job_id is not None:
            job = session.get_one(Job, each.input_job_id)
            if job.model_id is not None:
                folders[each.reference] = models.folder_of(settings, session.get_one(Model, job.model_id))
    return {name: read_settings(folder, CONFIG) for name, folder in folders.items() if (folder / CONFIG).is_file()}


def _known_model(row: Model, named: ModelReference) -> Known:
    return Known(row.id, named.pointer, row.weights_hash, None)


def _known_artifact(files: ArtifactFiles, row: Artifact, pointer: str) -> Known:
    folder, of = files.folder(row), row.summary.get
    return Known(row.id, pointer, of("weights_hash"), learnt_rows(folder), of("base_weights_hash"), folder)


def _require_apart(known: Sequence[Known]) -> None:
    evaluating = [own for own in known if not own.pointer.startswith(TRAINED_ON)]
    trained_on = [own for own in known if own.pointer.startswith(TRAINED_ON)]
    require_apart(evaluating, trained_on)
    require_once([*evaluating, *trained_on])


def _check_head(folder: Path, named: ModelReference) -> None:
    check = require_encoder_decoder if named.name == BARTSCORE_MODEL else require_reward_head
    check(folder, named.pointer)


def _model(session: Session, team_id: str, named: ModelReference) -> Model:
    try:
        return models.get(session, team_id, named.id)
    except NotFound as error:
        finding = Finding(
            code="not_found",
            pointer=named.pointer,
            found=shown(named.id),
            expected="a registered model, or a reward model",
            fix="GET /v1/models and GET /v1/reward_models list what is there",
        )
        raise NotFound("there is no such model", code="model_not_found", findings=[finding]) from error
