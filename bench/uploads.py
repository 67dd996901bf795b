"""The check of an upload against orjson alone, line by line, in turned rounds: rows a second of one JSONL file."""

from typing import Any

import numpy as np
import orjson

from bench.machine import Clock, interleaved, ratios
from bench.texts import write_pairs
from bench.workload import Workload
from deft.data.datasets import import_files
from deft.data.formats import Columns
from deft.data.importers import importer_for
from deft.data.readers import open_source

ROWS = 60_000


def measure(work: Workload) -> dict[str, Any]:
    """Time parsing alone, parsing with every check, and the whole import."""
    count = 2000 if work.is_small else ROWS
    source = work.scratch / "upload.jsonl"
    origin = write_pairs(source, count, work.scratch)

    def parse(clock: Clock) -> None:
        with clock.part("parse"), source.open("rb") as file:
            for line in file:
                orjson.loads(line)

    def check(clock: Clock) -> None:
        with clock.part("check"):
            opened = open_source(source)
            first = next(opened.records)[1]
            importer = importer_for([first], Columns(), format="auto", is_typed=True)
            for number, value in opened.records:
                importer.example(number, value)

    def whole(clock: Clock) -> None:
        out = work.scratch / "uploaded"
        with clock.part("import"):
            import_files([source], out)
        for path in out.iterdir():
            path.unlink()
        out.rmdir()

    rounds = interleaved(
        {"orjson": parse, "checks": check, "import": whole}, rounds=2 if work.is_small else 5, seconds=90
    )
    return {
        "goal": "within 2x of orjson",
        "rows": count,
        "texts": origin,
        "bytes_a_row": round(source.stat().st_size / count),
        "rows_per_second": {way: round(count / float(np.median(rounds.seconds(way)))) for way in rounds.clocks},
        "times_orjson": {way: ratios(rounds, (way,), ("orjson",)) for way in ("checks", "import")},
        "seconds": rounds.as_dict(),
    }
