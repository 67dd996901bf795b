"""Every error that this project raises on purpose, torch-free, importable by all floors.

    DeftError                    code, HTTP status, failure category
    +-- InvalidInput      422    user      something the caller sent; carries findings
    |   +-- InvalidRows   422    user      rows of an uploaded file
    |   +-- ModelNotUsable 422   user      a head, tokenizer or config that is not supported
    |   +-- TrainingDiverged 422 user      NaN, an exploding loss, an adapter that does not learn
    +-- NotAuthenticated  401    user
    +-- NotPermitted      403    user
    +-- NotFound          404    user
    +-- Conflict          409    user
    +-- TooLarge          413    user
    +-- UnsupportedMedia  415    user
    +-- RangeNotSatisfiable 416  user
    +-- OutOfMemory       507    capacity  a device or host ran out of memory
    +-- StorageFull       507    capacity
    +-- Unavailable       503    system    a database or store that does not answer
    +-- DatabaseRefused   500    system    a statement that the database will never take
    +-- ArtifactCorrupt   500    system    a file whose hash is not the recorded one
    +-- Poison            500    system    an operation that keeps dying without a report

`Interrupted` is no error: it is how a running operation is asked to stop at its next safe point.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

FailureCategory = Literal["user", "capacity", "system"]

FOUND_CHARACTERS = 80
"""Longest piece of a caller's input that any message repeats, in escaped characters."""


def shown(value: object) -> str:
    """Return *value* as at most 80 escaped characters, for the `found` part of a finding."""
    text = value if isinstance(value, str) else repr(value)
    escaped = text.encode("unicode_escape").decode("ascii")
    return escaped if len(escaped) <= FOUND_CHARACTERS else escaped[: FOUND_CHARACTERS - 3] + "..."


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong with an input: where, what was found, what was expected, and the fix.

    Place is a JSON *pointer* into a request body, or a *line* (1-based line or record number of a file) with the
    *column* (the field's name). *count* says how many more places have the same finding.
    """

    code: str
    found: str
    expected: str
    fix: str
    pointer: str | None = None
    line: int | None = None
    column: str | None = None
    count: int = 1

    def as_dict(self) -> dict[str, Any]:
        """Return the finding as JSON, without the places that do not apply."""
        return {key: value for key, value in asdict(self).items() if value is not None}


class DeftError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    category: ClassVar[FailureCategory] = "system"
    retryable: ClassVar[bool] = False

    def __init__(
        self, message: str | None = None, *, code: str | None = None, findings: Sequence[Finding] = ()
    ) -> None:
        self.message = message or (type(self).__doc__ or "").strip().splitlines()[0]
        self.error_code = code or self.code
        self.findings = tuple(findings)
        super().__init__(self.message)


class InvalidInput(DeftError):
    """The request is not valid."""

    code, status, category = "invalid_input", 422, "user"


class InvalidRows(InvalidInput):
    """Rows of the file are not usable."""

    code = "invalid_rows"


class ModelNotUsable(InvalidInput):
    """The model cannot be used."""

    code = "model_not_usable"


class TrainingDiverged(InvalidInput):
    """Training was stopped because it diverged."""

    code = "training_diverged"


class NotAuthenticated(DeftError):
    """A valid API key is needed: send it as `Authorization: Bearer deft_...`."""

    code, status, category = "not_authenticated", 401, "user"


class NotPermitted(DeftError):
    """This API key may not do that."""

    code, status, category = "not_permitted", 403, "user"


class NotFound(DeftError):
    """There is no such thing."""

    code, status, category = "not_found", 404, "user"


class Conflict(DeftError):
    """The state of the thing does not allow this."""

    code, status, category = "conflict", 409, "user"


class TooLarge(DeftError):
    """The body is larger than the limit."""

    code, status, category = "too_large", 413, "user"


class UnsupportedMedia(DeftError):
    """The content type or encoding is not supported."""

    code, status, category = "unsupported_media", 415, "user"


class RangeNotSatisfiable(DeftError):
    """The range lies outside the file."""

    code, status, category = "range_not_satisfiable", 416, "user"


class OutOfMemory(DeftError):
    """The device ran out of memory."""

    code, status, category, retryable = "out_of_memory", 507, "capacity", True


class StorageFull(DeftError):
    """No space is left for this."""

    code, status, category, retryable = "storage_full", 507, "capacity", True


class Unavailable(DeftError):
    """A service that is needed does not answer."""

    code, status, category, retryable = "unavailable", 503, "system", True


class DatabaseRefused(DeftError):
    """The database answers and refuses what was asked of it: asking again would change nothing."""

    code, status, category = "database_refused", 500, "system"


class ArtifactCorrupt(DeftError):
    """A stored file is not what was recorded."""

    code, status, category = "artifact_corrupt", 500, "system"


class Poison(DeftError):
    """The job's process died several times without a report."""

    code, status, category = "poison", 500, "system"


class ReviewNeeded(DeftError):
    """The operation has stopped at a safe point so that a person may look: its job pauses until it is resumed.

    Resuming accepts the error's code; an operation raises it only for codes that are not in its report's `accepted`.
    """

    code, status, category = "review_needed", 409, "user"


class Interrupted(BaseException):
    """The operation was asked to stop (cancel, pause or shutdown) and has reached a safe point."""


class ProcessLost(Interrupted):
    """Another of the processes that share this operation is gone: nothing is wrong with the job, it can go on."""
