"""How an exception becomes the failure that a job carries: category, code, message, findings. Torch-free.

Our own errors say what they are. Everything else is `system/internal` with its type and a short text: a stranger's
message may repeat a row, so it is cut, and the traceback goes to standard error only.
"""

import errno
import sys
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from deft.errors import DeftError, Finding, InvalidInput, OutOfMemory, StorageFull, shown
from deft.spec_errors import findings_of

MESSAGE_CHARACTERS = 300
FINDINGS = 20


def failure_of(error: BaseException) -> dict[str, Any]:
    """Return *error* as `{category, code, message, findings, retryable}`."""
    known = known_error(error)
    if known is None:
        message = f"{type(error).__name__}: {error}"[:MESSAGE_CHARACTERS]
        return {"category": "system", "code": "internal", "message": message, "findings": [], "retryable": False}
    return {
        "category": known.category,
        "code": known.error_code,
        "message": known.message,
        "findings": [finding.as_dict() for finding in known.findings[:FINDINGS]],
        "retryable": known.retryable,
    }


def known_error(error: BaseException) -> DeftError | None:
    """Return *error* as one of ours, or None when it is a stranger's."""
    if isinstance(error, DeftError):
        return error
    if is_out_of_memory(error):
        return out_of_memory(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(f"no space is left to write {shown(error.filename or 'a file')}")
    return None


MEMORY_SETTINGS: dict[str, str] = {
    "/optimisation/micro_batch_size": "lower it: activations take memory in proportion; 1 is the least",
    "/optimisation/gradient_checkpointing": "on keeps one layer at a time: a tenth of the memory, a third more time",
    "/tokens/max_total_tokens": "lower it: activations grow with the longest row, attention with its square",
    "/options/max_new_tokens": "lower it: the cache of keys and values grows with it",
    "/optimisation/precision": "bf16 takes half the memory of fp32",
    "/precision": "bf16 takes half the memory of fp32",
    "/optimisation/quantisation": "nf4 holds the base in a third of bf16's memory; it needs bitsandbytes",
    "/quantisation": "nf4 holds the base in a third of bf16's memory; it needs bitsandbytes",
    "/lora/r": "lower it: gradients and AdamW's states are in proportion",
}
"""The settings that take less memory, those of the most effect first, and how."""


def out_of_memory(error: BaseException, spec: Mapping[str, Any] | None = None) -> OutOfMemory:
    """Return *error* as ours, with what can be changed of *spec* (JSON) in the order of its effect."""
    findings = [
        Finding("out_of_memory", found, "a setting that takes less memory", MEMORY_SETTINGS[pointer], pointer)
        for pointer, found in _memory_settings_of(spec or {})
    ]
    names = ", then ".join((finding.pointer or "")[1:].replace("/", ".") for finding in findings)
    message = f"memory ran out: {error}"[:MESSAGE_CHARACTERS]
    return OutOfMemory(f"{message}; change {names}" if names else message, findings=findings)


def _memory_settings_of(spec: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return pointer and value of the settings of *spec* that can still be changed."""
    found = []
    for pointer in MEMORY_SETTINGS:
        value: Any = spec
        for part in pointer[1:].split("/"):
            value = value.get(part, _ABSENT) if isinstance(value, Mapping) else _ABSENT
        if value is not _ABSENT and not _is_least(pointer, value, spec):
            found.append((pointer, "decided by memory" if value is None else shown(value)))
    return found


def _is_least(pointer: str, value: object, spec: Mapping[str, Any]) -> bool:
    """Return whether the *value* at *pointer* of *spec* leaves nothing to be saved, or may not be another."""
    if pointer.endswith(("size", "/r")):
        return value == 1
    if pointer.endswith("precision") and value == "auto":
        return _is_on_gpu()
    are_all_tuned = spec.get("lora", _ABSENT) is None
    return value in ("bf16", "fp16", "on", "nf4") or (pointer == "/optimisation/quantisation" and are_all_tuned)


_ABSENT = object()


def _is_on_gpu() -> bool:
    """Whether `auto` means half precision already."""
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_available())


def is_out_of_memory(error: BaseException) -> bool:
    """Whether *error* means that a device or the host has no memory left. Imports torch in no case."""
    if isinstance(error, MemoryError | OutOfMemory):
        return True
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't allocate memory" in str(error)


def invalid_spec(error: ValidationError, document: object, schema: Mapping[str, Any]) -> InvalidInput:
    """Return the validation error of the spec in *document* (parsed JSON) by *schema*, with one finding a place."""
    details = error.errors(include_url=False, include_input=False)
    findings = findings_of([dict(detail) for detail in details], document, schema)
    return InvalidInput("the spec is not valid", findings=findings[:FINDINGS])
