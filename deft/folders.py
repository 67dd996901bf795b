"""Immutable folders: staged, hashed, synced, manifest last, one rename. Torch-free.

Used for artifacts (by `store.artifacts`) and for checkpoints (by `deft.training.checkpoints`). A folder without a valid
`manifest.json` does not exist for any reader.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deft.errors import ArtifactCorrupt

MANIFEST = "manifest.json"


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of the file at *path*, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Flush the file or folder at *path* to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def content_files(folder: Path) -> list[Path]:
    """Return the files below *folder* without its manifest, sorted by their path."""
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)


def seal(folder: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Hash and sync every file of *folder*, then write its manifest last; return the manifest.

    *facts* are JSON values kept under their own keys. The manifest's `sha256` covers names, sizes and hashes of the
    files, so that equal contents have equal hashes wherever they were written.
    """
    files = [
        {"path": p.relative_to(folder).as_posix(), "bytes": p.stat().st_size, "sha256": sha256_of(p)}
        for p in content_files(folder)
    ]
    for path in content_files(folder):
        sync(path)
    digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
    manifest = {**facts, "sha256": digest, "files": files}
    target = folder / MANIFEST
    target.write_text(json.dumps(manifest, indent=1, sort_keys=True), encoding="utf-8")
    sync(target)
    for directory in [folder, *(p for p in folder.rglob("*") if p.is_dir())]:
        sync(directory)
    return manifest


def publish(staged: Path, final: Path) -> None:
    """Rename the sealed folder *staged* to *final* (same file system) and sync the parent."""
    final.parent.mkdir(parents=True, exist_ok=True)
    staged.rename(final)
    sync(final.parent)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of *folder*.

    Raises:
        ArtifactCorrupt: there is none, or it is not JSON.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactCorrupt(f"{folder.name} has no readable manifest") from error
    return manifest


def verify(folder: Path) -> dict[str, Any]:
    """Check every file of *folder* against its manifest and return the manifest.

    Raises:
        ArtifactCorrupt: a file is missing, added, truncated or changed.
    """
    manifest = read_manifest(folder)
    recorded = {entry["path"]: entry for entry in manifest["files"]}
    present = {p.relative_to(folder).as_posix(): p for p in content_files(folder)}
    if recorded.keys() != present.keys():
        different = sorted(recorded.keys() ^ present.keys())
        raise ArtifactCorrupt(f"{folder.name}: files differ from the manifest: {', '.join(different[:5])}")
    for name, entry in recorded.items():
        path = present[name]
        if path.stat().st_size != entry["bytes"] or sha256_of(path) != entry["sha256"]:
            raise ArtifactCorrupt(f"{folder.name}: {name} is not what was recorded")
    return manifest
