"""A worker process like `python -m worker.main`, whose children are stand-ins instead of `python -m deft`."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from worker import child, main  # noqa: E402 - the project is found by its place

command_of_production = child.command


def command(order: child.Order) -> list[str]:
    arguments = command_of_production(order)
    arguments[1:3] = [str(ROOT / "tests" / "standin.py")]
    return arguments


if __name__ == "__main__":
    child.command = command
    main.main()
