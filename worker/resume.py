"""Where an attempt's resume state lies, and how the next attempt takes it over. Files only; knows no database.

Each attempt writes below a folder of its own, named by its fence: a ghost (an attempt that lost its lease but still
runs) can harm no one else's. The newest recorded checkpoints of earlier attempts are linked into it before it starts;
whether they are what they were is checked by who loads them (`deft.training.checkpoints.newest`).
"""

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

TAKEN_OVER = 2
"""How many of the newest recorded checkpoints the next attempt gets: the newest, and one to fall back to."""


class Recorded(NamedTuple):
    """A checkpoint that has a row: the *fence* of the attempt that wrote it and its folder's *name*."""

    fence: int
    name: str


def attempt_folder(job_folder: Path, fence: int) -> Path:
    """Return the folder of the attempt with *fence* below its job's folder."""
    return job_folder / f"{fence:06d}"


def take_over(job_folder: Path, fence: int, recorded: Iterable[Recorded]) -> Path:
    """Make the folder of the attempt with *fence*, link the *recorded* checkpoints into it, and return it.

    *recorded* are given newest first. One that is gone or half gone is left out. Folders of earlier
    attempts from which nothing was taken are removed.
    """
    folder = attempt_folder(job_folder, fence)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    sources = [attempt_folder(job_folder, each.fence) / each.name for each in list(recorded)[:TAKEN_OVER]]
    for source in sources:
        link(source, folder / source.name)
    kept = {folder, *(source.parent for source in sources)}
    for other in job_folder.iterdir():
        if other not in kept:
            shutil.rmtree(other, ignore_errors=True)
    return folder


def link(source: Path, target: Path) -> None:
    """Make *target* a copy of the folder *source* that shares its files; make nothing when *source* is not whole."""
    staged = target.with_name(f".link-{target.name}")
    try:
        shutil.copytree(source, staged, copy_function=os.link)
    except (OSError, shutil.Error):
        shutil.rmtree(staged, ignore_errors=True)
        return
    staged.rename(target)


def forget(job_folder: Path) -> None:
    """Remove all resume state of a job that has ended."""
    shutil.rmtree(job_folder, ignore_errors=True)


def forget_ended(checkpoint_folder: Path, ended: Callable[[list[str]], set[str]]) -> None:
    """Remove the resume state of jobs that ended while no attempt of theirs ran (cancelled when queued or paused).

    *ended* tells which of the given job ids have ended.
    """
    if checkpoint_folder.is_dir():
        for job_id in ended([path.name for path in checkpoint_folder.iterdir()]):
            forget(checkpoint_folder / job_id)
