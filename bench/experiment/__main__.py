"""`python -m bench.experiment --data FOLDER`: all runs of docs/experiments/PLAN.md, or what is left of them.

Every step ends in a sealed folder below --work and is not done again: stop it with Ctrl-C and the same command goes on,
a training from its last checkpoint. Results go to a folder below docs/experiments/results that is named after the rows,
the model and the design: numbers of each held-out row, no text. Where only that folder is left, what it has stands.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa

from bench.experiment import design, results, rows
from bench.experiment.kept import Kept, identity
from bench.experiment.steps import StepFailed, Steps
from deft import smollm2

ROOT = Path(__file__).resolve().parents[2]


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.experiment", description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "preferences", metavar="FOLDER")
    parser.add_argument("--work", type=Path, default=ROOT / "experiment-work", metavar="FOLDER", help="steps go here")
    parser.add_argument("--model", type=Path, metavar="FOLDER", help="default: SmolLM2-135M of its package")
    parser.add_argument("--results", type=Path, default=ROOT / "docs" / "experiments" / "results", metavar="FOLDER")
    parser.add_argument("--rows", type=int, nargs=3, metavar=("TRAIN", "DEV", "TEST"), help="of each source: a trial")
    parser.add_argument("--list", action="store_true", help="list the runs and start nothing")
    return parser.parse_args()


def main() -> int:
    """Run the experiment; return the exit status."""
    options = arguments()
    if options.list:
        for run in design.all_runs(dict.fromkeys((cell.name for cell in design.TUNED), design.LEARNING_RATES[0])):
            print(run.name)
        return 0
    sizes = options.rows or (design.TRAIN_ROWS, design.DEVELOPMENT_ROWS, design.TEST_ROWS)
    model = options.model or smollm2.prepare(options.work / "model")
    data = rows.prepare(options.data, options.work / "data", dict(zip(rows.PARTS, sizes, strict=True)))
    name = identity(data, model)
    kept = Kept(options.results / name)
    print(f"results: {kept.out}", flush=True)
    try:
        found = experiment(Steps(options.work / name, data, model, seconds=kept.out / "seconds.jsonl"), kept)
    except StepFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return 130
    print(json.dumps(found["comparisons"], indent=1))
    return 0


def experiment(steps: Steps, kept: Kept) -> dict[str, Any]:
    """Choose learning rates on the development rows, test every cell on the test rows, write what was found."""
    omega = kept.omega(lambda: steps.omega(design.TWO_BY_TWO[0]))

    def numbers(cell: design.Cell, part: str, own: list[design.Run]) -> pa.Table:
        return kept.numbers(
            part,
            cell.name,
            lambda: results.numbers_of(steps.evaluate(cell.name, part, own, omega), own, steps.data(part)),
        )

    scores: dict[design.Run, tuple[float, float]] = {}
    for cell in design.TUNED:
        own = [run for run in design.tuning() if run.cell == cell]
        scores |= results.development_scores(numbers(cell, "development", own), own)
    rates = design.chosen(scores)
    tested = [numbers(cell, "test", design.runs_of(cell, rates)) for cell in design.CELLS]
    said = [{"run": run.name, "accuracy": a, "change_per_token": c} for run, (a, c) in scores.items()]
    facts = {"omega": omega, "learning_rates": rates, "development": said}
    return results.write(pa.concat_tables(tested), kept.out, facts)


if __name__ == "__main__":
    sys.exit(main())
