"""Whether the weights of one model folder are a copy of another's: saved again, in other shards, rounded to a type.

Torch-free: it reads headers, and of each tensor at most its first values. What tells a copy from a model that was
trained on is rounding: values of a copy differ by no more than their types round.
"""

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deft.errors import ModelNotUsable
from deft.models.files import read_weights, weight_files

COMPARED_VALUES = 65_536
"""Of each tensor: its first ones. A copy has all of them; of two trainings, the first tensor already differs."""

TYPES: dict[str, str] = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
"""NumPy's name of each of safetensors' types of floats; BF16 is read as the upper half of a float32."""

ROUNDING: dict[str, float] = {"F64": 2.0**-53, "F32": 2.0**-24, "F16": 2.0**-11, "BF16": 2.0**-8 + 2.0**-11}
"""Most that rounding to the type moves a normal number, as a share of it; to bfloat16 perhaps by way of float16."""

SUBNORMAL = 2.0**-24
"""What float16 rounds the smallest numbers to multiples of."""


class _Tensor(NamedTuple):
    path: Path
    dtype: str
    shape: tuple[int, ...]
    start: int


def is_copy(first: Path, second: Path) -> bool:
    """Return whether the folders hold the same tensors (names, shapes, values up to the rounding of their types).

    The same whichever is named first, whatever the files are called and however the tensors are shared out among them.
    A folder that cannot be read is no copy of another.
    """
    try:
        own, other = _tensors(first), _tensors(second)
    except ModelNotUsable:
        return False
    if {name: each.shape for name, each in own.items()} != {name: each.shape for name, each in other.items()}:
        return False
    by_size = sorted(own, key=lambda name: (math.prod(own[name].shape), name))  # a trained head tells at once
    return all(_are_same(own[name], other[name]) for name in by_size)


def _tensors(folder: Path) -> Mapping[str, _Tensor]:
    read_weights(folder)  # headers are well-formed and files whole, or it says so
    found = {}
    for path in weight_files(folder):
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        for name, entry in header.items():
            start = 8 + length + int(entry["data_offsets"][0])
            found[name] = _Tensor(path, entry["dtype"], tuple(map(int, entry["shape"])), start)
    return found


def _are_same(own: _Tensor, other: _Tensor) -> bool:
    if own.dtype not in TYPES or other.dtype not in TYPES:
        return own.dtype == other.dtype and _bytes(own) == _bytes(other)
    first, second = _values(own), _values(other)
    coarse = [_precision(each.dtype, values) for each, values in ((own, first), (other, second))]
    if own.dtype == other.dtype and coarse[0] == coarse[1]:
        return bool(np.array_equal(first, second))
    share = sum(ROUNDING[name] for name in coarse)
    most = share * np.maximum(np.abs(first), np.abs(second)) + SUBNORMAL
    return bool(np.all(np.abs(first - second) <= most))


def _precision(dtype: str, values: np.ndarray) -> str:
    """Return the coarsest type that holds all *values*: a rounded copy may be stored in a wide type again."""
    narrow = values.astype(np.float32)
    if np.array_equal(narrow.view(np.uint32) & 0xFFFF0000, narrow.view(np.uint32)) and np.array_equal(narrow, values):
        return "BF16"
    with np.errstate(over="ignore"):
        if np.array_equal(narrow.astype(np.float16), values):
            return "F16"
    return "F32" if dtype == "F64" and np.array_equal(narrow, values) else dtype


def _values(tensor: _Tensor) -> np.ndarray:
    """Return the first values of *tensor* as float64."""
    count = min(math.prod(tensor.shape), COMPARED_VALUES)
    read = np.fromfile(tensor.path, TYPES[tensor.dtype], count, offset=tensor.start)
    if tensor.dtype == "BF16":
        read = (read.astype(np.uint32) << 16).view(np.float32)
    return read.astype(np.float64)


def _bytes(tensor: _Tensor) -> bytes:
    with tensor.path.open("rb") as file:
        file.seek(tensor.start)
        return file.read(min(math.prod(tensor.shape), COMPARED_VALUES))
