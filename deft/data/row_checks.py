"""What makes a row unusable: checks on values that importers have picked out of it. Torch-free.

A check returns the value or raises `BadRow`; one row reports its first trouble. No check repairs anything.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any, NoReturn

from deft.data.splits import SPLIT_ALIASES, split_named
from deft.errors import Finding, shown
from deft.examples import ROLES, Message

_JSON_NAMES = {bool: "boolean", int: "number", float: "number", str: "text", list: "list", dict: "object"}
RESERVED_PREFIX = "deft_"
"""Of the columns that subsets add to the user's; no stored column of the user's may begin so."""

SMALLEST_WEIGHT, LARGEST_WEIGHT = 1e-9, 1e9
"""Of a row: beyond them float32 sums of a step would lose the other rows, or this one, altogether."""


LONGEST_NAME = 200
"""Characters of a source, an aspect or a category: each names a part of the scores, and an index holds those names."""


class BadRow(Exception):
    """A row that cannot be used, and why; becomes a `Finding` once its line is known."""

    def __init__(self, code: str, column: str | None, found: str, expected: str, fix: str) -> None:
        self.code, self.column, self.found, self.expected, self.fix = code, column, found, expected, fix
        super().__init__(code)

    def at(self, line: int, pointer: str | None = None) -> Finding:
        """Return the finding for *line* (of the file that *pointer* names, where there are several)."""
        return Finding(self.code, self.found, self.expected, self.fix, pointer=pointer, line=line, column=self.column)


def described(value: object) -> str:
    """Return type, size and the beginning of *value*, in at most about 100 escaped characters."""
    if value is None:
        return "null"
    name = _JSON_NAMES.get(type(value), type(value).__name__)
    if isinstance(value, str):
        return f"text of {len(value)} characters: '{shown(value)}'"
    if isinstance(value, list | dict):
        return f"{name} of {len(value)}"
    return f"{name} {shown(value)}"


def wrong_type(value: object, column: str, expected: str, fix: str | None = None) -> NoReturn:
    """Refuse *value* of *column*.

    Raises:
        BadRow: always.
    """
    code = "missing_value" if value is None else "wrong_type"
    raise BadRow(code, column, described(value), expected, fix or f"give {column} as {expected}, or remove the row")


def text(value: object, column: str) -> str:
    """Return *value* if it is text."""
    return value if isinstance(value, str) else wrong_type(value, column, "text")


def messages(value: object, column: str) -> list[Message]:
    """Return *value* if it is a list of messages with known roles and text as content."""
    if not isinstance(value, list) or not value:
        wrong_type(value, column, "a list of messages")
    for index, message in enumerate(value):
        _check_message(message, f"{column}[{index}]")
    return value


def _check_message(message: object, place: str) -> None:
    if not isinstance(message, dict):
        wrong_type(message, place, "an object with role and content")
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or role not in ROLES:
        found = described(role) if "role" in message else f"no role; keys {shown(', '.join(map(str, message)))}"
        raise BadRow("unknown_role", f"{place}.role", found, f"one of {', '.join(ROLES)}", "rename the role")
    if not isinstance(content, str):
        wrong_type(content, f"{place}.content", "text")
    for name, value in message.items():
        if name not in ("role", "content") and not is_json(value):
            fix = f"write {name} as text, or leave it out"
            wrong_type(value, f"{place}.{shown(name)}", "a JSON value, whole numbers of at most 64 bits", fix)


def is_json(value: object) -> bool:
    """Return whether *value* is made of what JSON knows, with whole numbers of at most 64 bits."""
    if isinstance(value, int):
        return -(2**63) <= value < 2**64
    if isinstance(value, list):
        return all(map(is_json, value))
    if isinstance(value, dict):
        return all(isinstance(name, str) and is_json(item) for name, item in value.items())
    return value is None or isinstance(value, str | float)


def responses(values: Sequence[str], columns: Sequence[str]) -> tuple[str, ...]:
    """Return *values*, best first, if there are two or more, none is empty and no two are equal.

    *columns* names the place of each value; blanks around a response do not make it another one.
    """
    stripped = [value.strip() for value in values]
    for column, value in zip(columns, stripped, strict=True):
        if not value:
            raise BadRow("empty_response", column, "no text", "a response", "write the response or remove the row")
    if len(values) < 2:
        found = f"{len(values)} response" if values else "no response"
        raise BadRow("too_few_responses", columns[0] if columns else "responses", found, "two or more", "remove it")
    if len(set(stripped)) < len(stripped):
        raise BadRow(
            "equal_responses", columns[-1], _first_equal(stripped, columns), "different responses", "remove the row"
        )
    return tuple(values)


def _first_equal(values: Sequence[str], columns: Sequence[str]) -> str:
    first: dict[str, str] = {}
    for column, value in zip(columns, values, strict=True):
        if value in first:
            return f"{column} equals {first[value]}: {described(value)}"
        first[value] = column
    return "no equal responses"


def prompt_is_not_empty(prompt: str, column: str) -> str:
    """Return *prompt* if it holds more than white space."""
    if not prompt.strip():
        raise BadRow("empty_prompt", column, "no text", "a prompt", "write the prompt or remove the row")
    return prompt


def asks_something(prompt: str | list[Message], column: str) -> None:
    """Refuse a *prompt* that holds nothing but white space, or messages in which the user says nothing."""
    if isinstance(prompt, str):
        prompt_is_not_empty(prompt, column)
    elif not any(message["role"] == "user" and message["content"].strip() for message in prompt):
        roles = ", ".join(dict.fromkeys(message["role"] for message in prompt))
        expected, fix = "a message of the user with text", "add what the user asks, or remove the row"
        raise BadRow("no_user_message", column, f"messages of {roles}, none of a user with text", expected, fix)


def number(value: object, column: str) -> float:
    """Return *value* if it is a finite number (and no boolean)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        wrong_type(value, column, "a finite number")
    return float(value)


def scores(value: object, column: str, count: int) -> tuple[float, ...]:
    """Return *value* if it is one number a response."""
    if not isinstance(value, list):
        wrong_type(value, column, f"a list of {count} numbers")
    numbers = tuple(number(item, f"{column}[{index}]") for index, item in enumerate(value))
    if len(numbers) != count:
        raise BadRow("scores_count", column, f"{len(numbers)} scores", f"{count}, one a response", "align the lists")
    return numbers


def scores_fall(numbers: Sequence[float], column: str, *, are_ranked: bool) -> None:
    """Refuse scores that rise from one response to the next, best first: as listed, or as the row's ranks say."""
    place = next((i for i, (one, later) in enumerate(itertools.pairwise(numbers), start=1) if later > one), None)
    if place is None:
        return
    if not are_ranked:
        found, expected = f"a rising score: {shown(list(numbers))}", "best first, so scores that never rise"
        fix = "sort the responses, give their `ranks`, or leave the scores unread with --map scores="
        raise BadRow("scores_order", column, found, expected, fix)
    found = f"rank {place} with the score {numbers[place - 1]:g}, rank {place + 1} with {numbers[place]:g}"
    fix = "correct one of the two, or leave one unread with --map ranks= or --map scores="
    raise BadRow("ranks_contradict_scores", column, found, "scores that never rise from rank to rank", fix)


def ranks(value: object, column: str, count: int) -> list[int]:
    """Return the places of the responses, best first, if *value* ranks each of them from 1 (the best) to *count*."""
    if not isinstance(value, list):
        wrong_type(value, column, f"a list of {count} ranks")
    numbers = [number(item, f"{column}[{index}]") for index, item in enumerate(value)]
    if sorted(numbers) != list(range(1, count + 1)):
        fix = "give every response its own rank; responses that are equally good can have equal `scores` instead"
        raise BadRow("ranks_values", column, shown(value), f"the ranks 1 (the best) to {count}, each once", fix)
    return sorted(range(count), key=numbers.__getitem__)


def weight(value: object, column: str) -> float:
    """Return *value* if it is a finite number from `SMALLEST_WEIGHT` to `LARGEST_WEIGHT`."""
    result = number(value, column)
    if not SMALLEST_WEIGHT <= result <= LARGEST_WEIGHT:
        expected = f"a number from {SMALLEST_WEIGHT:g} to {LARGEST_WEIGHT:g}"
        raise BadRow("weight_range", column, described(value), expected, "remove the row or its weight")
    return result


def source(value: object, column: str) -> str:
    """Return *value* if it is text that can name a source."""
    return name(value, column, _leave_out("source"))


def aspect(value: object, column: str) -> str:
    """Return *value* if it is text that can name an aspect."""
    return name(value, column, _leave_out("aspect"))


def name(value: object, column: str, fix: str) -> str:
    """Return *value* if it is text of at most `LONGEST_NAME` characters."""
    if not isinstance(value, str):
        wrong_type(value, column, "text", fix)
    if len(value) > LONGEST_NAME:
        raise BadRow("name_too_long", column, described(value), f"a name of at most {LONGEST_NAME} characters", fix)
    return value


def split(value: object, column: str) -> str:
    """Return *value* if it names a split."""
    if not isinstance(value, str):
        wrong_type(value, column, "text", _leave_out("split"))
    if split_named(value) is None:
        expected = f"one of {', '.join(SPLIT_ALIASES)}"
        raise BadRow("unknown_split", column, described(value), expected, _leave_out("split"))
    return value


def _leave_out(ours: str) -> str:
    """Return the fix that leaves the column unread which stands for *ours*: a column map says OURS=YOURS."""
    return f"correct the value, or leave the column unread with --map {ours}="


def not_an_object(value: object) -> BadRow:
    """Return what is wrong with a row that is no JSON object."""
    return BadRow(
        "not_an_object", None, described(value), 'an object such as {"prompt": ...}', "make every row a JSON object"
    )


def object_row(value: object) -> dict[str, Any]:
    """Return *value* if it is a JSON object."""
    if not isinstance(value, dict):
        raise not_an_object(value)
    return value


def no_reserved_column(row: dict[str, Any]) -> None:
    """Refuse a user's column that has one of the names that subsets add."""
    for name in row:
        if name.startswith(RESERVED_PREFIX):
            expected, fix = f"no column that begins with {RESERVED_PREFIX}", "rename the column, or leave it out"
            raise BadRow("reserved_column", shown(name), f"the column {shown(name)}", expected, fix)
