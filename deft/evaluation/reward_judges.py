"""Reward models in an evaluation: which they are, whether they may judge, and what they say of the answers.

A reward model whose rewards a training used is measured and marked; one that was not shown to know more than lengths is
measured and takes no part in a verdict; an evaluation reward model that shares weights or rows with a training one is
refused. Knows folders of reward models; which systems answered is told by the caller.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from deft.evaluation.intervals import Array
from deft.evaluation.metrics import BASE, Measurement, Who, measure_mean
from deft.examples import Example
from deft.folders import MANIFEST, read_manifest
from deft.models.loading import weights_hash
from deft.reward_models.accuracy import accuracy_of
from deft.reward_models.apart import Known, require_apart, require_once
from deft.reward_models.heads import require_reward_head
from deft.reward_models.model import RewardModel, record_of
from deft.reward_models.rows import Learnt, learnt_rows
from deft.specs import EvaluateSpec

VALIDATION_ROWS = 512
"""Held-out rows of the evaluation on which a reward model without a record of its own is tried."""


@dataclass(frozen=True, slots=True)
class RewardJudge:
    """A reward model that judges: *name* in metrics, *learnt* rows and *held_out* accuracy as far as on record."""

    name: str
    pointer: str
    folder: Path
    weights_hash: str
    is_trained_on: bool
    learnt: Learnt | None
    held_out: Mapping[str, Any] | None


def open_judges(spec: EvaluateSpec, inputs: Mapping[str, Path]) -> list[RewardJudge]:
    """Return the reward models of *spec*, checked without being loaded.

    Raises:
        ModelNotUsable: one has no head of one label.
        InvalidInput: one is named twice, or one that evaluates shares weights or rows with one that was trained on.
    """
    found = [_judge(*named, inputs) for named in _named(spec)]
    evaluating, trained_on = ([_known(j) for j in found if j.is_trained_on is flag] for flag in (False, True))
    require_apart(evaluating, trained_on)
    require_once([*evaluating, *trained_on])
    return found


def _named(spec: EvaluateSpec) -> Iterator[tuple[str, str, str]]:
    """Yield (id, name of the input folder, pointer) of every reward model."""
    for field in ("reward_models", "training_reward_models"):
        for index, named in enumerate(getattr(spec, field)):
            yield named, f"{field.removesuffix('s')}.{index}", f"/{field}/{index}"


def _judge(named: str, input_name: str, pointer: str, inputs: Mapping[str, Path]) -> RewardJudge:
    folder = inputs[input_name]
    require_reward_head(folder, pointer)
    return RewardJudge(
        name=str(read_manifest(folder).get("id", named)) if (folder / MANIFEST).is_file() else named,
        pointer=pointer,
        folder=folder,
        weights_hash=weights_hash(folder),
        is_trained_on=input_name.startswith("training_"),
        learnt=learnt_rows(folder),
        held_out=record_of(folder).get("held_out"),
    )


def _known(judge: RewardJudge) -> Known:
    base_hash = record_of(judge.folder).get("base_weights_hash")
    return Known(judge.name, judge.pointer, judge.weights_hash, judge.learnt, base_hash, judge.folder)


def validated(
    judge: RewardJudge,
    model: RewardModel,
    pairs: Sequence[Example],
    prompts: Sequence[float],
    seed: int,
    bootstrap: int,
) -> dict[str, Any]:
    """Return the held-out accuracy of *judge* beside the length baseline, and what it was measured on.

    That of its own held-out rows where it is on record, else over a sample of the evaluation's held-out *pairs*.
    """
    if judge.held_out is not None:
        return {**judge.held_out, "measured_on": "own_held_out_rows"}
    places = sorted(np.random.default_rng(seed).permutation(len(pairs))[:VALIDATION_ROWS].tolist())
    rewards, tokens = model.rewards([pairs[place] for place in places])
    found = accuracy_of(rewards, tokens, [prompts[place] for place in places], bootstrap=bootstrap, seed=seed)
    return {**found.as_dict(), "measured_on": "evaluation_rows"}


def rewards_of(model: RewardModel, prompts: Sequence[Example], answers: Sequence[str]) -> Array:
    """Return [n], the logit of each answer to its prompt."""
    asked = [replace(prompt, responses=(answer,)) for prompt, answer in zip(prompts, answers, strict=True)]
    rewards, _ = model.rewards(asked)
    return np.array([own[0] for own in rewards])


def measure_rewards(
    judge: RewardJudge, who: Who, logits: Array, clusters: Sequence[Any], *, is_valid: bool
) -> list[Measurement]:
    """Return `reward` (mean of the sigmoid, x100) and `reward_logit` (mean) by *judge* of one system."""
    is_trained_on = judge.is_trained_on and who.system != BASE
    reward = 100 / (1 + np.exp(-logits))
    found = [
        measure_mean(f"reward:{judge.name}", who, reward, clusters, bounds=(0.0, 100.0)),
        measure_mean(f"reward_logit:{judge.name}", who, logits, clusters),
    ]
    return [replace(measured, is_trained_on=is_trained_on, is_valid=is_valid) for measured in found]


def document_of(judge: RewardJudge, accuracy: Mapping[str, Any], prompts: Sequence[float]) -> dict[str, Any]:
    """Return what the evaluation records of *judge*; *prompts* are the clusters of the answered ones."""
    known = None if judge.learnt is None else len(set(prompts) & judge.learnt.points)
    return {
        "id": judge.name,
        "weights_hash": judge.weights_hash,
        "is_trained_on": judge.is_trained_on,
        "held_out_accuracy": dict(accuracy),
        "is_valid": bool(accuracy["is_valid"]),
        "prompts_learnt_from": known,
    }


def sentence_of(document: Mapping[str, Any]) -> str:
    """Return what the comparison says of a reward model."""
    found = document["held_out_accuracy"]
    ends = "no interval" if found["low"] is None else f"95 % interval {found['low']:.3f} to {found['high']:.3f}"
    rows = "of its own" if found["measured_on"] == "own_held_out_rows" else "of this evaluation"
    text = (
        f"Reward model `{document['id']}` is right in {found['value']:.3f} of {found['pairs']} held-out pairs {rows} "
        f"({ends}), preferring the {found['length_baseline_prefers']} response in {found['length_baseline']:.3f}"
    )
    if document["is_trained_on"]:
        return text + "; it took part in training, so its rewards take no part in a verdict."
    if not document["is_valid"]:
        return text + "; that is not above lengths alone, so its rewards take no part in a verdict."
    if document["prompts_learnt_from"]:
        return text + f"; it learnt from {document['prompts_learnt_from']} of the prompts that were answered here."
    return text + "."
