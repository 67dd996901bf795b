"""Base models that jobs may name: folders below the operator's roots, or pinned revisions of the Hub.

It reads settings, headers, sizes and hashes; it never loads a model, and takes no path outside the roots.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from deft.errors import Conflict, Finding, InvalidInput, ModelNotUsable, NotFound, shown
from deft.models.files import check_model_folder, weights_hash
from store.ids import new_id
from store.paging import Order, Page, page_of
from store.settings import GIB, Settings
from store.tables import Model

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.\-]{0,95}/[A-Za-z0-9][\w.\-]{0,95}", re.ASCII)
REVISION = re.compile(r"[0-9a-f]{40}")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model")
HASHED_UP_TO_BYTES = 4 * GIB


@dataclass(frozen=True, slots=True)
class Weights:
    """What a model's folder holds: size, and hash unless it is larger than 4 GiB."""

    folder: Path
    bytes: int
    hash: str | None


def inspect_folder(folder: Path, roots: Iterable[Path]) -> Weights:
    """Check that *folder* is a model below one of *roots* and return its weights' size and hash.

    Raises:
        InvalidInput: it lies elsewhere (links resolved); lacks config.json, safetensors weights or a tokenizer; or no
            worker could load it: settings that are no JSON object, code of its own, damaged or missing weight files.
            Outside the roots nothing is said about what is there.
    """
    real = folder.resolve()
    if not any(real.is_relative_to(root.resolve()) for root in roots):
        raise _refused(
            "/folder", str(folder), "a folder below one of the operator's model roots", "see DEFT_MODEL_ROOTS"
        )
    missing = _missing_parts(real)
    if missing:
        raise _refused("/folder", missing, "config.json, *.safetensors and a tokenizer", "add the missing file")
    try:
        check_model_folder(real)
    except ModelNotUsable as error:
        findings = [replace(finding, pointer="/folder") for finding in error.findings]
        raise InvalidInput(error.message, code=error.error_code, findings=findings) from error
    files = sorted(real.glob("*.safetensors"))
    size = sum(file.stat().st_size for file in files)
    return Weights(real, size, weights_hash(real) if size <= HASHED_UP_TO_BYTES else None)


def register(
    session: Session,
    team_id: str | None,
    name: str,
    *,
    roots: Iterable[Path] = (),
    folder: Path | None = None,
    hub_id: str | None = None,
    revision: str | None = None,
) -> Model:
    """Add a model under *name* for the team (None: for everyone): a *folder* below *roots*, or *hub_id* + *revision*.

    Registering the same thing under the same name again returns the model that is there, with its weights as they are.

    Raises:
        InvalidInput: the name, folder, hub id or revision is not usable.
        Conflict: the name means another model.
    """
    weights = _checked(name, roots, folder, hub_id, revision)  # reads files: before the first statement
    source = (str(weights.folder) if weights else None, hub_id, revision)
    known = _named(session, team_id, name)
    if known is not None:
        if (known.folder, known.hub_id, known.revision) != source:
            raise Conflict("the name means another model", code="name_taken")
        _tell(known, weights)
        return known
    model = Model(id=new_id("model"), team_id=team_id, name=name, folder=source[0], hub_id=hub_id, revision=revision)
    _tell(model, weights)
    try:
        with session.begin_nested():
            session.add(model)
    except IntegrityError as error:
        raise Conflict("the name means another model", code="name_taken") from error
    return model


def get(session: Session, team_id: str, id_or_name: str) -> Model:
    """Return the model that the team sees under this id or name; a team's own name goes before everyone's.

    Raises:
        NotFound: there is none.
    """
    is_meant = or_(Model.id == id_or_name, Model.name == id_or_name)
    found = list(session.scalars(select(Model).where(_is_seen_by(team_id), is_meant)))
    if not found:
        raise NotFound("there is no such model")
    return min(found, key=lambda model: (model.id != id_or_name, model.team_id is None))


def page(
    session: Session, team_id: str, *, limit: int = 50, after: str | None = None, order: Order = "desc"
) -> Page[Model]:
    """Return a page of the models that the team sees.

    Raises:
        InvalidInput: `limit` is out of range, or `after` is no item of this list.
    """
    return page_of(session, select(Model).where(_is_seen_by(team_id)), Model, limit, after, order)


def sync_roots(session: Session, settings: Settings) -> list[Model]:
    """Register for everyone each model folder that is a root or lies directly below one; return those models.

    A folder that is no usable model, or whose name is taken by another, is left out.
    """
    found: list[Model] = []
    for folder in _candidates(settings.model_roots):
        known = session.scalars(select(Model).where(Model.team_id.is_(None), Model.folder == str(folder))).first()
        try:
            if known is None or not _is_told(known):
                name = folder.name if known is None else known.name
                known = register(session, None, name, roots=settings.model_roots, folder=folder)
            found.append(known)
        except (InvalidInput, Conflict):
            continue
    return found


def folder_of(settings: Settings, model: Model) -> Path:
    """Return where the model's files lie; for a model of the Hub, where the worker puts them before it is used."""
    if model.folder is not None:
        return Path(model.folder)
    if model.hub_id is None or model.revision is None:
        raise AssertionError("a model has a folder or a pinned revision")
    return settings.model_folder / f"{model.hub_id.replace('/', '--')}@{model.revision}"


def _checked(
    name: str, roots: Iterable[Path], folder: Path | None, hub_id: str | None, revision: str | None
) -> Weights | None:
    if not NAME.fullmatch(name):
        raise _refused("/name", name, "letters, digits, `_`, `.`, `-`, at most 64", "choose another name")
    if (folder is None) == (hub_id is None):
        raise _refused("/folder", "both or none", "either `folder` or `hub_id` with `revision`", "give one of them")
    if folder is not None:
        if revision is not None:
            raise _refused("/revision", revision, "nothing beside a folder", "leave it out")
        return inspect_folder(folder, roots)
    if hub_id is None or not HUB_ID.fullmatch(hub_id) or ".." in hub_id:
        raise _refused("/hub_id", hub_id or "", "owner/name", "give the model's id on the Hub")
    if revision is None or not REVISION.fullmatch(revision):
        raise _refused("/revision", revision or "", "a commit of 40 hex digits", "pin the revision: names can move")
    return None


def _missing_parts(folder: Path) -> str:
    missing = [] if (folder / "config.json").is_file() else ["config.json"]
    if not any(folder.glob("*.safetensors")):
        missing.append("*.safetensors")
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        missing.append("tokenizer")
    return f"without {', '.join(missing)}" if missing else ""


def _tell(model: Model, weights: Weights | None) -> None:
    if weights is not None:
        model.weights_bytes, model.weights_hash = weights.bytes, weights.hash


def _is_told(model: Model) -> bool:
    """Return whether size and hash are on record, as far as they are taken."""
    size = model.weights_bytes
    return size is not None and (model.weights_hash is not None or size > HASHED_UP_TO_BYTES)


def _candidates(roots: Iterable[Path]) -> list[Path]:
    folders: list[Path] = []
    for root in roots:
        if root.is_dir():
            folders += [root.resolve(), *(path.resolve() for path in sorted(root.iterdir()) if path.is_dir())]
    return [folder for folder in dict.fromkeys(folders) if (folder / "config.json").is_file()]


def _named(session: Session, team_id: str | None, name: str) -> Model | None:
    return session.scalars(select(Model).where(Model.team_id.is_not_distinct_from(team_id), Model.name == name)).first()


def _is_seen_by(team_id: str) -> ColumnElement[bool]:
    return or_(Model.team_id == team_id, Model.team_id.is_(None))


def _refused(pointer: str, found: str, expected: str, fix: str) -> InvalidInput:
    finding = Finding("model_not_usable", shown(found), expected, fix, pointer=pointer)
    return InvalidInput("the model cannot be registered", code="model_not_usable", findings=[finding])
