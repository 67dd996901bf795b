"""Which GPU the children of a slot may see, so that a worker with several slots uses all of its GPUs.

It asks no driver and imports no torch: the environment and the device files say enough.
"""

import re
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "CUDA_VISIBLE_DEVICES"
DEVICES = Path("/dev")


def of_slot(environment: Mapping[str, str], slot: int, slots: int, devices: Path = DEVICES) -> dict[str, str]:
    """Return what tells the children of *slot* (0 to *slots* - 1) to use one GPU; slots beyond the GPUs share them.

    Nothing where there is one slot, which may see all GPUs, or no GPU.
    """
    available = gpus(environment, devices)
    return {VARIABLE: available[slot % len(available)]} if slots > 1 and available else {}


def gpus(environment: Mapping[str, str], devices: Path = DEVICES) -> list[str]:
    """Return the names of the GPUs that this process may use: those that *environment* names, else all there are."""
    named = environment.get(VARIABLE)
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    found = [path for path in devices.glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name)]
    return [str(index) for index in range(len(found))]
