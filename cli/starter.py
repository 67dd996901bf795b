"""Starts a program that must not outlive `deft serve`: `python -m cli.starter PIPE PARENT PROGRAM ARGUMENT...`.

It ties its process group to the parent (see `deft.guard`) and becomes the program.
"""

import os
import sys

from deft.guard import die_with_parent


def main(arguments: list[str]) -> None:
    """Become the program in *arguments*, tied to the parent."""
    pipe, parent, *command = arguments
    die_with_parent(int(pipe), int(parent))
    os.execvp(command[0], command)  # noqa: S606 - becoming another program is the purpose


if __name__ == "__main__":
    main(sys.argv[1:])
