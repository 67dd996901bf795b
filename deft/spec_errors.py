"""What pydantic says about a body, as findings that a person can act on. Knows no HTTP.

pydantic's locations name union members and tags that the body does not hold; `_place` follows the body itself, so that
a pointer always leads to what was sent. Names of fields come from the JSON schema of what was expected.
"""

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from deft.errors import Finding, shown

TAGS = ("kind", "type")
"""Fields that tell the members of our unions apart."""

CODES = {
    "extra_forbidden": "unknown_field",
    "missing": "missing_field",
    "union_tag_invalid": "unknown_kind",
    "union_tag_not_found": "missing_field",
    "literal_error": "not_one_of",
    "finite_number": "not_finite",
}


WORDS = {
    "Field required": "a value for this field",
    "Value error, ": "",
    "Input should be greater": "a number greater",
    "Input should be less": "a number less",
    "Input should be ": "",
    "String should match": "text that matches",
    "String should have": "text with",
    "List should have": "a list with",
}
"""How pydantic begins its messages, longest first where one begins another, and our words for it."""


def pointer_of(parts: Iterable[str | int]) -> str:
    """Return the JSON Pointer (RFC 6901) of *parts*; every part is cut to 80 characters."""
    return "".join("/" + shown(str(part)).replace("~", "~0").replace("/", "~1") for part in parts)


def findings_of(errors: Sequence[Mapping[str, Any]], body: object, schema: Mapping[str, Any]) -> list[Finding]:
    """Return one finding for each place of *body* that pydantic complains about.

    *errors* are `ValidationError.errors()`, *schema* the JSON schema of what was expected. A check of a whole model
    names the place below it as `at` of its context. Complaints of several members of a union about one place become one
    finding.
    """
    found: dict[str, Finding] = {}
    for error in errors:
        finding = _finding(error, body, schema)
        pointer = finding.pointer or ""
        known = found.get(pointer)
        if known is None:
            found[pointer] = finding
        elif finding.expected not in known.expected:
            expected = f"{known.expected}, or {finding.expected}"
            found[pointer] = Finding(known.code, known.found, expected, f"Send {expected}.", pointer)
    return list(found.values())


def _finding(error: Mapping[str, Any], body: object, schema: Mapping[str, Any]) -> Finding:
    kind = error["type"]
    parts, value = _place([*error["loc"], *error.get("ctx", {}).get("at", ())], body)
    if kind == "extra_forbidden":
        return _unknown_field(parts, schema, body)
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _unknown_tag(error, parts, schema)
    expected = _expected(error)
    what = "nothing" if kind == "missing" else _shown_json(value)
    return Finding(CODES.get(kind, "invalid_value"), what, expected, _fix(kind, expected), pointer_of(parts))


def _fix(kind: str, expected: str) -> str:
    if kind == "missing":
        return "Add the field."
    return "Change the values so that this holds." if kind == "value_error" else f"Send {expected}."


def _place(location: Sequence[str | int], body: object) -> tuple[list[str | int], object]:
    """Return the path that leads through *body* itself, and the value there (None where there is none)."""
    parts: list[str | int] = []
    value = body
    is_tag_seen = False
    for index, part in enumerate(location):
        is_last = index == len(location) - 1
        if isinstance(value, dict):
            if not is_tag_seen and any(value.get(tag) == part for tag in TAGS):
                is_tag_seen = True
                continue
            if part in value or is_last:
                parts.append(part)
                value, is_tag_seen = value.get(part), False
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            parts.append(part)
            value, is_tag_seen = value[part], False
    return parts, value


def _shown_json(value: object) -> str:
    try:
        return shown(json.dumps(value, ensure_ascii=False))
    except (TypeError, ValueError):
        return shown(value)


def _expected(error: Mapping[str, Any]) -> str:
    message = str(error["msg"])
    for opening, ours in WORDS.items():
        if message.startswith(opening):
            return ours + message.removeprefix(opening)
    return message


def _unknown_field(parts: Sequence[str | int], schema: Mapping[str, Any], body: object) -> Finding:
    name = str(parts[-1]) if parts else ""
    return unknown_name(name, _fields_at(schema, parts[:-1], body), "fields", pointer_of(parts))


def unknown_name(name: str, names: Iterable[str], what: str, pointer: str | None = None) -> Finding:
    """Return the finding for a *name* that is none of *names* (`fields`, `parameters`), with the nearest of them.

    Without a *pointer* the name itself is the place, as the finding's column.
    """
    ordered = sorted(names)
    near = difflib.get_close_matches(name, ordered, n=1, cutoff=0.6)
    fix = f"Did you mean `{near[0]}`?" if near else "Leave it out."
    expected = f"one of the {what} {', '.join(ordered)}" if ordered else f"no {what}"
    column = shown(name) if pointer is None else None
    return Finding(f"unknown_{what[:-1]}", shown(name), expected, fix, pointer, column=column)


def _unknown_tag(error: Mapping[str, Any], parts: Sequence[str | int], schema: Mapping[str, Any]) -> Finding:
    context = error.get("ctx", {})
    tag = str(context.get("discriminator", "'kind'")).strip("'")
    known = [name.strip(" '") for name in str(context.get("expected_tags", "")).split(",") if name.strip(" '")]
    if not known and not parts:
        known = list(schema.get("discriminator", {}).get("mapping", {}))
    expected = f"one of {', '.join(known)}" if known else "the name of a known kind"
    sent = str(context.get("tag", ""))
    near = difflib.get_close_matches(sent, known, n=1, cutoff=0.6)
    fix = f"Did you mean `{near[0]}`?" if near else f"Set `{tag}` to {expected}."
    found = shown(sent) if error["type"] == "union_tag_invalid" else "nothing"
    return Finding(CODES[error["type"]], found, expected, fix, pointer_of([*parts, tag]))


def _fields_at(schema: Mapping[str, Any], parts: Sequence[str | int], body: object) -> set[str]:
    """Return the names of the fields that *schema* allows in the object at *parts* of *body*."""
    nodes, value = [schema], body
    for part in parts:
        members = [member for node in nodes for member in _members(node, schema, value)]
        if isinstance(part, int):
            nodes = [member["items"] for member in members if "items" in member]
        else:
            nodes = [member["properties"][part] for member in members if part in member.get("properties", {})]
        value = value[part] if isinstance(value, (dict, list)) else None  # type: ignore[index]
    members = [member for node in nodes for member in _members(node, schema, value)]
    return {name for member in members for name in member.get("properties", {})}


def _members(node: Mapping[str, Any], root: Mapping[str, Any], value: object) -> list[Mapping[str, Any]]:
    """Return what *node* can be, references followed and the member of a tagged union chosen by *value*."""
    if "$ref" in node:
        return _members(root["$defs"][node["$ref"].rsplit("/", 1)[1]], root, value)
    if "discriminator" in node:
        tag = value.get(node["discriminator"]["propertyName"]) if isinstance(value, dict) else None
        reference = node["discriminator"]["mapping"].get(tag)
        return _members({"$ref": reference}, root, value) if reference else []
    for union in ("anyOf", "oneOf", "allOf"):
        if union in node:
            return [found for member in node[union] for found in _members(member, root, value)]
    return [node]
