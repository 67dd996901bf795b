"""What was measured is not measured again, and belongs to the rows, the model and the design that it was of."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from bench.experiment import design
from bench.experiment.kept import Kept, identity
from bench.experiment.rows import PARTS


def _never() -> Any:
    raise AssertionError("it was measured again")


def test_numbers_and_omega_are_measured_once(tmp_path: Path) -> None:
    table = pa.table({"row": [1, 2]})
    assert Kept(tmp_path).numbers("test", "deft", lambda: table) == table
    assert Kept(tmp_path).omega(lambda: 2.5) == 2.5
    assert Kept(tmp_path).numbers("test", "deft", _never) == table
    assert Kept(tmp_path).omega(_never) == 2.5
    with pytest.raises(AssertionError, match="measured again"):
        Kept(tmp_path).numbers("development", "deft", _never)


def test_a_measurement_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        Kept(tmp_path).numbers("test", "deft", _never)
    assert not list((tmp_path / "rows").iterdir())


def test_the_identity_is_of_rows_model_and_design(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in PARTS:
        (tmp_path / f"{part}.jsonl").write_text(part)
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "config.json").write_text("{}")
    seen = {identity(tmp_path, tmp_path)}
    (tmp_path / "test.jsonl").write_text("others")
    seen.add(identity(tmp_path, tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"other weights")
    seen.add(identity(tmp_path, tmp_path))
    (tmp_path / "config.json").write_text('{"rope_theta": 1}')
    seen.add(identity(tmp_path, tmp_path))
    monkeypatch.setattr(design, "EPOCHS", 4)
    seen.add(identity(tmp_path, tmp_path))
    assert len(seen) == 5
    assert identity(tmp_path, tmp_path) in seen
