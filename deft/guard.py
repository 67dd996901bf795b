"""The child guard: a process that must not outlive the one that started it. The only Linux-only module.

Two means, because each alone leaves something running (`docs/decisions`): the kernel's parent-death signal, which
Linux has, kills the process itself even when it hangs in native code; a small forked guard that reads a pipe kills the
whole process group, so that grandchildren (data loaders, torchrun's ranks) go as well. Where there is no parent-death
signal (macOS) the pipe alone does it. A grandchild that makes a session of its own escapes both.

Call it before any import that starts threads: it forks.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent(pipe: int, parent: int) -> int:
    """Tie this process and its group to process *parent*, which holds the other end of *pipe*; return the guard's id.

    The parent keeps the write end open and to itself: its end of file means that the parent is gone.
    """
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)  # a group of its own, or the guard would end the caller's
    ask_for_death_signal()
    if os.getppid() != parent:
        os._exit(1)  # it died before we could ask
    guard = os.fork()
    if guard == 0:
        _wait_and_end_group(pipe)
    os.close(pipe)
    return guard


def dismiss(guard: int) -> None:
    """End the guard with process id *guard* and reap it: its work is done when ours is."""
    try:
        os.kill(guard, signal.SIGKILL)
        os.waitpid(guard, 0)
    except OSError:
        return  # already gone


def ask_for_death_signal() -> None:
    """Let the kernel end this process when its parent ends, where it can."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _wait_and_end_group(pipe: int) -> None:
    """Be the guard: hold nothing of the process but the pipe, and end the group at the pipe's end of file."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)  # or the reader of our output would wait for the guard
    os.closerange(3, pipe)
    os.closerange(pipe + 1, 4096)
    try:
        os.read(pipe, 1)
    finally:
        os.killpg(0, signal.SIGKILL)
