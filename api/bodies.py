"""Reads a JSON body strictly: its type, size, text, and every value, before any model sees it.

Python's reader takes NaN, infinities and repeated keys, and turns 1e999 into infinity; a spec that was read so would
not be the one that was sent. All of these are errors with a pointer here.
"""

import hashlib
import json
import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeVar

import anyio
from pydantic import TypeAdapter, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request

from deft.errors import Finding, InvalidInput, TooLarge, UnsupportedMedia, shown
from deft.spec_errors import findings_of, pointer_of

T = TypeVar("T")

MAX_DEPTH = 64
IDLE_SECONDS = 60.0
"""A body that sends nothing for this long is given up, so that slow clients hold no place."""


class _Repeated(dict[str, Any]):
    """An object in which *key* stood more than once."""

    key: str


async def capped(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    """Yield the body, never more than *limit* bytes of it.

    Raises:
        TooLarge: the announced or the real length is over *limit*; at most one more chunk has been read.
    """
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > limit:
        raise _too_large(f"{announced[:20]} bytes", limit)
    total = 0
    stream = aiter(request.stream())
    while (chunk := await _next_chunk(stream)) is not None:
        total += len(chunk)
        if total > limit:
            raise _too_large(f"more than {limit} bytes", limit)
        yield chunk


def _too_large(found: str, limit: int) -> TooLarge:
    finding = Finding("too_large", found, f"a body of at most {limit} bytes", "Send less, or in several requests.")
    return TooLarge(f"The body has {found}; the limit is {limit}.", findings=[finding])


async def _next_chunk(stream: AsyncIterator[bytes]) -> bytes | None:
    try:
        with anyio.fail_after(IDLE_SECONDS):
            return await anext(stream, None)
    except TimeoutError:
        raise HTTPException(408, f"The body sent nothing for {IDLE_SECONDS:.0f} s.") from None


def parse_json(text: bytes) -> object:
    """Return the value of the JSON document *text*.

    Raises:
        InvalidInput: it is not UTF-8 or not JSON, is nested deeper than 64, repeats a key, or holds a number that is
            not finite or a string that cannot be stored.
    """
    try:
        value: object = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except UnicodeDecodeError as error:
        raise _not_json(f"byte {error.start} is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise _not_json(f"{error.msg} at line {error.lineno}, column {error.colno}") from None
    except (RecursionError, ValueError):
        raise _not_json("nested too deeply, or a number too long") from None
    findings = list(_faults(value))
    if findings:
        raise InvalidInput("The body holds values that JSON does not allow here.", findings=findings[:20])
    return value


def _not_json(found: str) -> InvalidInput:
    finding = Finding("invalid_json", shown(found), "one JSON document in UTF-8", "Send valid JSON.", "")
    return InvalidInput("The body is not valid JSON.", code="invalid_json", findings=[finding])


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) == len(pairs):
        return result
    repeated = _Repeated(result)
    seen: set[str] = set()
    repeated.key = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
    return repeated


def _faults(root: object) -> Iterator[Finding]:
    """Yield what is wrong with the values themselves; a stack instead of recursion bounds the depth."""
    stack: list[tuple[tuple[str | int, ...], object]] = [((), root)]
    while stack:
        parts, value = stack.pop()
        if len(parts) > MAX_DEPTH:
            yield Finding("too_deep", "deeper nesting", f"at most {MAX_DEPTH} levels", "Send a flatter document.", "")
            return
        if isinstance(value, dict):
            if isinstance(value, _Repeated):
                yield _fault("duplicate_key", value.key, "every key once", "Send each key once.", (*parts, value.key))
            yield from (finding for key in value if (finding := _text_fault(key, parts)))
            stack.extend(((*parts, key), item) for key, item in value.items())
        elif isinstance(value, list):
            stack.extend(((*parts, index), item) for index, item in enumerate(value))
        elif isinstance(value, float) and not math.isfinite(value):
            yield _fault("not_finite", str(value), "a finite number", "Send a finite number or null.", parts)
        elif isinstance(value, str) and (finding := _text_fault(value, parts)):
            yield finding


def _text_fault(text: str, parts: tuple[str | int, ...]) -> Finding | None:
    """Return what is wrong with a string: databases store neither NUL nor half a surrogate pair."""
    if "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text):
        return None
    return _fault("invalid_text", text, "text without NUL and lone surrogates", "Remove these characters.", parts)


def _fault(code: str, found: str, expected: str, fix: str, parts: tuple[str | int, ...]) -> Finding:
    return Finding(code, shown(found), expected, fix, pointer_of(parts))


def body_of(adapter: TypeAdapter[T]) -> Callable[[Request], Awaitable[T]]:
    """Return a dependency that reads the request's body as *adapter* describes it."""

    async def read(request: Request) -> T:
        check_content_type(request, "application/json")
        text = b"".join([chunk async for chunk in capped(request, request.app.state.services.settings.max_body_bytes)])
        request.state.body_hash = hashlib.sha256(text).hexdigest()
        return validated(adapter, parse_json(text))

    return read


def check_content_type(request: Request, expected: str) -> None:
    """Refuse a body of another type, or a compressed one.

    Raises:
        UnsupportedMedia: the content type is not *expected*, or the body has a content encoding.
    """
    sent = request.headers.get("content-type", "nothing").split(";")[0].strip().lower()
    if sent != expected:
        finding = Finding("unsupported_media", shown(sent), expected, f"Set the header Content-Type to {expected}.")
        raise UnsupportedMedia(f"The content type is {shown(sent)}; send {expected}.", findings=[finding])
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMedia("Send the body without a content encoding.")


def validated(adapter: TypeAdapter[T], value: object) -> T:
    """Return *value* as *adapter* describes it.

    Raises:
        InvalidInput: it is not; the findings carry pointers.
    """
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
        findings = findings_of(errors, value, adapter.json_schema())
        raise InvalidInput("The body is not what this address takes.", code="invalid_body", findings=findings) from None
