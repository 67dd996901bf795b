"""`python -m deft.adapters FOLDER --base DIR`: load an adapter as anyone would, compare its logits with its probe's."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from deft.adapters.folder import probe_difference


def main(arguments: Sequence[str] | None = None) -> int:
    """Check an adapter, or a tuned model, against its probe; 0 when its logits are reproduced, else 1."""
    parser = argparse.ArgumentParser(prog="python -m deft.adapters", description=__doc__)
    parser.add_argument("folder", type=Path)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--base", type=Path, help="folder of the base model")
    which.add_argument(
        "--merged", "--whole", action="store_true", help="check the merged model, or a whole model, which needs no base"
    )
    parser.add_argument("--tolerance", type=float, help="largest difference of a logit that is accepted")
    options = parser.parse_args(arguments)
    difference, allowed = probe_difference(options.folder, options.base)
    if options.tolerance is not None:
        allowed = options.tolerance
    is_same = difference <= allowed
    verdict = "reproduced" if is_same else f"NOT reproduced (allowed {allowed:.3g})"
    sys.stdout.write(f"probe logits {verdict}, max abs difference: {difference:.9g}\n")
    return 0 if is_same else 1


if __name__ == "__main__":
    sys.exit(main())
