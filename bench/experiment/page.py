"""The numbers of results.json as a page of tables for people. Knows nothing of how they were measured."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.experiment.design import CELLS, runs_of
from deft.evaluation.comparison import VERDICT_METRIC
from deft.evaluation.metrics import BASE

Json = Mapping[str, Any]
METRICS = {VERDICT_METRIC: "accuracy", "margin": "margin, nats", "chosen_logp_change_per_token": "drift"}
"""What the table of cells shows, and what it is called there."""


def page(found: Json) -> str:
    """Return results.json as Markdown."""
    return "\n".join(_lines(found)) + "\n"


def _lines(found: Json) -> Iterator[str]:
    yield "# Results of the experiment\n"
    yield "Written by `python -m bench.experiment` from the rows beside it; [the plan](../../PLAN.md) says what was to"
    yield "be tested. In brackets: 95 % intervals over prompts, with the luck of a training run.\n"
    yield "## What was found\n"
    yield from (f"- {what}: {told}." for what, told in found["conclusions"].items())
    yield "\n## The registered comparisons\n"
    yield "Of preference accuracy on all test rows; p after Holm's correction over the five.\n"
    yield from _table(
        ["", "difference", "p", "p, corrected", "effect size", "smallest difference to be seen", "verdict"],
        [[_sides(each), _interval(each, "difference"), *_tested(each)] for each in found["comparisons"]],
    )
    yield "\n## By source\n"
    yield "The same by source, described and not tested.\n"
    yield from _table(["", *found["sources"]], _by_source(found))
    yield "\n## All cells\n"
    yield "Means over seeds: accuracy, margin, and drift (change of log p(chosen) against the base, nats a token).\n"
    names = [*METRICS.values(), *(f"accuracy, {source}" for source in found["sources"])]
    yield from _table(["", "seeds", "learning rate", *names], _cells(found))
    yield "\n## One thing changed\n"
    yield "Cells of one seed less the cell that they differ from in one thing; described and not tested.\n"
    rows = [[_sides(each), _interval(each, "difference")] for each in found["described"]]
    yield from _table(["", "difference in accuracy"], rows)
    yield "\n## Learning rates\n"
    yield f"Chosen on the development rows with seed 0; omega is {found['omega']:.3g}, or ten times that.\n"
    tuned = found["development"]
    rows = [[f"`{each['run']}`", f"{each['accuracy']:.3f}", f"{each['change_per_token']:+.3f}"] for each in tuned]
    yield from _table(["run", "accuracy", "drift"], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def _sides(comparison: Json) -> str:
    return f"`{comparison['arm']}` - `{comparison['against']}`"


def _tested(each: Json) -> list[str]:
    numbers = [f"{each['p']:.3f}", f"{each['p_adjusted']:.3f}", _number(each["effect_size"], "+.2f")]
    drifted = ", ".join(f"`{run}`" for run in each["heavy_drift"])
    verdict = each["verdict"] + (f"; heavy drift: {drifted}" if drifted else "")
    return [*numbers, _number(each["smallest_detectable_difference"], ".3f"), verdict]


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _interval(each: Json, name: str, form: str = "+.3f") -> str:
    told = format(each[name], form)
    if each["low"] is None or each["high"] is None:
        return told
    return f"{told} [{each['low']:{form}}, {each['high']:{form}}]"


def _by_source(found: Json) -> list[list[str]]:
    of_sources = [own["described"] for own in found["sources"].values()]
    return [[_sides(own[0]), *(_interval(each, "difference") for each in own)] for own in zip(*of_sources, strict=True)]


def _cells(found: Json) -> list[list[str]]:
    rows, cells = [], {cell.name: cell for cell in CELLS}
    for each in found["table"]:
        if each["arm"] == BASE:
            continue
        own = [each, *(_of(source["table"], each["arm"]) for source in found["sources"].values())]
        numbers = [_cell(each, name, "+.2f") for name in METRICS if name != VERDICT_METRIC]
        accuracies = [_cell(one, VERDICT_METRIC, ".3f") for one in own]
        rate = f"{runs_of(cells[each['arm']], found['learning_rates'])[0].learning_rate:g}"
        rows.append([f"`{each['arm']}`", str(each["draws"]), rate, accuracies[0], *numbers, *accuracies[1:]])
    return rows


def _of(table: Sequence[Json], arm: str) -> Json:
    return next(row for row in table if row["arm"] == arm)


def _cell(row: Json, metric: str, form: str) -> str:
    return _interval(row["cells"][metric], "value", form)
