"""Whether a folder lies on a disk of this machine: SQLite's WAL needs shared memory, which network mounts lack.

Linux only; elsewhere nothing is refused.
"""

from pathlib import Path

from deft.errors import InvalidInput

NETWORK = frozenset(
    {
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "drvfs",
        "fuse.sshfs",
        "glusterfs",
        "fuse.glusterfs",
        "lustre",
        "nfs",
        "nfs4",
        "smb2",
        "smb3",
        "smbfs",
    }
)


def refuse_network(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> None:
    """Refuse a folder on a network file system.

    Raises:
        InvalidInput: naming the file system and the cure.
    """
    kind = file_system(folder, mounts)
    if kind in NETWORK:
        raise InvalidInput(
            f"{folder} is on a network file system ({kind}), where SQLite loses data: set DEFT_DATA_FOLDER to a local "
            "disk, or DEFT_DATABASE_URL to Postgres",
            code="network_file_system",
        )


def file_system(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str | None:
    """Return the type of the file system that *folder* lies on, or None where that cannot be told."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    real = folder.resolve()
    best: tuple[int, str | None] = (-1, None)
    for line in lines:
        left, _, right = line.partition(" - ")
        point = Path(left.split()[4].replace("\\040", " "))
        if real.is_relative_to(point) and len(point.parts) >= best[0]:
            best = (len(point.parts), right.split()[0])
    return best[1]
