"""Re-selection against scoring again, both as the operation in a fresh process, start-up included."""

from typing import Any

from bench.operations import dataset_of, run_operation
from bench.workload import Workload

PAIRS = {"cpu": 96, "cuda": 4096}
ROUNDS = 2


def measure(work: Workload) -> dict[str, Any]:
    """Score a data set, then select from it by other fractions and ends; each *ROUNDS* times."""
    count = 16 if work.is_small else PAIRS[work.device]
    dataset = dataset_of(work, count)
    model = {"dataset": dataset, "model": work.folder}
    spec = {"kind": "score", "dataset": "ds_1", "model": work.folder.name, "precision": work.precision}
    scorings, selections = [], []
    for number in range(ROUNDS):
        scoring = work.scratch / f"scoring-{number}"
        scorings.append(run_operation(spec, model, scoring))
        for name, selection in (("a", {"keep": 0.1}), ("b", {"keep": 0.05, "end": "highest"})):
            asked = {"kind": "select", "scoring": "sc_1", "selection": selection}
            out = work.scratch / f"subset-{number}-{name}"
            selections.append(run_operation(asked, {"scoring": scoring}, out))
    slow = sorted(run["all"] for run in scorings)[len(scorings) // 2]
    fast = sorted(run["all"] for run in selections)[len(selections) // 2]
    return {
        "goal": "seconds, no model loaded",
        "pairs": count,
        "score_again_seconds": slow,
        "select_again_seconds": fast,
        "speedup": round(slow / fast, 1),
        "phases": {"score": scorings, "select": selections},
    }
