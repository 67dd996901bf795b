"""What is checked of the downloads, each in a fresh process: the subset opens, the adapter gives the worker's logits.

The processes are started here, so that this command itself never loads torch.
"""

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from cli.demo.failure import DemoFailed

OPEN_SUBSET = """
import sys
from datasets import load_dataset, logging
logging.set_verbosity_error()
folder = sys.argv[1]
counts = []
for kind, name in (("json", "kept.jsonl"), ("parquet", "kept.parquet"), ("json", "ledger.jsonl"), ("parquet", "ledger.parquet")):
    rows = load_dataset(kind, data_files=f"{folder}/{name}", split="train")
    counts.append(len(rows))
    if name == "kept.jsonl":
        columns = rows.column_names
kept, kept_too, ledger, ledger_too = counts
assert kept == kept_too > 0, f"kept.jsonl has {kept} rows, kept.parquet {kept_too}"
assert ledger == ledger_too >= kept, f"ledger.jsonl has {ledger} rows, ledger.parquet {ledger_too}"
assert "deft_r_d" in columns, f"deft_r_d is missing from {columns}"
print(f"{kept} kept rows of {ledger} with columns {', '.join(columns)}")
"""  # noqa: E501 - a script

SECONDS = 300


def subset(folder: Path) -> str:
    """Open the subset's files with `datasets.load_dataset` and return what was found.

    Raises:
        DemoFailed: it does not open, or the files disagree.
    """
    if importlib.util.find_spec("datasets") is None:
        return "not opened: the package datasets is not installed here"
    with tempfile.TemporaryDirectory() as cache:
        environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": cache, "HF_DATASETS_CACHE": cache}
        environment["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
        return "opens with datasets.load_dataset: " + _run(["-c", OPEN_SUBSET, str(folder)], environment, "the subset")


def adapter(folder: Path, base: Path) -> str:
    """Load the adapter with PEFT on *base* and compare its logits with the worker's; return what was found.

    Raises:
        DemoFailed: it does not load, or the logits differ.
    """
    return _run(["-m", "deft.adapters", str(folder), "--base", str(base)], {"HF_HUB_OFFLINE": "1"}, "the adapter")


def model(folder: Path) -> None:
    """Make the small real model in *folder* if it is not there.

    Raises:
        DemoFailed: its package is not installed, or the disk is full.
    """
    if not (folder / "config.json").is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        _run(["-m", "deft.smollm2", str(folder)], {"HF_HUB_OFFLINE": "1"}, "the model")


def _run(arguments: list[str], environment: dict[str, str], what: str) -> str:
    """Run Python with *arguments*; return the last line of what it printed."""
    command = [sys.executable, *arguments]
    try:
        ended = subprocess.run(  # noqa: S603 - our own programs
            command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise DemoFailed(f"{what}: no answer within {SECONDS} s") from error
    if ended.returncode != 0:
        raise DemoFailed(f"{what}: {_last_line(ended.stderr) or _last_line(ended.stdout) or 'it failed'}")
    return _last_line(ended.stdout)


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else ""
