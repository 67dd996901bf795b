"""How long work takes on a device: from a throughput that is given, measured on this service, or assumed.

The assumed figures are peaks of data sheets (dense, bfloat16) times a share that is typical of such work; they say
minutes or hours, no more. A caller who knows better gives FLOP/s.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from deft.planning.documents import Basis, Speed
from deft.planning.work import Cost

FORWARD_SHARE = 0.40
TRAINING_SHARE = 0.30
"""Assumed: of a GPU's peak FLOP/s, what forward passes and training reach."""

STARTUP_SECONDS = 8.0
"""Assumed: a child process importing its libraries."""

READING_BYTES_PER_SECOND = 1e9
"""Assumed: weights from disk to device."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device by the FLOP/s that forward passes and training reach, and its memory's bytes/s (None: not known)."""

    name: str
    basis: Basis
    forward_flops_per_second: float
    training_flops_per_second: float
    bytes_per_second: float | None = None
    element_bytes: int = 2
    """Of one weight there."""


def _gpu(name: str, peak: float, bytes_per_second: float) -> Device:
    return Device(name, "assumed", FORWARD_SHARE * peak, TRAINING_SHARE * peak, bytes_per_second)


DEVICES = (
    _gpu("nvidia-h100-sxm", 989e12, 3.35e12),
    _gpu("nvidia-a100-80gb", 312e12, 2.04e12),
    _gpu("nvidia-l40s", 362e12, 0.864e12),
    _gpu("nvidia-rtx-4090", 165e12, 1.008e12),
    Device("cpu-2-cores", "assumed", 1.0e11, 6.0e10, 2e10, element_bytes=4),
)
"""The figures assumed where nothing better is known: NVIDIA's data sheets, and what the demo reached on two cores."""


def given(flops_per_second: float) -> Device:
    """Return the device whose throughput the caller knows."""
    return Device("given", "given", flops_per_second, flops_per_second)


def measured(flops_per_second: float, of: str) -> Device:
    """Return the device that ran the forward passes of the job *of*; training is assumed to be slower as ever."""
    return Device(f"as {of}", "measured", flops_per_second, flops_per_second * TRAINING_SHARE / FORWARD_SHARE)


def speed(device: Device, costs: Sequence[Cost], parameters: int) -> Speed:
    """Return how long *costs* take on *device*, one after the other, under a model of so many *parameters*."""
    weights_bytes = parameters * device.element_bytes
    seconds = {cost.work.name: _seconds(device, cost, weights_bytes) for cost in costs}
    return Speed(
        device=device.name,
        basis=device.basis,
        forward_flops_per_second=device.forward_flops_per_second,
        training_flops_per_second=device.training_flops_per_second,
        bytes_per_second=device.bytes_per_second,
        work_seconds={name: round(value, 1) for name, value in seconds.items()},
        total_seconds=round(sum(seconds.values()), 1),
    )


def _seconds(device: Device, cost: Cost, weights_bytes: int) -> float:
    if cost.work.operation in ("check_data", "select"):
        return STARTUP_SECONDS / 4  # no torch to import
    computing = cost.forward_flops / device.forward_flops_per_second
    if device.bytes_per_second is not None:
        computing = max(computing, cost.decode_steps * weights_bytes / device.bytes_per_second)
    training = cost.training_flops / device.training_flops_per_second
    return STARTUP_SECONDS + weights_bytes / READING_BYTES_PER_SECOND + computing + training
