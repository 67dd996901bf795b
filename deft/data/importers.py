"""From a user's row to an `Example`: which format a file has, column maps, and what all formats share. Torch-free.

A format is told by keys and types of values, reported by name, and can be forced. A column map says which of the
user's columns stands for which of ours, so that nobody renames columns. The formats are in `deft.data.formats`.
"""

import contextlib
import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from deft.data import row_checks
from deft.data.columns import Row
from deft.data.formats import FORMATS, Columns, pro_columns
from deft.data.prompt_formats import PROMPT_FORMATS
from deft.errors import Finding, InvalidInput, InvalidRows, shown
from deft.examples import ASSISTANT_MARK, Example
from deft.strict_json import parse


def columns_from(mapping: Mapping[str, str] | None) -> Columns:
    """Return the column map of *mapping*, {our name: the user's name}.

    Raises:
        InvalidInput: a key is none of our names, or a value is no text.
    """
    known = [field.name for field in fields(Columns)]
    for ours, theirs in (mapping or {}).items():
        if ours not in known or not isinstance(theirs, str):
            found = shown(ours) if ours not in known else row_checks.described(theirs)
            finding = Finding(
                "unknown_column_role",
                found,
                f"one of {', '.join(known)}, with the name of a column",
                "write it as OURS=YOURS, for example prompt=question,chosen=good,rejected=bad",
                pointer=f"/columns/{shown(ours)}",
            )
            raise InvalidInput("The column map is not valid.", findings=[finding])
    return replace(Columns(), **dict(mapping or {}))


# One row -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Importer:
    """Makes examples of rows in one *format* (a key of `FORMATS`) with one column map.

    With *is_typed* False all values are text (CSV): lists and numbers are read from their JSON, empty text is null.
    """

    format: str
    columns: Columns
    is_typed: bool = True

    def example(self, line: int, value: object) -> Example:
        """Return the example of the row *value* at *line*.

        Raises:
            BadRow: the row cannot be used.
        """
        row = row_checks.object_row(value)
        if not self.is_typed:
            row = typed_cells(row, self.columns)
        picked = FORMATS[self.format](row, self.columns)
        if isinstance(picked.prompt, str):
            row_checks.prompt_is_not_empty(picked.prompt, self.columns.prompt)
        responses = row_checks.responses(picked.responses, picked.places)
        own: dict[str, Any] = {
            name: _OWN_CHECKS[name](value, column) for name, column, value in self._given(row, *_OWN_CHECKS)
        }
        if self.format in LISTS:
            responses, own["scores"] = self._in_order(row, responses)
        return Example(picked.prompt, responses, source_line=line, **own)

    def _in_order(self, row: Row, responses: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[float, ...] | None]:
        """Return responses and scores of a list best first: as they stand, or in the order of the row's ranks."""
        order: Sequence[int] = range(len(responses))
        scores = None
        for name, column, value in self._given(row, "ranks", "scores"):
            if name == "ranks":
                order = row_checks.ranks(value, column, len(responses))
            else:
                numbers = row_checks.scores(value, column, len(responses))
                scores = tuple(numbers[place] for place in order)
                row_checks.scores_fall(scores, column, are_ranked=isinstance(order, list))
        return tuple(responses[place] for place in order), scores

    def _given(self, row: Row, *names: str) -> Iterator[tuple[str, str, Any]]:
        """Yield (our name, the user's column, its value) for those of *names* that the row has a value for."""
        for name in names:
            column = getattr(self.columns, name)
            if column and row.get(column) is not None:
                yield name, column, row[column]


LISTS = ("deft.responses", "pro.ranked")
"""Formats whose rows hold lists of responses, with scores and ranks of each."""
_OWN_CHECKS: dict[str, Callable[[object, str], float | str]] = {
    "weight": row_checks.weight,
    "source": row_checks.source,
    "aspect": row_checks.aspect,
    "split": row_checks.split,
}


def typed_cells(row: Row, columns: Columns) -> Row:
    """Return *row* of text cells with its lists and numbers read, and empty optional cells as null."""
    result = dict(row)
    for column in (columns.responses, columns.scores, columns.ranks, columns.weight):
        if row.get(column):
            with contextlib.suppress(row_checks.BadRow):
                result[column] = parse(row[column].encode())
    for column in (columns.scores, columns.ranks, columns.weight, columns.source, columns.aspect, columns.split):
        if row.get(column) == "":
            result[column] = None
    return result


# Detection ---------------------------------------------------------------------------------------------------------


def importer_for(
    rows: Sequence[Row],
    columns: Columns,
    *,
    format: str = "auto",  # noqa: A002 - the word that users type
    is_typed: bool = True,
) -> Importer:
    """Return the importer for a file that begins with *rows*.

    Raises:
        InvalidInput: *format* is unknown.
        InvalidRows: no format fits; the finding has the closest one and the column map to use.
    """
    if format not in ("auto", *FORMATS):
        finding = Finding(
            "unknown_format",
            shown(format),
            f"auto, {', '.join([*FORMATS, *PROMPT_FORMATS])}",
            "leave it out",
            "/format",
        )
        raise InvalidInput("There is no such format.", findings=[finding])
    if not is_typed:
        rows = [typed_cells(row, columns) for row in rows]
    _mapped_columns_exist(rows, columns)
    if format == "auto":
        found = next(filter(None, (format_of(row, columns) for row in rows)), None)
        format = found or _format_by_keys(rows, columns)  # noqa: A001
    return Importer(format, pro_columns(columns) if format == "pro.ranked" else columns, is_typed)


def _has(row: Row, *columns: str) -> bool:
    return all(column and column in row for column in columns)


def format_of(row: Row, columns: Columns) -> str | None:
    """Return the name of the format that *row* has by its keys and the types of their values, or None."""
    if _has(row, columns.prompt, columns.responses):
        return "deft.responses" if isinstance(row[columns.responses], list) else None
    if _is_pro(row, pro_columns(columns)):
        return "pro.ranked"
    if not _has(row, columns.chosen, columns.rejected):
        return None
    chosen, rejected = row[columns.chosen], row[columns.rejected]
    are_lists, are_texts = (isinstance(chosen, k) and isinstance(rejected, k) for k in (list, str))
    if not _has(row, columns.prompt):
        if are_texts and (ASSISTANT_MARK in chosen or ASSISTANT_MARK in rejected):
            return "hh.transcript"
        return "trl.preference.conversational.implicit" if are_lists else None
    prompt = row[columns.prompt]
    if isinstance(prompt, list) or (isinstance(prompt, str) and are_lists):
        return "trl.preference.conversational.explicit"
    return "trl.preference.plain.explicit" if isinstance(prompt, str) and are_texts else None


def _is_pro(row: Row, columns: Columns) -> bool:
    return _has(row, columns.prompt, columns.responses) and all(
        isinstance(row[column], list) for column in (columns.prompt, columns.responses)
    )


def _format_by_keys(rows: Sequence[Row], columns: Columns) -> str:
    """Return the format that the keys alone tell, so that what is wrong with the values is reported row by row."""
    if any(_has(row, columns.prompt, columns.responses) for row in rows):
        return "deft.responses"
    pairs = [row for row in rows if _has(row, columns.chosen, columns.rejected)]
    if any(_has(row, columns.prompt) for row in pairs):
        return "trl.preference.plain.explicit"
    if any(isinstance(row[columns.chosen], str) and isinstance(row[columns.rejected], str) for row in pairs):
        raise _refused(
            "implicit_plain",
            f"whole texts in {columns.chosen} and {columns.rejected}, no prompt and no mark where the response begins",
            "a column prompt, or HH-RLHF dialogues with '\\n\\nHuman: ' and '\\n\\nAssistant: '",
            "add a column prompt and keep only the responses in the others, or give conversations as lists of messages",
        )
    if pairs:
        return "hh.transcript"
    raise _unknown_columns(rows)


def _mapped_columns_exist(rows: Sequence[Row], columns: Columns) -> None:
    for field in fields(Columns):
        column = getattr(columns, field.name)
        if column and column != field.default and not any(column in row for row in rows):
            found = f"no column {shown(column)}, but {_names(rows)}"
            raise _refused("missing_column", found, "the name of a column", f"correct the map of {field.name}")


def _names(rows: Sequence[Row]) -> str:
    return shown(", ".join(dict.fromkeys(str(name) for row in rows for name in row)) or "no columns")


def _refused(code: str, found: str, expected: str, fix: str) -> InvalidRows:
    finding = Finding(code, found, expected, fix)
    return InvalidRows(f"The file's format is not known: found {found}.", code=code, findings=[finding])


_OTHER_NAMES = {
    "prompt": ("question", "instruction", "query", "input", "context", "prefix", "text", "user"),
    "chosen": (
        "good",
        "preferred",
        "preferred_output",
        "better",
        "winner",
        "accepted",
        "positive",
        "response_j",
        "win",
    ),
    "rejected": ("bad", "dispreferred", "non_preferred_output", "worse", "loser", "negative", "response_k", "lose"),
    "responses": ("answers", "completions", "candidates", "generations", "suffix", "outputs"),
}


def _unknown_columns(rows: Sequence[Row]) -> InvalidRows:
    names = list(dict.fromkeys(str(name) for row in rows for name in row))
    guess = {ours: name for ours in _OTHER_NAMES if (name := _closest(ours, names))}
    is_list = "responses" in guess and not {"chosen", "rejected"} <= guess.keys()
    wanted = ("prompt", "responses") if is_list else ("prompt", "chosen", "rejected")
    closest = "deft.responses" if is_list else "trl.preference.plain.explicit"
    mapping = ",".join(f"{ours}={guess.get(ours, 'YOUR_COLUMN')}" for ours in wanted if guess.get(ours) != ours)
    return _refused(
        "unknown_columns",
        f"the columns {_names(rows)}",
        f"the columns of a known format; the closest is {closest} ({', '.join(wanted)})",
        f"say which columns stand for these: --map {shown(mapping)} (over HTTP: the form field `columns`, as JSON)",
    )


def _closest(ours: str, names: Sequence[str]) -> str | None:
    lowered = {name.lower().strip(): name for name in names}
    for candidate in (ours, *_OTHER_NAMES[ours]):
        if candidate in lowered:
            return lowered[candidate]
    near = difflib.get_close_matches(ours, lowered, n=1, cutoff=0.7) if ours in ("prompt", "chosen", "rejected") else []
    return lowered[near[0]] if near else None
