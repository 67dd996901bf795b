"""Which artifacts a spec names, of which kinds, and which kind a job of each kind makes.

Knows nothing of where artifacts are stored.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from deft.specs.base import Spec
from deft.specs.evaluation import MeasuredWith
from deft.specs.jobs import EvaluateSpec, TrainSpec
from deft.specs.judging import JudgeSpec

ArtifactKind = Literal[
    "dataset",
    "data_report",
    "scoring",
    "part",
    "subset",
    "calibration",
    "adapter",
    "tuned_model",
    "reward_model",
    "evaluation",
    "judging",
    "prompt_set",
]
"""`part`: what a shard of a scoring hands to the merge; nobody can download it, and it goes once that has ended."""

OUTPUT_KIND: dict[str, ArtifactKind] = {
    "check_data": "data_report",
    "score": "scoring",
    "score_count": "part",
    "score_shard": "part",
    "score_merge": "scoring",
    "select": "subset",
    "measure_omega": "calibration",
    "train": "adapter",
    "train_reward_model": "reward_model",
    "evaluate": "evaluation",
    "judge": "judging",
    "pipeline": "evaluation",
}
"""Kind of job to what it makes; see `output_kind` for the one exception."""

ID_PREFIX: dict[ArtifactKind, str] = {
    "dataset": "ds",
    "prompt_set": "ds",
    "data_report": "rep",
    "scoring": "sc",
    "part": "part",
    "subset": "sub",
    "calibration": "cal",
    "adapter": "ad",
    "tuned_model": "tm",
    "reward_model": "rm",
    "evaluation": "ev",
    "judging": "jg",
}


def output_kind(kind: str, spec: Mapping[str, Any]) -> ArtifactKind:
    """Return what a job of *kind* with the *spec* (JSON, every default written in) makes."""
    is_full = kind == "train" and "lora" in spec and spec["lora"] is None
    return "tuned_model" if is_full else OUTPUT_KIND[kind]


TUNED: tuple[ArtifactKind, ...] = ("adapter", "tuned_model")
"""What a training makes."""


class Reference(NamedTuple):
    """One field of a spec that names an artifact: *name* of the input folder, JSON *pointer*, *id*, kinds accepted."""

    name: str
    pointer: str
    id: str
    kinds: tuple[ArtifactKind, ...]


class ModelReference(NamedTuple):
    """One field of a spec, beside `model`, that names a registered model: its input folder, JSON *pointer* and *id*."""

    name: str
    pointer: str
    id: str


_REFERENCE_KINDS: dict[str, tuple[ArtifactKind, ...]] = {
    "dataset": ("dataset",),
    "evaluation_dataset": ("dataset",),
    "general_dataset": ("dataset", "prompt_set"),
    "data": ("dataset", "subset"),
    "scoring": ("scoring",),
    "distribution": ("scoring",),
    "extends": ("scoring",),
    "adapter": ("adapter",),
    "counted": ("part",),
    "labels": ("dataset",),
}


def references(spec: Spec) -> Iterator[Reference]:
    """Yield every artifact that *spec* names. Models are not artifacts: see `model` and `model_references`."""
    for field, kinds in _REFERENCE_KINDS.items():
        value = getattr(spec, field, None)
        if value is not None:
            own = ("prompt_set",) if field == "labels" and _judges_safety(spec) else kinds
            yield Reference(field, f"/{field}", value, own)
    sets = () if isinstance(spec, JudgeSpec) else getattr(spec, "prompt_sets", ())  # a judge's are its evaluation's
    for index, prompt_set in enumerate(sets):
        yield Reference(f"prompt_set.{index}", f"/prompt_sets/{index}", prompt_set, ("prompt_set",))
    for index, part in enumerate(getattr(spec, "parts", ())):
        yield Reference(f"part.{index}", f"/parts/{index}", part, ("part",))
    if isinstance(spec, TrainSpec) and spec.deft is not None and spec.deft.omega_from is not None:
        yield Reference("omega_from", "/deft/omega_from", spec.deft.omega_from, ("calibration",))
    for name, pointer, reward_model in _reward_models(spec):
        if is_artifact(reward_model):
            yield Reference(name, pointer, reward_model, ("reward_model",))
    if isinstance(spec, JudgeSpec):
        yield Reference("evaluation", "/evaluation", spec.evaluation, ("evaluation",))
    if isinstance(spec, EvaluateSpec):
        if spec.apart_from is not None:
            yield Reference("apart_from", "/apart_from/dataset", spec.apart_from.dataset, ("dataset", "subset"))
        for index, system in enumerate(spec.systems):
            yield Reference(f"adapter.{index}", f"/systems/{index}/adapter", system.adapter, TUNED)


def _judges_safety(spec: Spec) -> bool:
    return isinstance(spec, JudgeSpec) and spec.mode == "safety"


def model_references(spec: Spec) -> Iterator[ModelReference]:
    """Yield every registered model that *spec* names beside `model`."""
    for reference in _reward_models(spec):
        if not is_artifact(reference.id):
            yield reference
    bart = getattr(spec, "bartscore_model", None)
    if bart is not None:
        yield ModelReference("bartscore_model", "/bartscore_model", bart)


def is_artifact(reward_model: str) -> bool:
    """Return whether this names a reward model that a job made or will make, and no registered model."""
    return reward_model.startswith(("rm_", "job_"))


def _reward_models(spec: Spec) -> Iterator[ModelReference]:
    if isinstance(spec, MeasuredWith):
        for field in ("reward_models", "training_reward_models"):
            for index, named in enumerate(getattr(spec, field)):
                yield ModelReference(f"{field.removesuffix('s')}.{index}", f"/{field}/{index}", named)


def endpoint_named(spec: Mapping[str, Any]) -> str | None:
    """Return the name of the endpoint that a job with the *spec* (JSON, every default written in) asks, or None."""
    server = (spec.get("options") or {}).get("server")
    asked: Mapping[str, Any] = spec.get("judge") or server or {}
    return asked.get("endpoint")
