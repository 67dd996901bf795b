"""The operation `check_data`: a report on a dataset before a model sees it, as one JSON file. Torch-free."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deft.data.check import check_dataset
from deft.errors import Finding, ModelNotUsable
from deft.planning.tokenizer import FILE, PlanningTokenizer, load_planning_tokenizer
from deft.reports import Report
from deft.specs import CheckDataSpec

DATA_REPORT = "data_report.json"


def run_check_data(
    spec: CheckDataSpec,
    *,
    inputs: Mapping[str, Path],
    out: Path,
    checkpoints: Path | None = None,  # noqa: ARG001 - seconds of work: nothing to resume
    report: Report,
) -> dict[str, Any]:
    """Check the dataset `inputs["dataset"]`, write data_report.json to *out*, return its numbers without its lines.

    Raises:
        InvalidInput: a row does not become tokens as the spec asks.
        ModelNotUsable: the model has no tokenizer that can be read without transformers.
    """
    report.phase("check_data")
    tokenizer = _tokenizer(inputs["model"]) if "model" in inputs else None
    found = check_dataset(
        inputs["dataset"],
        inputs.get("evaluation_dataset"),
        tokenizer=tokenizer,
        tokens=spec.tokens,
        fractions=spec.split,
    )
    (out / DATA_REPORT).write_text(json.dumps(found, indent=1, allow_nan=False), encoding="utf-8")
    return {name: _without_lines(value) for name, value in found.items()}


def _tokenizer(folder: Path) -> PlanningTokenizer:
    found = load_planning_tokenizer(folder)
    if found is not None:
        return found
    finding = Finding(
        code="no_tokenizer_file",
        pointer="/model",
        found=f"a model without {FILE}",
        expected=f"a model with {FILE}",
        fix="leave the model out (cuts are then not counted), or name another",
    )
    raise ModelNotUsable(f"the model has no {FILE}", findings=[finding])


def _without_lines(value: Any) -> Any:  # noqa: ANN401 -- any JSON
    if not isinstance(value, dict):
        return value
    return {name: each for name, each in value.items() if not name.endswith("lines")}
