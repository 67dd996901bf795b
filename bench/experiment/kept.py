"""Numbers of finished evaluations, each in a file of the results folder: from them alone the experiment goes on.

A folder belongs to one experiment: the same rows, the same model, the same design. It knows no text and no statistic.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bench.experiment import design
from bench.experiment.rows import PARTS
from deft.models.files import config_hash, weights_hash


def identity(data: Path, model: Path) -> str:
    """Return 12 hex digits that stand for the rows in *data*, the *model* and the design."""
    parts = [hashlib.sha256((data / f"{part}.jsonl").read_bytes()).hexdigest() for part in PARTS]
    settings = (design.CELLS, design.LEARNING_RATES, design.SEEDS, design.EPOCHS, design.BATCH)
    facts = [*parts, weights_hash(model), config_hash(model), repr(settings)]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:12]


class Kept:
    """What has been measured, in the folder *out*: omega, and a table of rows of each evaluation."""

    def __init__(self, out: Path) -> None:
        self.out = out
        (out / "rows").mkdir(parents=True, exist_ok=True)

    def omega(self, measure: Callable[[], float]) -> float:
        """Return omega, measured where it is not known yet."""
        path = self.out / "omega.json"
        if not path.exists():
            _write(path, lambda whole: whole.write_text(json.dumps({"omega": measure()}) + "\n", encoding="utf-8"))
        return float(json.loads(path.read_text(encoding="utf-8"))["omega"])

    def numbers(self, part: str, cell: str, measure: Callable[[], pa.Table]) -> pa.Table:
        """Return the rows of one evaluation, measured where they are not there yet."""
        path = self.out / "rows" / f"{part}-{cell}.parquet"
        if not path.exists():
            table = measure()
            _write(path, lambda whole: pq.write_table(table, whole, compression="zstd"))
        return pq.read_table(path)


def _write(path: Path, write: Callable[[Path], object]) -> None:
    """Write *path* as a whole or not at all."""
    part = path.with_name(path.name + ".part")
    write(part)
    part.replace(path)
