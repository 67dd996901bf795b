"""What a model's folder says of itself without its weights being read: settings, and the headers of safetensors files.

Torch-free. `deft.models.loading` loads what this lets pass; registration and plans look no further than this.
"""

import hashlib
import json
import struct
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deft.errors import Finding, ModelNotUsable, shown
from deft.folders import sha256_of
from deft.models.surplus import check_layers

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
SETTINGS_FILES = (CONFIG, "tokenizer_config.json", "generation_config.json", "processor_config.json")
NO_NUMBERS = ("_name_or_path", "transformers_version", "use_cache", "dtype", "torch_dtype")
"""Fields of config.json that change no number, or (the dtype) are on record by themselves."""

MAX_HEADER_BYTES = 100_000_000
"""The format's own limit."""


@dataclass(frozen=True, slots=True)
class Weights:
    """The tensors of a model's safetensors files by their headers: shapes by name, elements by type, bytes of files."""

    shapes: dict[str, tuple[int, ...]] = field(repr=False)
    elements: dict[str, int]
    file_bytes: int

    @property
    def dtype(self) -> str:
        """The type that most elements have, by safetensors' name: BF16, F32, ..."""
        return max(self.elements, key=self.elements.__getitem__)

    @property
    def parameters(self) -> int:
        """Number of elements of all tensors."""
        return sum(self.elements.values())


def check_model_folder(folder: Path) -> Weights:
    """Check that *folder* can be a causal language model's and return its weights' headers; nothing else is read.

    Raises:
        ModelNotUsable: settings that are no JSON object, code of its own, pickled, missing or cut-off weights, layers
            that config.json leaves out.
    """
    refuse_code(folder)
    config = read_settings(folder, CONFIG)
    if not isinstance(config.get("model_type"), str):
        raise refusal(folder, "a config.json without model_type", "the config.json of a model of transformers")
    require_safetensors(folder, "model")
    weights = read_weights(folder)
    check_layers(config, weights.shapes)
    return weights


def config_hash(folder: Path) -> str:
    """Return the SHA-256 (hex) of the config.json of *folder*, less `NO_NUMBERS`: what equal weights compute by it.

    Raises:
        ModelNotUsable: it is missing, no JSON, or no object.
    """
    settings = {name: value for name, value in read_settings(folder, CONFIG).items() if name not in NO_NUMBERS}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def read_settings(folder: Path, name: str) -> dict[str, Any]:
    """Return the JSON object in the file *name* of *folder*.

    Raises:
        ModelNotUsable: it is missing, no JSON, or no object.
    """
    try:
        settings = json.loads((folder / name).read_bytes())
    except FileNotFoundError as error:
        raise refusal(folder, f"no {name}", f"a model folder with {name}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise refusal(folder, f"{name} that is not JSON", "valid JSON") from error
    if not isinstance(settings, dict):
        raise refusal(folder, f"{name} that holds a {type(settings).__name__}", "a JSON object")
    return settings


def refuse_code(folder: Path) -> None:
    """Refuse a folder without config.json, or whose settings name code of its own.

    Raises:
        ModelNotUsable: it is such a folder, or a settings file is no JSON object.
    """
    for name in SETTINGS_FILES:
        if (name == CONFIG or (folder / name).is_file()) and "auto_map" in read_settings(folder, name):
            found = f"auto_map in {name}: the model brings code of its own"
            raise refusal(folder, found, "an architecture of transformers")


def require_safetensors(folder: Path, stem: str) -> None:
    """Refuse a folder without files *stem*`*.safetensors`.

    Raises:
        ModelNotUsable: there is none.
    """
    if not any(folder.glob(f"{stem}*.safetensors")):
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt")) or any(folder.glob("*.pth"))
        found = "pickled weights, which can run code" if pickled else "no weights"
        raise refusal(folder, found, f"{stem}*.safetensors")


def read_weights(folder: Path) -> Weights:
    """Return the tensors that the safetensors files of *folder* hold, by their headers.

    Raises:
        ModelNotUsable: a file that the index names is missing, or one is damaged or cut off.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    elements: Counter[str] = Counter()
    size = 0
    for path in weight_files(folder):
        for name, dtype, shape in _tensors(folder, path):
            shapes[name] = shape
            elements[dtype] += _product(shape)
        size += path.stat().st_size
    if not shapes:
        raise refusal(folder, "safetensors files without a tensor", "the weights of a model")
    return Weights(shapes, dict(elements), size)


def weights_hash(folder: Path) -> str:
    """Return the SHA-256 (hex) over names and contents of the safetensors files of *folder*.

    Raises:
        ModelNotUsable: there is none.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise refusal(folder, "no *.safetensors", "weights as safetensors")
    listing = "".join(f"{sha256_of(path)}  {path.name}\n" for path in files)
    return hashlib.sha256(listing.encode()).hexdigest()


def weight_files(folder: Path) -> list[Path]:
    """Return the files that transformers would read: those that an index names, else the one file."""
    if (folder / INDEX).is_file() and not (folder / "model.safetensors").is_file():
        named = read_settings(folder, INDEX).get("weight_map")
        if not isinstance(named, dict) or not all(isinstance(name, str) for name in named.values()):
            raise refusal(folder, f"{INDEX} without weight_map", "an index of safetensors files")
        missing = sorted({name for name in named.values() if not (folder / Path(name).name).is_file()})
        if missing:
            found = f"no {shown(missing[0])}, one of {len(missing)} weight files missing"
            raise refusal(folder, found, f"every file that {INDEX} names")
        return sorted({folder / Path(name).name for name in named.values()})
    if not (folder / "model.safetensors").is_file():
        raise refusal(folder, f"no model.safetensors and no {INDEX}", "one of them")
    return [folder / "model.safetensors"]


def _tensors(folder: Path, path: Path) -> list[tuple[str, str, tuple[int, ...]]]:
    """Return (name, type, shape) of the tensors in the file *path*, whose size must be what its header says."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length)) if length <= MAX_HEADER_BYTES else {}
        header.pop("__metadata__", None)
        found = [(name, entry["dtype"], tuple(map(int, entry["shape"]))) for name, entry in header.items()]
        end = max(int(entry["data_offsets"][1]) for entry in header.values()) if header else 0
    except (OSError, ValueError, TypeError, KeyError, AttributeError, IndexError, struct.error) as error:
        raise refusal(folder, f"{path.name}, which is no safetensors file", "whole safetensors files") from error
    expected, real = 8 + length + end, path.stat().st_size
    if real != expected:
        raise refusal(folder, f"{path.name} of {real:,} bytes", f"{expected:,} bytes, as its header says")
    return found


def _product(shape: tuple[int, ...]) -> int:
    product = 1
    for size in shape:
        product *= size
    return product


def refusal(folder: Path, found: str, expected: str) -> ModelNotUsable:
    """Return the error that the model in *folder* has what was *found* where something else was *expected*."""
    finding = Finding(code="model_not_usable", found=found, expected=expected, fix="register a model that has it")
    return ModelNotUsable(f"the model in {folder.name} has {found}; expected {expected}", findings=[finding])
