"""The counting row, on a few pairs and a tiny model: it imports, counts and tokenises in fresh processes."""

from pathlib import Path

from bench.counting import measure
from bench.workload import Workload


def test_every_part_of_the_row_runs(tmp_path: Path, tiny_model_folder: Path) -> None:
    found = measure(Workload("cpu", tiny_model_folder, "fp32", tmp_path, is_small=True))
    assert found["pairs"] == 2000
    parts = [found[name]["seconds"] for name in ("import", "count", "tokenise")]
    assert all(seconds > 0 for seconds in parts)
    assert found["counting_and_tokenising_seconds"] == round(parts[1] + parts[2], 2)
