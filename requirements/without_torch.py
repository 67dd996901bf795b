"""Take torch and the CUDA packages of its Linux build out of a lock file: `python without_torch.py FILE`."""

import re
import sys
from pathlib import Path

LEFT_OUT = re.compile(r"^(torch|triton|cuda-[a-z]+|nvidia-[a-z0-9-]+)==")


def requirements(text: str) -> list[str]:
    """Return the requirements of a lock file, each with its indented lines of hashes."""
    return re.findall(r"^\S.*(?:\n[ \t].*)*", text, flags=re.MULTILINE)


if __name__ == "__main__":
    path = Path(sys.argv[1])
    kept = [entry for entry in requirements(path.read_text()) if not LEFT_OUT.match(entry)]
    path.write_text("\n".join(kept) + "\n")
