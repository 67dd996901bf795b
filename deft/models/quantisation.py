"""NF4: the linear modules of a frozen base in four bits each (arXiv 2305.14314), by bitsandbytes. Never a default.

Embedding, norms and head stay as they are, so that the head's identities hold. What a model computes changes, so what
was computed under NF4 says so and is not mixed with what was not. Knows no file and no job.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from deft.errors import Finding, InvalidInput
from deft.models.numbers import numbers_named

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig

    from deft.specs import Quantisation

PACKAGE, OLDEST = "bitsandbytes", (0, 50)
REPACKING = "support_avx512bf16_for_cpu"
"""The attribute of bitsandbytes' modules that says whether they repack their weight."""
DEVICES = ("cuda", "cpu")
"""What the package has NF4 for, of what models run on here."""


def installed_version() -> str | None:
    """Return the version of bitsandbytes that is installed; None: it is not."""
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return None


def require_nf4(installed: str | None, device: str) -> None:
    """Check that NF4 works with the *installed* version of bitsandbytes (None: none) on this kind of *device*.

    Raises:
        InvalidInput: it does not.
    """
    oldest = ".".join(map(str, OLDEST))
    if installed is None:
        raise _refusal("bitsandbytes is not installed", f"{PACKAGE} >= {oldest}", "install the extra `nf4`")
    if tuple(int(part) for part in installed.split(".")[:2]) < OLDEST:
        raise _refusal(f"{PACKAGE} {installed}", f"{PACKAGE} >= {oldest}", "install the extra `nf4`")
    if device not in DEVICES:
        raise _refusal(f"a device of the kind {device}", " or ".join(DEVICES), "run the job on another worker")


def nf4_config(dtype: torch.dtype) -> BitsAndBytesConfig:
    """Return transformers' settings of an NF4 base that is computed in *dtype*, its constants quantised as well."""
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )


def loading_options(quantisation: Quantisation, dtype: torch.dtype, place: torch.device) -> dict[str, Any]:
    """Return what `from_pretrained` is told besides the dtype.

    Raises:
        InvalidInput: NF4 is asked for where it does not work.
    """
    if quantisation == "none":
        return {}
    require_nf4(installed_version(), place.type)
    return {"quantization_config": nf4_config(dtype), "device_map": {"": place}}


def keep_gradients(model: nn.Module) -> None:
    """Let every module of an NF4 *model* pass gradients to its input on every kind of CPU.

    On CPUs with AVX512-BF16 bitsandbytes repacks a module's weight at its first call in evaluation mode without
    gradients, and from then on its output has none, without a word: an adapter below would not be trained.
    """
    for module in model.modules():
        if hasattr(module, REPACKING):
            setattr(module, REPACKING, False)


def quantisation_of(model: nn.Module) -> Quantisation:
    """Return how the base of *model* was loaded."""
    return "nf4" if getattr(model, "is_loaded_in_4bit", False) else "none"


def numbers_of(model: nn.Module, dtype: torch.dtype) -> str:
    """Return what a base's results depend on besides its weights: `bfloat16`, or `nf4/bfloat16`."""
    return numbers_named(str(dtype).removeprefix("torch."), quantisation_of(model))


def _refusal(found: str, expected: str, fix: str) -> InvalidInput:
    finding = Finding(
        code="nf4_not_available", found=found, expected=expected, fix=f"{fix}, or set quantisation to none"
    )
    return InvalidInput(f"an NF4 base cannot be loaded here: found {found}", code=finding.code, findings=[finding])
