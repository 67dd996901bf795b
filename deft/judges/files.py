"""What the files of every judging share: settings and their hash, arms, JSON. Knows no question and no statistics."""

import hashlib
import json
from pathlib import Path
from typing import Any

from deft.errors import Finding, InvalidInput
from deft.judges import templates
from deft.judges.answers import Answers
from deft.specs import JudgeSpec


def settings_of(spec: JudgeSpec, evaluation: Path, answers: Answers) -> dict[str, Any]:
    """Return everything that the numbers depend on but the systems themselves."""
    prompts = [[a.set, a.row, a.text, a.further] for a in answers.prompts.values()]
    return common_settings(spec) | {
        "against": spec.against,
        "against_answers": hash_of([[*place, own.get(spec.against)] for place, own in answers.texts.items()]),
        "prompts": hash_of(prompts),
        "answers": read_json(evaluation / "evaluation.json", {}).get("settings", {}).get("length"),
    }


def common_settings(spec: JudgeSpec) -> dict[str, Any]:
    """Return who was asked, how and in which words, and how intervals were made."""
    return {
        "judge": spec.judge.model_dump(mode="json", include={"endpoint", "model", "temperature", "max_tokens"}),
        "mode": spec.mode,
        "templates": {"version": templates.VERSION, "sha256": templates.fingerprint()},
        "bootstrap": spec.bootstrap,
        "seed": spec.seed,
    }


def hash_of(value: Any) -> str:  # noqa: ANN401 -- any JSON
    """Return the SHA-256, in hex, of the sorted JSON of *value*."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def arms_of(evaluation: Path) -> dict[str, str]:
    """Return the arm of each system that the evaluation in this folder measured."""
    return {row["system"]: row["arm"] for row in read_json(evaluation / "metrics.json", [])}


def read_json(path: Path, default: Any) -> Any:  # noqa: ANN401 -- any JSON
    """Return the JSON at *path*, *default* where there is no such file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else default


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401 -- any JSON
    """Write *value* as JSON; NaN and infinity are refused."""
    path.write_text(json.dumps(value, indent=1, allow_nan=False), encoding="utf-8")


def nothing_to_judge(expected: str) -> InvalidInput:
    """Return the refusal of an evaluation without what is *expected*."""
    finding = Finding("nothing_to_judge", "none", expected, "judge other systems or sets", pointer="/systems")
    return InvalidInput("there is nothing to judge", code="nothing_to_judge", findings=[finding])
