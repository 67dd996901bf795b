"""The comparison of an evaluation as text: the sentence first, then arms by metrics with n and intervals.

It knows only the evaluation's JSON.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from cli.output import print_rows

Json = Mapping[str, Any]

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
        print(line)
    print()
    columns, rows = table(comparison)
    print_rows(columns, rows)
    notes = footnotes(comparison)
    if notes:
        print("\n".join(notes))


def headline(comparison: Json) -> list[str]:
    """Return what the evidence supports, and the smallest difference that could have been seen."""
    smallest = comparison.get("smallest_detectable_difference")
    lines = [str(comparison.get("sentence") or "No comparison was made.")]
    if isinstance(smallest, int | float):
        lines.append(
            f"The smallest difference in preference accuracy that this evaluation could have seen: {smallest:.3f}."
        )
    return lines


def table(comparison: Json) -> tuple[list[str], list[list[str]]]:
    """Return column names and rows: an arm a row, a metric a column, `value [low, high] n` a cell."""
    given: Sequence[Json] = comparison.get("table") or []
    metrics = list(dict.fromkeys(metric for row in given for metric in row["cells"]))
    rows = [[str(row["arm"]), *(cell_text(row["cells"].get(metric)) for metric in metrics)] for row in given]
    return ["arm", *(column_name(metric, given) for metric in metrics)], rows


def column_name(metric: str, rows: Sequence[Json]) -> str:
    """Return the heading of *metric*, marked where training aimed at the metric itself."""
    is_trained_on = any(row["cells"].get(metric, {}).get("is_trained_on") for row in rows)
    return COLUMN_NAMES.get(metric, metric.replace("_", " ")) + (" *" if is_trained_on else "")


def cell_text(cell: Json | None) -> str:
    """Return one value with its interval and n; `*` where training aimed at this metric."""
    if not cell or cell.get("value") is None:
        return "-"
    mark = " *" if cell.get("is_trained_on") else ""
    interval = ""
    if cell.get("low") is not None and cell.get("high") is not None:
        interval = f" [{number(cell['low'])}, {number(cell['high'])}]"
    return f"{number(cell['value'])}{interval} n={cell.get('n', '?')}{mark}"


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
    return notes
