"""The page of results is made of the JSON files alone, by a small run of real rows."""

import json
from pathlib import Path

from bench.summary import write_summary
from bench.uploads import measure
from bench.workload import Workload


def test_a_row_becomes_a_page(tmp_path: Path) -> None:
    work = Workload("cpu", tmp_path, "fp32", tmp_path, is_small=True)
    machine = {
        "measured_at": "2026-01-01T00:00:00Z",
        "commit": "abc1234",
        "processor": "2-core CPU",
        "device": "cpu",
        "gflops_float32": 100.0,
        "torch_threads": 2,
        "settings": {"OMP_NUM_THREADS": "2"},
        "load_average_at_start": 0.1,
    }
    row = {"row": "uploads", "machine": machine, "took_seconds": 3.0, **measure(work)}
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "uploads.json").write_text(json.dumps(row), encoding="utf-8")
    write_summary(tmp_path)
    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "commit abc1234, 2-core CPU" in page
    assert f"| orjson | {row['rows_per_second']['orjson']:,} | - |" in page
    assert "No GPU has run this" in page
