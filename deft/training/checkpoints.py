"""Resume state on disk: staged, sealed, renamed once; safetensors and JSON only, no pickle read or written.

A checkpoint is a folder `step-000020` below the run's own root: groups of tensors (`adapter`, `optimizer`, ...) each in
one safetensors file, and JSON documents. This module knows files, tensors and random generators; it must not know the
trainer, the loss or the data.
"""

import json
import os
import random
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from deft.errors import ArtifactCorrupt, InvalidInput
from deft.folders import publish, seal, verify
from deft.reports import Report
from deft.sharding import like

KEPT = 2
"""How many of the newest checkpoints stay on disk: the newest, and one to fall back to."""

PREFIX = "step-"

Tensors = Mapping[str, torch.Tensor]
Json: TypeAlias = Any


def write(
    root: Path, step: int, *, run: Mapping[str, str], groups: Mapping[str, Tensors], documents: Mapping[str, Any]
) -> Path:
    """Write the checkpoint of optimiser step *step* below *root* and return its folder.

    *run* says what the state belongs to (hashes of spec, data and base); `newest` refuses it under any other. Every
    file is hashed and synced before one rename makes the folder visible; then all but the newest two are removed.
    """
    final = root / f"{PREFIX}{step:06d}"
    staged = root / f".{final.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp"
    staged.mkdir(parents=True)
    for name, tensors in groups.items():
        save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, _group(staged, name))
    for name, document in documents.items():
        (staged / f"{name}.json").write_text(json.dumps(document, allow_nan=False), encoding="utf-8")
    seal(staged, {"step": step, "run": dict(run), "torch": torch.__version__})
    if final.exists():  # of the same step, written by an attempt whose result was not used
        shutil.rmtree(final)
    publish(staged, final)
    for old in _folders(root)[:-KEPT]:
        shutil.rmtree(old)
    return final


def newest(root: Path, *, run: Mapping[str, str], report: Report) -> Path | None:
    """Return the newest checkpoint below *root* whose files are what its manifest says, or None.

    A damaged one is never trusted: it is said with a note, removed, and the one before it is tried. Half-written
    folders of killed attempts are removed.

    Raises:
        InvalidInput: the checkpoint belongs to a run with another spec, data or base model.
    """
    for litter in root.glob(f".{PREFIX}*.tmp"):
        shutil.rmtree(litter)
    for folder in reversed(_folders(root)):
        try:
            manifest = verify(folder)
        except (ArtifactCorrupt, KeyError, TypeError) as error:
            report.note(f"checkpoint {folder.name} is damaged and was left out: {error}")
            shutil.rmtree(folder)
            continue
        _refuse_another_run(folder, manifest, run)
        return folder
    return None


def step_of(folder: Path) -> int:
    """Return the step that the checkpoint at *folder* is of, by its name."""
    return int(folder.name.removeprefix(PREFIX))


def read_document(folder: Path, name: str) -> Json:
    """Return one JSON document of the checkpoint at *folder*."""
    document: Json = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return document


def read_group(folder: Path, name: str) -> dict[str, torch.Tensor]:
    """Return the tensors of one group of the checkpoint at *folder*, on the CPU."""
    tensors: dict[str, torch.Tensor] = load_file(_group(folder, name))
    return tensors


def has_group(folder: Path, name: str) -> bool:
    """Whether the checkpoint at *folder* has the group *name*."""
    return _group(folder, name).is_file()


def optimizer_parts(optimizer: torch.optim.Optimizer) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
    """Split the state of *optimizer* into tensors (key `index.name`) and its JSON parameter groups."""
    state = optimizer.state_dict()
    tensors = {
        f"{index}.{name}": torch.as_tensor(value)
        for index, entry in state["state"].items()
        for name, value in entry.items()
    }
    return tensors, state["param_groups"]


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Tensors, parameter_groups: list[dict[str, Any]]) -> None:
    """Put back what `optimizer_parts` took."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        place = parameters[int(index)]
        state.setdefault(int(index), {})[name] = like(value, place) if value.shape == place.shape else value
    optimizer.load_state_dict({"state": state, "param_groups": parameter_groups})


def random_state() -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the states of all random generators: torch (CPU and CUDA) and numpy as tensors, the rest as JSON."""
    _, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    tensors = {"torch": torch.get_rng_state(), "numpy": torch.from_numpy(np.asarray(keys, dtype=np.int64))}
    if torch.cuda.is_available():
        tensors |= {f"cuda.{index}": state for index, state in enumerate(torch.cuda.get_rng_state_all())}
    version, internal, next_gauss = random.getstate()
    numbers = {
        "python": [version, list(internal), next_gauss],
        "numpy": [int(position), int(has_gauss), float(gauss)],
    }
    return tensors, numbers


def restore_random_state(tensors: Tensors, numbers: Mapping[str, Any]) -> None:
    """Put back what `random_state` took."""
    torch.set_rng_state(tensors["torch"])
    position, has_gauss, gauss = numbers["numpy"]
    np.random.set_state(("MT19937", tensors["numpy"].numpy().astype(np.uint32), position, has_gauss, gauss))
    version, internal, next_gauss = numbers["python"]
    random.setstate((version, tuple(internal), next_gauss))
    cuda = [tensors[f"cuda.{index}"] for index in range(sum(key.startswith("cuda.") for key in tensors))]
    if cuda and torch.cuda.device_count() == len(cuda):
        torch.cuda.set_rng_state_all(cuda)


def _group(folder: Path, name: str) -> Path:
    return folder / f"{name}.safetensors"


def _folders(root: Path) -> list[Path]:
    """Return the checkpoint folders below *root*, oldest first."""
    names = (path for path in root.glob(f"{PREFIX}*") if path.name[len(PREFIX) :].isdigit())
    return sorted(names, key=step_of)


def _refuse_another_run(folder: Path, manifest: Mapping[str, Any], run: Mapping[str, str]) -> None:
    recorded = manifest.get("run", {})
    different = sorted(key for key in run.keys() | recorded.keys() if run.get(key) != recorded.get(key))
    if different:
        raise InvalidInput(
            f"checkpoint {folder.name} belongs to another run: its {' and '.join(different)} differ; "
            "use an empty checkpoint folder, or the spec and inputs that it was made with",
            code="checkpoint_of_another_run",
        )
