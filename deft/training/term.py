"""Whether a training has the reward term (M9), and where its Q_diff comes from. Torch-free; it reads no distribution.

The same is asked when a job is posted and when it runs.
"""

from collections.abc import Mapping
from pathlib import Path

from deft.errors import Finding, InvalidInput
from deft.specs import MeasureOmegaSpec, TrainSpec

DISTRIBUTION = "distribution.safetensors"


def has_term(spec: TrainSpec | MeasureOmegaSpec) -> bool:
    """Return whether *spec* needs a Q_diff: the calibration of omega always does."""
    return isinstance(spec, MeasureOmegaSpec) or (spec.deft is not None and spec.deft.omega != 0)


def distribution_in(inputs: Mapping[str, Path]) -> Path | None:
    """Return the file that holds Q_diff: that of the subset in `data`, else that of `scoring`; None: there is none."""
    folders = [inputs[name] for name in ("data", "scoring") if name in inputs]
    return next((folder / DISTRIBUTION for folder in folders if (folder / DISTRIBUTION).is_file()), None)


def no_distribution() -> InvalidInput:
    """Return the error that the term has no Q_diff to come from."""
    found, expected = "no distribution", "a scoring of this data, whose Q_diff the DEFT term uses"
    fix = "name a scoring in `scoring`, train on a subset, or set `deft` to null"
    finding = Finding(code="no_distribution", pointer="/scoring", found=found, expected=expected, fix=fix)
    return InvalidInput(f"expected {expected}, found {found}: {fix}", code=finding.code, findings=[finding])
