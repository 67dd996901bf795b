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


def out_of_memory(error: BaseException) -> OutOfMemory:
    """Return *error* as ours, with what the caller can change."""
    finding = Finding(
        code="out_of_memory",
        found=shown(str(error) or "no memory left"),
        expected="a forward pass that fits into the memory of the device",
        fix="lower optimisation.micro_batch_size or tokens.max_total_tokens",
        pointer="/optimisation/micro_batch_size",
    )
    return OutOfMemory(f"the operation ran out of memory: {error}"[:MESSAGE_CHARACTERS], findings=[finding])


def is_out_of_memory(error: BaseException) -> bool:
    """Whether *error* means that a device or the host has no memory left. Imports torch in no case."""
    if isinstance(error, MemoryError):
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
