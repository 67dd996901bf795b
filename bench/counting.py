"""Counting Q_diff with its discrepancy report, and tokenising everything, for 160,000 pairs in a fresh process."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.fresh import forget_peak, in_fresh_process, megabytes
from bench.texts import write_pairs
from bench.workload import Workload
from deft.data.datasets import import_files, iterate_examples
from deft.models.loading import load_tokenizer
from deft.reports import Silent
from deft.scoring.counting import count_rows, report_on
from deft.specs import Rows, TokenOptions
from deft.tokens import iter_encoded

PAIRS = 160_000


def measure(work: Workload) -> dict[str, Any]:
    """Write the pairs, then import, count and tokenise them, each in a fresh process."""
    count = 2000 if work.is_small else PAIRS
    source, dataset = work.scratch / "many.jsonl", work.scratch / "many"
    origin = write_pairs(source, count, work.scratch)
    imported = in_fresh_process("bench.counting", "import_pairs", source=source, dataset=dataset)
    counted = in_fresh_process("bench.counting", "count_pairs", dataset=dataset, model=work.folder)
    tokenised = in_fresh_process("bench.counting", "tokenise_pairs", dataset=dataset, model=work.folder)
    return {
        "goal": "counting and tokenising 160,000 pairs in less than 60 s on 2 cores, memory bounded",
        "pairs": count,
        "texts": origin,
        "counting_and_tokenising_seconds": round(counted["seconds"] + tokenised["seconds"], 2),
        "import": imported,
        "count": counted,
        "tokenise": tokenised,
    }


def import_pairs(source: str, dataset: str) -> dict[str, float]:
    """Import the file *source* as the folder *dataset*."""
    return _timed(lambda: import_files([Path(source)], Path(dataset)))


def count_pairs(dataset: str, model: str) -> dict[str, float]:
    """Count Q_diff of *dataset* and report on it, as a scoring does."""
    tokenizer = load_tokenizer(Path(model))

    def count() -> None:
        counted = count_rows(Path(dataset), Rows(), tokenizer, TokenOptions(), len(tokenizer), report=Silent())
        counted.distribution(len(tokenizer), None)
        report_on(counted.parts(None), tokenizer, "warn")

    return _timed(count)


def tokenise_pairs(dataset: str, model: str) -> dict[str, float]:
    """Tokenise prompts and responses of *dataset*, keeping nothing."""
    tokenizer = load_tokenizer(Path(model))

    def tokenise() -> None:
        for _ in iter_encoded((example for _, example in iterate_examples(Path(dataset))), tokenizer, TokenOptions()):
            pass

    return _timed(tokenise)


def _timed(run: Callable[[], object]) -> dict[str, float]:
    forget_peak()
    before, wall, processor = megabytes("VmRSS"), time.perf_counter(), time.process_time()
    run()
    seconds, busy = time.perf_counter() - wall, time.process_time() - processor
    return {
        "seconds": round(seconds, 2),
        "processor_seconds": round(busy, 2),
        "megabytes_added_at_the_peak": round(megabytes("VmHWM") - before, 1),
    }
