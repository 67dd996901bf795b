"""A model whose weights, gradients and optimiser states are divided among processes: FSDP2, a layer at a time.

Every layer is gathered for its forward and its backward pass and let go again; embedding, final norm and head are
gathered together at the start of a forward pass and stay until the end of its backward pass, since log-probabilities
read the head outside the modules. Gradients are added, not averaged (decision 6). All processes must therefore make
each pass together. This module knows torch.distributed and modules; it must not know losses or files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
import torch.distributed as distributed
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from deft.errors import Interrupted
from deft.failures import is_out_of_memory
from deft.models.loading import decoder
from deft.packing import Pack

STATES = "deft_states"
"""The method of a sharded model that gives hidden states, with the hooks of a forward pass."""


def shard(model: nn.Module, processes: int, device: torch.device, dtype: torch.dtype) -> None:
    """Divide *model* (in place, whole and alike in all) among *processes*, on *device*; passes compute in *dtype*.

    Gathered weights and the gradients of one pass are in *dtype*, the sharded ones in float32.
    """
    how: dict[str, Any] = {
        "mesh": init_device_mesh(device.type, (processes,)),
        "mp_policy": MixedPrecisionPolicy(
            param_dtype=None if dtype == torch.float32 else dtype, reduce_dtype=torch.float32
        ),
    }
    for layer in layers_of(model):
        fully_shard(layer, **how)
    fully_shard(model, **how, reshard_after_forward=False)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo cannot scale while it adds
    setattr(model, STATES, MethodType(lambda self, pack: pack.hidden(self), model))
    register_fsdp_forward_method(model, STATES)


def layers_of(model: nn.Module) -> list[nn.Module]:
    """Return the decoder layers of *model*: the longest list of modules in its backbone."""
    lists = [list(module) for module in decoder(model).modules() if isinstance(module, nn.ModuleList)]
    return max(lists, key=len, default=[])


def is_sharded(model: nn.Module) -> bool:
    """Whether *model* is divided among processes."""
    return isinstance(model, FSDPModule)


def states_of_all(model: nn.Module, pack: Pack) -> Tensor:
    """Return `Pack.hidden` of a sharded *model*; every process must call it at the same time, each with its pack."""
    states: Tensor = getattr(model, STATES)(pack)
    return states


def release(model: nn.Module) -> None:
    """Let go of what a forward pass without a backward pass has gathered; a model that is not sharded stays."""
    if isinstance(model, FSDPModule):
        model.reshard()


@contextmanager
def all_there() -> Iterator[None]:
    """Within passes over a sharded model, take a broken connection for the death of another process.

    Raises:
        Interrupted: another process is gone: nothing is wrong with the job, it can be tried again.
    """
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error) or not _is_lost_connection(error):
            raise
        raise Interrupted from error


def _is_lost_connection(error: RuntimeError) -> bool:
    """Whether another process is gone; gloo has no type of its own."""
    return isinstance(error, distributed.DistError) or "gloo" in str(error) or "onnection" in str(error)


def whole(tensor: Tensor) -> Tensor:
    """Return *tensor* with the parts of all processes; all must call it together, in the same order."""
    found: Tensor = tensor.detach()
    return found.full_tensor() if isinstance(found, DTensor) else found


def gathered(tensors: Mapping[str, Tensor], *, keeps: bool, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """Return *tensors* whole, on the host; where this process *keeps* none of them, it only helps the others.

    *dtype* is what floating-point tensors are rounded to; None: as they are.
    """
    found = {}
    for name, tensor in tensors.items():
        all_of_it = whole(tensor)
        if keeps:
            rounded = dtype if all_of_it.is_floating_point() else None
            found[name] = all_of_it.to("cpu", rounded or all_of_it.dtype)
    return found


def like(tensor: Tensor, place: Tensor) -> Tensor:
    """Return the whole *tensor* divided as *place* is: this process's part, without asking the others."""
    if not isinstance(place, DTensor):
        return tensor
    on_device = tensor.to(place.device)
    return distribute_tensor(on_device, place.device_mesh, place.placements, src_data_rank=None)
