"""Artifacts: immutable folders and their rows. Staged per attempt, sealed, one rename, then the row.

Files first, row last: a folder without a row is litter that nobody sees; a row without its folder cannot come about.
All paths are made here, so that a store with the interface of S3 can take the local folder's place in this module.
"""

import os
import shutil
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from deft.errors import ArtifactCorrupt, NotFound
from deft.folders import publish, seal, verify
from deft.specs import ID_PREFIX, ArtifactKind
from store.finite import finite
from store.ids import new_id
from store.paging import Order, Page, page_of
from store.settings import Settings
from store.tables import Artifact

Kinds = ArtifactKind | tuple[ArtifactKind, ...] | None
"""One kind, any of several, or all."""

LITTER_SECONDS = 3600.0
"""A staged folder that nobody has written into for so long belongs to nobody: uploads and attempts sign theirs."""


@dataclass(frozen=True, slots=True)
class SealedArtifact:
    """A folder that is complete and in its place, not yet anyone's: `claims.succeed` or `record` writes the row."""

    id: str
    kind: ArtifactKind
    name: str | None
    folder: Path
    manifest: dict[str, Any]


class ArtifactFiles:
    """The folders of artifacts below the data folder of *settings*."""

    def __init__(self, settings: Settings) -> None:
        self._artifacts = settings.artifact_folder
        self._staging = settings.staging_folder

    def stage(self, kind: str) -> Path:
        """Return a new empty folder that one attempt, or one upload, writes into."""
        folder = self._staging / new_id(kind)
        folder.mkdir(parents=True)
        return folder

    def keep(self, staged: Path) -> None:
        """Sign the *staged* folder as being in use, now and then, where it is not written into for long."""
        os.utime(staged)

    def discard(self, staged: Path) -> None:
        """Remove a staged folder that comes to nothing."""
        if staged.resolve().parent != self._staging.resolve():
            raise ValueError("not a staged folder")
        shutil.rmtree(staged, ignore_errors=True)

    def seal(
        self, kind: ArtifactKind, staged: Path, summary: Mapping[str, Any], *, name: str | None = None
    ) -> SealedArtifact:
        """Hash and sync the files of *staged*, write its manifest and rename it to its place.

        Slow with large files: call it outside a transaction. *staged* must be on the data folder's file system.
        """
        artifact_id = new_id(ID_PREFIX[kind])
        manifest = seal(staged, {"id": artifact_id, "kind": kind, "summary": finite(dict(summary))})
        final = self._artifacts / artifact_id
        publish(staged, final)
        return SealedArtifact(artifact_id, kind, name, final, manifest)

    def publish(
        self,
        session: Session,
        team_id: str,
        kind: ArtifactKind,
        staged: Path,
        summary: Mapping[str, Any],
        job: str | None = None,
        name: str | None = None,
    ) -> Artifact:
        """Do `seal` and `record` in one: for uploads. Call it as the first thing in its transaction.

        A job's output goes through `claims.succeed`, which checks the fence.
        """
        return record(session, team_id, self.seal(kind, staged, summary, name=name), job_id=job)

    def folder(self, artifact: Artifact) -> Path:
        """Return where the artifact's files lie."""
        return self._artifacts / artifact.id

    def open_checked(self, artifact: Artifact) -> Path:
        """Return the artifact's folder after checking every file against the manifest and the row.

        Raises:
            ArtifactCorrupt: a file is missing, added or changed, or the manifest is not the recorded one.
        """
        folder = self.folder(artifact)
        if verify(folder)["sha256"] != artifact.sha256:
            raise ArtifactCorrupt(f"{artifact.id}: the manifest is not the recorded one")
        return folder

    def collect(self, session: Session, artifact_ids: Iterable[str]) -> None:
        """Remove the folders of those of *artifact_ids* that have no row any more."""
        ids = set(artifact_ids)
        known = session.scalars(select(Artifact.id).where(Artifact.id.in_(ids)))
        for artifact_id in ids.difference(known):
            shutil.rmtree(self._artifacts / artifact_id, ignore_errors=True)

    def collect_litter(self, session: Session, older_than_seconds: float = LITTER_SECONDS) -> list[Path]:
        """Remove staged folders, and published ones without a row, that were left alone for an hour; return them."""
        staged = _old_folders(self._staging, older_than_seconds)
        published = {path.name: path for path in _old_folders(self._artifacts, older_than_seconds)}
        known = set(session.scalars(select(Artifact.id).where(Artifact.id.in_(published))))
        litter = [*staged, *(path for name, path in published.items() if name not in known)]
        for path in litter:
            shutil.rmtree(path, ignore_errors=True)
        return litter


def record(session: Session, team_id: str, sealed: SealedArtifact, job_id: str | None = None) -> Artifact:
    """Write the row of a sealed folder in the caller's transaction and return it."""
    files: list[dict[str, Any]] = sealed.manifest["files"]
    artifact = Artifact(
        id=sealed.id,
        team_id=team_id,
        kind=sealed.kind,
        name=sealed.name,
        job_id=job_id,
        sha256=sealed.manifest["sha256"],
        bytes=sum(file["bytes"] for file in files),
        files=files,
        summary=sealed.manifest["summary"],
    )
    session.add(artifact)
    session.flush()
    return artifact


def get(session: Session, team_id: str, artifact_id: str, kind: Kinds = None) -> Artifact:
    """Return the team's artifact.

    Raises:
        NotFound: the team has no such artifact, or it is of another kind than *kind*, or than all of them.
    """
    statement = select(Artifact).where(Artifact.id == artifact_id, Artifact.team_id == team_id)
    artifact = session.scalars(statement).first()
    kinds = _listed(kind)
    if artifact is None or (kinds and artifact.kind not in kinds):
        raise NotFound(f"there is no such {kinds[0] if kinds else 'artifact'}")
    return artifact


def page(
    session: Session,
    team_id: str,
    *,
    kind: Kinds = None,
    limit: int = 50,
    after: str | None = None,
    order: Order = "desc",
) -> Page[Artifact]:
    """Return a page of the team's artifacts.

    Raises:
        InvalidInput: `limit` is out of range, or `after` is no item of this list.
    """
    statement = select(Artifact).where(Artifact.team_id == team_id)
    if kind is not None:
        statement = statement.where(Artifact.kind.in_(_listed(kind)))
    return page_of(session, statement, Artifact, limit, after, order)


def _listed(kind: Kinds) -> tuple[ArtifactKind, ...]:
    return () if kind is None else kind if isinstance(kind, tuple) else (kind,)


def _old_folders(parent: Path, older_than_seconds: float) -> list[Path]:
    if not parent.is_dir():
        return []
    limit = time.time() - older_than_seconds
    return sorted(path for path in parent.iterdir() if path.is_dir() and _last_written(path) < limit)


def _last_written(folder: Path) -> float:
    times = [folder.stat().st_mtime]
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # it may be at work
            times.append(path.stat().st_mtime)
    return max(times)
