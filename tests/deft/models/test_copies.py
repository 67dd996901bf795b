"""Copies of weights under other names, in other shards and types; and what was trained on is none."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from deft.models.copies import is_copy
from deft.models.files import weights_hash

Tensors = dict[str, torch.Tensor]


def _weights(seed: int = 0) -> Tensors:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"embed.weight": (300, 16), "norm.weight": (16,), "layer.weight": (16, 16), "score.weight": (1, 16)}
    drawn = {name: torch.randn(*shape, generator=generator) * 0.02 for name, shape in shapes.items()}
    return drawn | {"bias": torch.zeros(16), "tiny": drawn["norm.weight"] * 1e-6}


def _save(folder: Path, tensors: Tensors, shards: int = 1, metadata: dict[str, str] | None = None) -> Path:
    folder.mkdir()
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata)
        return folder
    names = {name: f"model-{at % shards + 1:05}-of-{shards:05}.safetensors" for at, name in enumerate(sorted(tensors))}
    for file in set(names.values()):
        save_file({name: tensors[name] for name, own in names.items() if own == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    return folder


def _to(*dtypes: torch.dtype) -> Callable[[Tensors], Tensors]:
    def convert(tensors: Tensors) -> Tensors:
        for dtype in dtypes:
            tensors = {name: tensor.to(dtype) for name, tensor in tensors.items()}
        return tensors

    return convert


COPIES: dict[str, Callable[[Tensors], Tensors]] = {
    "float16": _to(torch.float16),
    "bfloat16": _to(torch.bfloat16),
    "float64": _to(torch.float64),
    "float16 and back": _to(torch.float16, torch.float32),
    "bfloat16 by way of float16": _to(torch.float16, torch.bfloat16),
}


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("what", COPIES)
def test_a_copy_in_other_types_and_shards_is_one(what: str, shards: int, tmp_path: Path) -> None:
    first = _save(tmp_path / "first", _weights())
    second = _save(tmp_path / "second", COPIES[what](_weights()), shards)
    assert weights_hash(first) != weights_hash(second)
    assert is_copy(first, second)
    assert is_copy(second, first)


def test_other_metadata_and_two_roundings_of_one_are_copies(tmp_path: Path) -> None:
    first = _save(tmp_path / "first", _weights(), metadata={"format": "pt"})
    assert is_copy(first, _save(tmp_path / "second", _weights(), metadata={"format": "pt", "x": "y"}))
    half = _save(tmp_path / "half", COPIES["float16"](_weights()))
    assert is_copy(half, _save(tmp_path / "brain", COPIES["bfloat16"](_weights())))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_what_was_trained_on_is_no_copy(dtype: torch.dtype, tmp_path: Path) -> None:
    first = _save(tmp_path / "first", _weights())
    trained = _weights()
    trained["layer.weight"] *= 1 + 0.02 * torch.randn(16, 16, generator=torch.Generator().manual_seed(1))
    assert not is_copy(first, _save(tmp_path / "second", _to(dtype)(trained)))
    barely = _weights()
    barely["score.weight"][0, 3] *= 1 + 1e-5
    assert not is_copy(first, _save(tmp_path / "third", barely))


def test_other_tensors_or_none_are_no_copy(tmp_path: Path) -> None:
    first = _save(tmp_path / "first", _weights())
    assert not is_copy(first, _save(tmp_path / "more", _weights() | {"more": torch.zeros(2)}))
    assert not is_copy(first, _save(tmp_path / "wide", _weights() | {"norm.weight": torch.zeros(17)}))
    (tmp_path / "empty").mkdir()
    assert not is_copy(first, tmp_path / "empty")
