"""Where the time of a whole DEFT run goes, operation by operation and phase by phase, and what random costs beside it.

DEFT: score everything, keep 5 %, train with the term. Random: keep 5 % at random (a selection over the same scoring,
whose cost is not random's), train without the term. Every operation is a child process, as in the service.
"""

from typing import Any

from bench.counting import tokenise_pairs
from bench.fresh import in_fresh_process
from bench.operations import dataset_of, run_operation
from bench.workload import Workload

PAIRS = {"cpu": 160, "cuda": 16_384}
OPTIMISATION = {"batch_size": 8}


def measure(work: Workload) -> dict[str, Any]:
    """Run the operations of both once."""
    count = 40 if work.is_small else PAIRS[work.device]
    dataset, scratch = dataset_of(work, count), work.scratch
    name, precision = work.folder.name, work.precision
    score = {"kind": "score", "dataset": "ds_1", "model": name, "precision": precision}
    found = {"score": run_operation(score, {"dataset": dataset, "model": work.folder}, scratch / "split-scoring")}
    found["score"]["of which tokenising"] = in_fresh_process(
        tokenise_pairs.__module__, "tokenise_pairs", dataset=dataset, model=work.folder
    )["seconds"]
    for arm, end, term in (("deft", "lowest", {"omega": 0.05}), ("random", "random", None)):
        selection = {"kind": "select", "scoring": "sc_1", "selection": {"keep": 0.05, "end": end}}
        subset = scratch / f"split-subset-{arm}"
        found[f"select {arm}"] = run_operation(selection, {"scoring": scratch / "split-scoring"}, subset)
        train = {
            "kind": "train",
            "data": "sub_1",
            "model": name,
            "deft": term,
            "optimisation": {**OPTIMISATION, "precision": precision},
        }
        out = scratch / f"split-adapter-{arm}"
        found[f"train {arm}"] = run_operation(train, {"data": subset, "model": work.folder}, out)
    deft = found["score"]["all"] + found["select deft"]["all"] + found["train deft"]["all"]
    random = found["select random"]["all"] + found["train random"]["all"]
    return {
        "pairs": count,
        "kept": round(0.05 * count),
        "phases": found,
        "deft_seconds": round(deft, 1),
        "random_seconds": round(random, 1),
        "deft_over_random": round(deft / random, 2),
    }
