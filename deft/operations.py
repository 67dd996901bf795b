"""The one table of operations: what runs for each kind of job, imported only when it runs.

An operation reads input folders, writes files into an empty output folder and returns its summary. This module knows
no database, no HTTP and no Celery; `python -m deft` calls it, and the worker only through that.
"""

import importlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

from deft.endpoints import Endpoint
from deft.errors import Finding, InvalidInput, OutOfMemory
from deft.failures import is_out_of_memory, out_of_memory
from deft.reports import Report
from deft.scoring.shards import AnyOperation
from deft.specs import model_references, references, spec_json

OPERATIONS: dict[str, str] = {
    "check_data": "deft.data.report:run_check_data",
    "score": "deft.scoring.run:run_score",
    "score_count": "deft.scoring.run:run_score_count",
    "score_shard": "deft.scoring.run:run_score_shard",
    "score_merge": "deft.scoring.merge:run_score_merge",
    "select": "deft.subsets:run_select",
    "measure_omega": "deft.training.omega:run_measure_omega",
    "train": "deft.training.run:run_train",
    "train_reward_model": "deft.reward_models.run:run_train_reward_model",
    "evaluate": "deft.evaluation.run:run_evaluate",
    "judge": "deft.judges.run:run_judge",
}
"""Kind to `module:function`. Names, not functions: only the kinds that need torch import it."""


class Operation(Protocol):
    """What every function of the table looks like."""

    def __call__(
        self,
        spec: AnyOperation,
        *,
        inputs: Mapping[str, Path],
        out: Path,
        checkpoints: Path | None,
        report: Report,
        **own: Any,  # noqa: ANN401 -- the cache of a training, the endpoint of a judge
    ) -> dict[str, Any]:
        """Write the output's files into *out* and return the summary, a JSON object."""


def input_names(spec: AnyOperation) -> list[str]:
    """Return the names of the folders that *spec* needs: its artifacts', its models', and `model` if it names one."""
    names = [reference.name for reference in references(spec)]
    names += [reference.name for reference in model_references(spec)]
    return names if getattr(spec, "model", None) is None else [*names, "model"]


def require_inputs(spec: AnyOperation, given: Iterable[str]) -> None:
    """Check that exactly the folders which *spec* needs are *given*.

    Raises:
        InvalidInput: a name is missing, or is not one of this kind's.
    """
    needed, present = set(input_names(spec)), set(given)
    if needed != present:
        finding = Finding(
            code="wrong_inputs",
            found=", ".join(sorted(present)) or "no inputs",
            expected=", ".join(sorted(needed)),
            fix="give --input NAME=FOLDER once for each expected name",
        )
        raise InvalidInput(f"a {spec.kind} job needs other inputs", code="wrong_inputs", findings=[finding])


MARKS = {
    "dataset": "examples.parquet",
    "evaluation_dataset": "examples.parquet",
    "data": "examples.parquet",
    "apart_from": "examples.parquet",
    "scoring": "distribution.safetensors",
    "distribution": "projection.safetensors",
    "extends": "scores.parquet",
    "counted": "distribution.safetensors",
    "part": "scores.parquet",
    "adapter": "adapter_config.json",
    "omega_from": "omega.json",
    "evaluation": "generations.jsonl",
    "labels": "examples.parquet",
    "prompt_set": "prompts.parquet",
    "model": "config.json",
    "reward_model": "config.json",
    "training_reward_model": "config.json",
    "bartscore_model": "config.json",
    "general_dataset": "examples.parquet",
}
"""A file that every folder of that input has."""


def require_kinds(spec: AnyOperation, inputs: Mapping[str, Path]) -> None:
    """Check that each folder is what its input asks for: for people's folders, since the service knows its own.

    Raises:
        InvalidInput: a folder lacks the file that its kind always has.
    """
    for name, folder in inputs.items():
        _require_kind(name, folder, _marks_of(spec))


def _marks_of(spec: AnyOperation) -> Mapping[str, str]:
    """Return the marks of the inputs as *spec* uses them."""
    if spec.kind == "select":
        return MARKS | {"scoring": "scores.parquet"}
    return MARKS | {"labels": MARKS["prompt_set"]} if spec.kind == "judge" and spec.mode == "safety" else MARKS


def _require_kind(name: str, folder: Path, marks: Mapping[str, str]) -> None:
    """Refuse a folder that is not what the input *name* (`adapter.0` is an adapter or a tuned model) asks for."""
    kind = name.partition(".")[0]
    mark = marks[kind]
    is_tuned = name != "adapter" and kind == "adapter" and (folder / MARKS["model"]).is_file()
    is_set = kind == "general_dataset" and (folder / MARKS["prompt_set"]).is_file()
    if is_tuned or is_set or (folder / mark).is_file():
        return
    finding = Finding(
        code="wrong_input",
        found=f"a folder without {mark}",
        expected=f"the folder of a {kind}, which has {mark}",
        fix=f"give the right folder as --input {name}=FOLDER",
    )
    raise InvalidInput(f"the input {name} is not the folder of a {kind}", code="wrong_input", findings=[finding])


def operation_of(kind: str) -> Operation:
    """Import and return the function of *kind*."""
    module, _, function = OPERATIONS[kind].partition(":")
    return cast(Operation, getattr(importlib.import_module(module), function))


def run(
    spec: AnyOperation,
    *,
    inputs: Mapping[str, Path],
    out: Path,
    checkpoints: Path | None,
    report: Report,
    cache: Path | None = None,
    endpoint: Endpoint | None = None,
) -> dict[str, Any]:
    """Run the operation of *spec* and return its summary; *out* exists and is empty, and is not sealed here.

    *cache* is a folder of this machine for what a job computes and another may use; it may be lost at any time.
    *endpoint* is the one that the spec names.

    Raises:
        InvalidInput: the inputs are not those of the spec; and whatever the operation raises on purpose.
        OutOfMemory: with the settings that help, in the order of their effect.
        Interrupted: it was asked to stop and has reached a safe point.
    """
    require_inputs(spec, inputs)
    own = _own(spec.kind, cache, endpoint)
    try:
        return operation_of(spec.kind)(spec, inputs=inputs, out=out, checkpoints=checkpoints, report=report, **own)
    except (RuntimeError, MemoryError, OutOfMemory) as error:
        if not is_out_of_memory(error):
            raise
        asked = getattr(spec, "score", spec)  # of a shard: what it is a part of
        raise out_of_memory(error, spec_json(asked)) from error


def _own(kind: str, cache: Path | None, endpoint: Endpoint | None) -> dict[str, Any]:
    """Return what only some kinds are given."""
    own: dict[str, Any] = {"cache": cache} if kind in ("train", "judge", "evaluate") and cache is not None else {}
    return own | ({"endpoint": endpoint} if kind in ("judge", "evaluate") and endpoint is not None else {})
