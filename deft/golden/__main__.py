"""`python -m deft.golden OUT` writes the golden vectors; `--check` compares this package with those that it brings."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

PATH = Path(__file__).with_name("vectors.json")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, or 1 where a difference is over its tolerance."""
    parser = argparse.ArgumentParser(prog="python -m deft.golden", description="The golden vectors of the method.")
    parser.add_argument("out", type=Path, nargs="?", metavar="OUT", help="file to write them to, computed anew")
    parser.add_argument("--check", action="store_true", help=f"compare this package with {PATH.name}")
    options = parser.parse_args(arguments)
    if options.check == (options.out is not None):
        parser.error("give either OUT or --check")
    if options.check:
        return check()
    from deft.golden.layout import as_text
    from deft.golden.vectors import document

    options.out.write_text(as_text(document()), encoding="utf-8")
    return 0


def check() -> int:
    """Print the largest difference of each section; return 1 if one is over its tolerance."""
    from deft.golden.check import differences, tolerance

    document, status = json.loads(PATH.read_text(encoding="utf-8")), 0
    for section, difference in differences(document).items():
        allowed = tolerance(document, section)
        status |= not difference <= allowed
        print(f"{section:14}{difference:8.1e}  allowed {allowed:.0e}  {'ok' if difference <= allowed else 'DIFFERS'}")
    return status


if __name__ == "__main__":
    sys.exit(main())
