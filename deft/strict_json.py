r"""JSON read strictly: no duplicate keys, NaN, infinity, lone surrogates or bottomless nesting. Torch-free.

orjson is the parser, and refuses most of that by itself. It takes the last of duplicate keys without a word, so they
are looked for apart. The value tells how many quotes its document needs: two for each key and text, one for each quote
in them. A duplicate key brings at least two more, so a document with just that many has none (if it does not hide
quotes as `\u0022`). Any other document is parsed a second time, key by key.

Whole numbers over 64 bits, which orjson would round to doubles, keep every digit: their document is parsed again too.
So is one with a number that may be nearer to 0 than any double but 0; such a number is refused. orjson makes doubles of
both, so only documents whose value holds one are searched for them.
"""

import json
import re
from typing import Any

import orjson

from deft.data.row_checks import BadRow
from deft.errors import shown

MAX_DEPTH = 32

_EXTREME_NUMBER = re.compile(rb"[0-9]{19}|[0-9][eE]-[0-9]{3}")
"""What every document holds with a whole number of over 64 bits, or with a number that a double rounds to 0."""


def parse(document: bytes) -> Any:  # noqa: ANN401 - JSON may hold anything
    """Return the value of *document*.

    Raises:
        BadRow: malformed_json, wrong_encoding, number_range, lone_surrogate, duplicate_key or too_deep.
    """
    try:
        value = orjson.loads(document)
    except orjson.JSONDecodeError as error:
        raise _refused(document, error) from None
    if document.count(b'"') != _quotes(value, 0) or b"\\u0022" in document:
        json.loads(document, object_pairs_hook=_unique)
    if _has_double(value) and _EXTREME_NUMBER.search(document):
        return json.loads(document, parse_float=_not_rounded_to_zero)
    return value


def _has_double(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(_has_double, value.values()))
    return any(map(_has_double, value)) if isinstance(value, list) else isinstance(value, float)


def _not_rounded_to_zero(text: str) -> float:
    number = float(text)
    if number == 0 and any(digit in "123456789" for digit in re.split("[eE]", text)[0]):
        found, fix = f"a number too small: '{shown(text)}'", "write 0, or scale the numbers of this column"
        raise BadRow("number_range", None, found, "0, or a number of at least 5e-324", fix)
    return number


def _quotes(value: object, depth: int) -> int:
    """Return how many quotes a document of *value* has at least."""
    if isinstance(value, str):
        return 2 + value.count('"')
    if not isinstance(value, dict | list):
        return 0
    if depth > MAX_DEPTH:
        raise BadRow("too_deep", None, f"more than {MAX_DEPTH} levels", f"at most {MAX_DEPTH}", "flatten the row")
    if isinstance(value, list):
        return sum([_quotes(item, depth + 1) for item in value])
    return sum([2 + key.count('"') + _quotes(item, depth + 1) for key, item in value.items()])


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadRow("duplicate_key", shown(twice), f"the key {shown(twice)} twice", "every key once", "remove one")
    return result


def _refused(document: bytes, error: orjson.JSONDecodeError) -> BadRow:
    fix = "correct the row; every JSON library can write it"
    if "UTF-8" in error.msg:
        return _wrong_encoding(document)
    start = error.pos - (error.doc[error.pos - 1 : error.pos] == "-")
    place, near = f"at character {start + 1}", shown(error.doc[start : start + 24])
    if "infinity" in error.msg:
        return BadRow("number_range", None, f"a number too large {place}: '{near}'", "a finite number", fix)
    if near.lstrip("-").startswith(("NaN", "Infinity")):
        return BadRow("number_range", None, f"'{near}' {place}", "a finite number or null", "write null instead")
    if "surrogate" in error.msg:
        return BadRow("lone_surrogate", None, f"half a surrogate pair {place}: '{near}'", "whole characters", fix)
    if "depth" in error.msg:
        return BadRow("too_deep", None, "more than 1,024 levels", f"at most {MAX_DEPTH}", "flatten the row")
    found = f"{error.msg} {place}" + (f": '{near}'" if near else "")
    return BadRow("malformed_json", None, found, "one JSON object", fix)


def _wrong_encoding(document: bytes) -> BadRow:
    try:
        document.decode("utf-8")
    except UnicodeDecodeError as error:
        found = f"the byte 0x{document[error.start]:02x} at byte {error.start + 1}"
        return BadRow("wrong_encoding", None, found, "UTF-8", "save it as UTF-8: iconv -f LATIN1 -t UTF-8 FILE")
    return BadRow("wrong_encoding", None, "text that is not UTF-8", "UTF-8", "save the file as UTF-8")
