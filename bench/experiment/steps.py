"""The steps of the experiment: each a `python -m deft` process with folders in and a sealed folder out.

A step whose folder is sealed is not done again, so that the command may be stopped and started at any time; a training
that was stopped goes on from its last checkpoint. It knows the design's cells and no numbers.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.experiment.design import BATCH, EPOCHS, Cell, Run
from deft.folders import MANIFEST
from deft.specs import (
    DpoMethod,
    EvaluateSpec,
    EvaluationOptions,
    MeasureOmegaSpec,
    OperationSpec,
    Optimisation,
    RewardTerm,
    Rows,
    ScoreSpec,
    Selection,
    SelectSpec,
    System,
    TrainSpec,
)

TEN = 10.0


class StepFailed(Exception):
    """A step ended without its folder; its output has been printed."""


class Steps:
    """The folders of one experiment below *work*, its dataset folders below *data*, and the *model* that it is about.

    What each step took is added to the file *seconds*.
    """

    def __init__(self, work: Path, data: Path, model: Path, *, seconds: Path) -> None:
        self.work, self.model = work, model
        self._data, self._seconds = data, seconds

    def data(self, part: str) -> Path:
        """Return the dataset folder of *part*."""
        return self._data / part

    def scoring(self) -> Path:
        """Score all training rows under the model."""
        spec = ScoreSpec(dataset="train", model="model")
        return self._run("scoring", spec, {"dataset": self.data("train"), "model": self.model})

    def subset(self, cell: Cell, seed: int) -> Path:
        """Select what *cell* trains on; the seed draws random rows and changes nothing else."""
        draw = seed if cell.end == "random" else 0
        name = f"subset-{cell.end}-{cell.keep:g}-{draw}"
        selection = Selection(keep=cell.keep, end=cell.end, seed=draw)
        return self._run(name, SelectSpec(scoring="scoring", selection=selection), {"scoring": self.scoring()})

    def omega(self, deft: Cell) -> float:
        """Measure omega once, on what *deft* trains on (M10)."""
        spec = MeasureOmegaSpec(
            data="data", model="model", method=DpoMethod(), optimisation=self._optimisation(1e-4, 0)
        )
        folder = self._run("omega", spec, {"data": self.subset(deft, 0), "model": self.model})
        return float(json.loads((folder / "omega.json").read_text(encoding="utf-8"))["omega"])

    def train(self, run: Run, omega: float) -> Path:
        """Train *run*; *omega* is the measured one."""
        cell = run.cell
        term = None if cell.omega == "none" else RewardTerm(omega=omega * (TEN if cell.omega == "ten_times" else 1.0))
        optimisation = self._optimisation(run.learning_rate, run.seed)
        spec = TrainSpec(data="data", model="model", deft=term, optimisation=optimisation, drift=None, name=run.name)
        inputs = {"data": self.subset(cell, run.seed), "model": self.model}
        return self._run(f"run-{run.name}", spec, inputs, checkpoints=True)

    def evaluate(self, name: str, part: str, runs: Sequence[Run], omega: float) -> Path:
        """Judge the pairs of *part* under the base and under *runs*."""
        systems = [
            System(name=f"run-{place}", arm=run.cell.name, adapter=f"run-{place}") for place, run in enumerate(runs)
        ]
        options = EvaluationOptions(metrics=["preference_accuracy", "margin", "chosen_logp_change"], prompts=0)
        spec = EvaluateSpec(model="model", systems=systems, dataset="dataset", rows=Rows(), options=options)
        adapters = {f"adapter.{place}": self.train(run, omega) for place, run in enumerate(runs)}
        return self._run(f"{part}-{name}", spec, {"dataset": self.data(part), "model": self.model, **adapters})

    def _optimisation(self, rate: float, seed: int) -> Optimisation:
        return Optimisation(epochs=EPOCHS, batch_size=BATCH, learning_rate=rate, seed=seed)

    def _run(self, name: str, spec: OperationSpec, inputs: Mapping[str, Path], *, checkpoints: bool = False) -> Path:
        """Return the sealed folder of the step *name*, which is run where it is not there.

        Raises:
            StepFailed: it ended without one.
        """
        out = self.work / name
        if (out / MANIFEST).exists():
            return out
        shutil.rmtree(out, ignore_errors=True)
        path = self.work / "specs" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(spec.model_dump_json(indent=1), encoding="utf-8")
        arguments = [str(path), "--out", str(out), "--cache", str(self.work / "cache")]
        arguments += [part for key, folder in inputs.items() for part in ("--input", f"{key}={folder}")]
        arguments += ["--checkpoints", str(self.work / "checkpoints" / name)] if checkpoints else []
        self._start(name, arguments)
        shutil.rmtree(self.work / "checkpoints" / name, ignore_errors=True)
        return out

    def _start(self, name: str, arguments: list[str]) -> None:
        started_at = time.monotonic()
        log = self.work / "logs" / f"{name}.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
        with log.open("ab") as file:
            ended = subprocess.run(
                [sys.executable, "-m", "deft", *arguments], stdout=file, stderr=file, env=environment, check=False
            )
        if ended.returncode != 0:
            raise StepFailed(f"{name} ended with status {ended.returncode}; see {log}")
        seconds = round(time.monotonic() - started_at, 1)
        with self._seconds.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": name, "seconds": seconds}) + "\n")
        print(f"{name}: {seconds} s", flush=True)
