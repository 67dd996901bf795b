"""Experiment trackers that training passes its metrics to: transformers' own callbacks for them.

Which one is used is the user's choice; its package and credentials are the operator's. Knows names and packages only.
"""

import importlib.util
from collections.abc import Sequence

from deft.errors import Finding, InvalidInput

PACKAGES = {
    "clearml": "clearml",
    "comet_ml": "comet_ml",
    "dvclive": "dvclive",
    "mlflow": "mlflow",
    "swanlab": "swanlab",
    "trackio": "trackio",
    "wandb": "wandb",
}
"""Names that `report_to` takes (those of transformers), and the module that each needs."""


def require_trackers(names: Sequence[str]) -> None:
    """Check that the packages of the trackers *names* are installed here.

    Raises:
        InvalidInput: one is not.
    """
    missing = [name for name in names if importlib.util.find_spec(PACKAGES[name]) is None]
    if not missing:
        return
    installed = [name for name, package in PACKAGES.items() if importlib.util.find_spec(package) is not None]
    finding = Finding(
        code="tracker_not_installed",
        pointer="/report_to",
        found=", ".join(missing),
        expected=f"one of those installed where the job runs: {', '.join(installed) or 'none is'}",
        fix=f"install {', '.join(PACKAGES[name] for name in missing)} on the workers, or leave it out: a TensorBoard "
        "file is always in the adapter",
    )
    raise InvalidInput(
        f"report_to names {', '.join(missing)}, which is not installed where the job runs",
        code="tracker_not_installed",
        findings=[finding],
    )
