"""What is refused by a model folder's settings and headers alone, and what the headers tell."""

import json
from pathlib import Path

import pytest

from deft.errors import ModelNotUsable
from deft.models.files import check_model_folder
from tests.models import tiny_llama, write_model_files, write_tensors


def test_headers_tell_the_parameters_that_torch_counts(tmp_path: Path) -> None:
    model = tiny_llama()
    model.save_pretrained(tmp_path)
    weights = check_model_folder(tmp_path)
    assert weights.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert (weights.dtype, weights.file_bytes) == ("F32", (tmp_path / "model.safetensors").stat().st_size)
    assert weights.shapes["model.layers.1.mlp.up_proj.weight"] == (64, 32)


def test_shards_are_read_by_their_index(tmp_path: Path) -> None:
    model = tiny_llama()
    model.save_pretrained(tmp_path, max_shard_size="50KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1
    assert check_model_folder(tmp_path).parameters == sum(parameter.numel() for parameter in model.parameters())
    shards[1].unlink()
    with pytest.raises(ModelNotUsable, match=f"no {shards[1].name}"):
        check_model_folder(tmp_path)
    (tmp_path / "model.safetensors.index.json").unlink()
    with pytest.raises(ModelNotUsable, match=r"no model\.safetensors and no"):
        check_model_folder(tmp_path)


@pytest.mark.parametrize("size", [0, 5, 8, 100, -1])
def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, size: int) -> None:
    file = write_model_files(tmp_path) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(ModelNotUsable, match=r"model\.safetensors"):
        check_model_folder(tmp_path)


@pytest.mark.parametrize(
    "header", [b"[]", b"{}", b'{"a": 1}', b'{"a": {"dtype": "F16"}}', b'{"a": {"dtype": "F16", "shape": "x"}}', b"\xff"]
)
def test_a_header_that_describes_no_tensors_is_refused(tmp_path: Path, header: bytes) -> None:
    file = write_model_files(tmp_path) / "model.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(ModelNotUsable):
        check_model_folder(tmp_path)


def test_a_header_longer_than_the_format_allows_is_not_read(tmp_path: Path) -> None:
    file = write_model_files(tmp_path) / "model.safetensors"
    file.write_bytes((2**60).to_bytes(8, "little") + b"{}")
    with pytest.raises(ModelNotUsable):
        check_model_folder(tmp_path)


@pytest.mark.parametrize("index", ["{}", '{"weight_map": 1}', '{"weight_map": {"a": 1}}', "nothing"])
def test_an_index_that_names_no_files_is_refused(tmp_path: Path, index: str) -> None:
    (write_model_files(tmp_path) / "model.safetensors").rename(tmp_path / "model-1.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ModelNotUsable, match="index"):
        check_model_folder(tmp_path)


def test_settings_nested_too_deeply_are_no_crash(tmp_path: Path) -> None:
    (write_model_files(tmp_path) / "config.json").write_text("[" * 100_000)
    with pytest.raises(ModelNotUsable, match="not JSON"):
        check_model_folder(tmp_path)


def test_only_headers_are_read(tmp_path: Path) -> None:
    write_tensors(write_model_files(tmp_path) / "model.safetensors", {"a": (1, 1)})
    with (tmp_path / "model.safetensors").open("r+b") as file:  # a tensor of 2**33 elements, and a hole for it
        header = json.dumps({"a": {"dtype": "F16", "shape": [2**16, 2**17], "data_offsets": [0, 2**34]}}).encode()
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + 2**34)
    assert check_model_folder(tmp_path).parameters == 2**33
