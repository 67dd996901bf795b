"""`python -m bench [--device cuda] [NAME ...]`: run the measurements named, or all; results go to bench/results/."""

import argparse
import importlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a bench that downloads measures the network
os.environ.setdefault("TQDM_DISABLE", "1")

import torch

from bench.machine import machine
from bench.summary import write_summary
from bench.workload import SHAPES, Workload, random_model, small_model

ROWS = ["scoring", "training", "memory", "selection", "counting", "uploads", "split"]
RESULTS = Path(__file__).parent / "results"


def workload(options: argparse.Namespace, scratch: Path) -> Workload:
    """Return the model and the sizes that the options ask for."""
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("bench --device cuda: torch sees no NVIDIA GPU here; run `make bench` for the CPU")
    precision = options.precision or ("bf16" if options.device == "cuda" else "fp32")
    if options.model is not None:
        folder = options.model
    elif options.shape is None and options.device == "cpu":
        folder = small_model()
    else:
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        shape = options.shape or "llama-3-8b"
        folder = random_model(shape, scratch / shape, dtype, options.device)
    return Workload(options.device, folder, precision, scratch, is_small=options.small)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="NAME", help=f"any of {', '.join(ROWS)}; default: all")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--model", type=Path, help="a model folder; default: SmolLM2-135M, on a GPU Llama-3-8B's shape")
    parser.add_argument("--shape", choices=sorted(SHAPES), help="random weights in this shape instead of a model")
    parser.add_argument("--precision", choices=("fp32", "bf16"), help="default: fp32 on a CPU, bf16 on a GPU")
    parser.add_argument("--small", action="store_true", help="a few pairs only: tries the code, measures nothing")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the results go")
    options = parser.parse_args()
    unknown = sorted(set(options.rows) - set(ROWS))
    if unknown:
        parser.error(f"no measurement is called {', '.join(unknown)}; there are {', '.join(ROWS)}")
    return options


def main() -> None:
    """Run the rows one after another, each into its own file."""
    options = arguments()
    out = options.out / options.device
    with tempfile.TemporaryDirectory(prefix="deft-bench-") as scratch:
        work = workload(options, Path(scratch))
        out.mkdir(parents=True, exist_ok=True)
        for name in options.rows or ROWS:
            started_at = time.perf_counter()
            facts = machine(options.device)
            found = importlib.import_module(f"bench.{name}").measure(work)
            took = round(time.perf_counter() - started_at, 1)
            result = {"row": name, "machine": facts, "took_seconds": took, **found}
            (out / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
            print(f"{name}: {took} s -> {out / name}.json", flush=True)
    write_summary(options.out)


if __name__ == "__main__":
    main()
