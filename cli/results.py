"""The comparison of an evaluation as text: the sentence first, then arms by metrics with n and intervals.

It knows only the evaluation's JSON.
"""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from cli.output import print_table

Json = Mapping[str, Any]

SHOWN = (
    *("preference_accuracy", "ranking_accuracy", "margin", "reward", "kl", "chosen_logp_change", "length"),
    *("perplexity", "r_d_accuracy"),
)
"""The metrics of the printed table, in this order, a reward by every reward model; the others are in the JSON."""

ID_CHARACTERS = 12
"""Of a reward model's id, those that a heading shows: enough to tell two apart."""

LINE_WIDTH = 110

COLUMN_NAMES = {
    "preference_accuracy": "preference accuracy",
    "r_d_accuracy": "R_d accuracy",
    "chosen_logp_change": "change of log p(chosen)",
    "kl": "KL to the base",
    "length": "length, tokens",
    "bleu": "BLEU",
}


def comparison_of(evaluation: Json) -> Json:
    """Return the comparison of an evaluation, empty when it has none."""
    found: Json = evaluation.get("comparison") or (evaluation.get("summary") or {}).get("comparison") or {}
    return found


def print_comparison(evaluation: Json) -> None:
    """Print what the evaluation says: sentence, smallest difference, table."""
    comparison = comparison_of(evaluation)
    for line in headline(comparison):
        print(textwrap.fill(line, LINE_WIDTH, break_long_words=False, break_on_hyphens=False))
    print()
    columns, rows = table(comparison, between="\n")
    print_table(columns, rows)
    notes = footnotes(comparison)
    if notes:
        print("\n".join(notes))


def headline(comparison: Json) -> list[str]:
    """Return what the evidence supports, and the smallest difference that could have been seen."""
    smallest = comparison.get("smallest_detectable_difference")
    lines = [str(comparison.get("sentence") or "No comparison was made.")]
    if isinstance(smallest, int | float) and smallest <= 1:
        lines.append(
            f"The smallest difference in preference accuracy that this evaluation could have seen: {smallest:.3f}."
        )
    return lines


def table(comparison: Json, *, between: str = " ") -> tuple[list[str], list[list[str]]]:
    """Return column names and rows: an arm a row, a metric a column; *between* stands in a cell before the interval."""
    given: Sequence[Json] = comparison.get("table") or []
    measured = dict.fromkeys(metric for row in given for metric in row["cells"])
    metrics = [metric for shown in SHOWN for metric in measured if metric.partition(":")[0] == shown]
    common = {metric: common_n(metric, given) for metric in metrics}
    rows = [
        [str(row["arm"]), *(cell_text(row["cells"].get(metric), common[metric], between) for metric in metrics)]
        for row in given
    ]
    return ["arm", *(column_name(metric, common[metric]) for metric in metrics)], rows


def common_n(metric: str, rows: Sequence[Json]) -> int | None:
    """Return the n that all arms have in *metric*, None where they differ."""
    found = {row["cells"][metric].get("n") for row in rows if metric in row["cells"]}
    return found.pop() if len(found) == 1 else None


def column_name(metric: str, n: int | None) -> str:
    """Return the heading of *metric*, with the n that all its cells share."""
    kind, _, of = metric.partition(":")
    name = COLUMN_NAMES.get(kind, kind.replace("_", " ")) + (f" by ..{of[-ID_CHARACTERS:]}" if of else "")
    return name if n is None else f"{name}, n={n}"


def cell_text(cell: Json | None, common: int | None, between: str) -> str:
    """Return one value with its interval, and its n unless all share it.

    `*` marks a metric that training aimed at, `!` one that is not valid.
    """
    if not cell or cell.get("value") is None:
        return "-"
    own = "" if common is not None else f" n={cell.get('n', '?')}"
    mark = " *" if cell.get("is_trained_on") else " !" if cell.get("is_valid") is False else ""
    interval = ""
    if cell.get("low") is not None and cell.get("high") is not None:
        interval = f"{between}[{number(cell['low'])}, {number(cell['high'])}]"
    return f"{number(cell['value'])}{own}{mark}{interval}"


def number(value: float) -> str:
    """Return *value* with as many digits as its size makes sensible."""
    size = abs(value)
    digits = 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:.{digits}f}"


def footnotes(comparison: Json) -> list[str]:
    """Return what a reader of the table must know."""
    given: Sequence[Json] = comparison.get("table") or []
    cells = [cell for row in given for cell in row["cells"].values()]
    notes = ["Brackets: 95 % intervals over prompts."] if cells else []
    if any(cell.get("is_trained_on") for cell in cells):
        notes.append("*: the training of this arm aimed at this metric itself, so it proves nothing.")
    if any(cell.get("is_valid") is False for cell in cells):
        notes.append("!: this reward model was not shown to know more than lengths, so it proves nothing.")
    return notes
