"""The operation writes one file, and its summary names no lines."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from deft.data.datasets import import_files
from deft.data.report import run_check_data
from deft.errors import ModelNotUsable
from deft.reports import Silent
from deft.specs import CheckDataSpec
from tests.models import write_model_files

ROWS = [{"prompt": f"question {n}?", "chosen": f"answer {n}", "rejected": "no"} for n in (0, 1, 2, 1)]


def dataset(folder: Path, rows: list[dict[str, Any]]) -> Path:
    folder.mkdir()
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    import_files([folder / "rows.jsonl"], folder)
    return folder


def run(spec: dict[str, Any], inputs: dict[str, Path], out: Path) -> dict[str, Any]:
    out.mkdir()
    return run_check_data(CheckDataSpec.model_validate(spec), inputs=inputs, out=out, report=Silent())


def test_the_report_is_a_file_and_its_numbers_the_summary(tmp_path: Path) -> None:
    inputs = {
        "dataset": dataset(tmp_path / "data", ROWS),
        "evaluation_dataset": dataset(tmp_path / "other", ROWS[:1]),
        "model": write_model_files(tmp_path / "model"),
    }
    spec = {"dataset": "ds_1", "evaluation_dataset": "ds_2", "model": "m"}
    summary = run(spec, inputs, tmp_path / "out")
    report = json.loads((tmp_path / "out" / "data_report.json").read_text())
    assert report["duplicates"] == {"rows": 1, "share": 0.25, "lines": [[2, 4]]}
    assert summary["duplicates"] == {"rows": 1, "share": 0.25}
    assert summary["evaluation_overlap"] == {"rows": 1, "share": 1.0, "near_duplicates": 1}
    assert summary["truncation"]["rows_sampled"] == 4
    assert summary["warnings"] == report["warnings"] != []
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["data_report.json"]


def test_without_a_model_nothing_is_said_of_cuts(tmp_path: Path) -> None:
    summary = run({"dataset": "ds_1"}, {"dataset": dataset(tmp_path / "data", ROWS)}, tmp_path / "out")
    assert summary["truncation"] is None


def test_a_model_without_a_readable_tokenizer_is_refused(tmp_path: Path) -> None:
    model = write_model_files(tmp_path / "model")
    (model / "tokenizer.json").unlink()
    inputs = {"dataset": dataset(tmp_path / "data", ROWS), "model": model}
    with pytest.raises(ModelNotUsable) as error:
        run({"dataset": "ds_1", "model": "m"}, inputs, tmp_path / "out")
    assert error.value.findings[0].pointer == "/model"


def test_it_needs_no_torch() -> None:
    """In a fresh interpreter: what the operation imports is light, so that its child starts at once."""
    import subprocess

    code = "import sys, deft.data.report; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
