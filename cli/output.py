"""What the command line prints: data on stdout (tables on a terminal, plain lines else, JSON), chatter on stderr.

It knows nothing of the service.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def say(line: str = "") -> None:
    """Print one line of chatter to stderr."""
    print(line, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:  # noqa: ANN401 - JSON
    """Print *value* as one JSON document."""
    print(json.dumps(value, ensure_ascii=False, indent=2), flush=True)


def is_terminal() -> bool:
    """Whether stdout is a person's terminal."""
    return sys.stdout.isatty()


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None) -> None:
    """Print *rows*: a table on a terminal, otherwise tab-separated lines with the column names first."""
    shown = [[text_of(cell) for cell in row] for row in rows]
    if not is_terminal():
        for line in [list(columns), *shown]:
            print("\t".join(cell.replace("\t", " ").replace("\n", " ") for cell in line))
        sys.stdout.flush()
        return
    table = Table(*columns, title=title, header_style="bold", box=None, pad_edge=False)
    for line in shown:
        table.add_row(*line)
    Console(highlight=False, markup=False).print(table)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table for reading, also without a terminal; names of columns break at blanks, cells at line ends."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for index, name in enumerate(columns):
        table.add_column(name, max_width=None if index == 0 else 18)
    for row in rows:
        table.add_row(*row)
    width = None if is_terminal() else 20 * (len(columns) + 1)
    Console(highlight=False, markup=False, width=width).print(table)


def print_facts(facts: Iterable[tuple[str, Any]]) -> None:
    """Print what is known of one thing, a name and a value a line; values that are None are left out."""
    known = [(name, text_of(value)) for name, value in facts if value is not None]
    width = max((len(name) for name, _ in known), default=0)
    for name, value in known:
        print(f"{name:<{width}}  {value}")
    sys.stdout.flush()


def text_of(value: Any) -> str:  # noqa: ANN401 - any cell
    """Return *value* as a cell of a table."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def size_text(count: float) -> str:
    """Return a number of bytes for people: 512 B, 3.2 MB (powers of ten)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration_text(seconds: float) -> str:
    """Return a duration for people: 42 s, 3 min 05 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
