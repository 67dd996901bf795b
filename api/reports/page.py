"""The report of a pipeline as one self-contained HTML page: no script, no address of anybody, one style of its own.

It turns the JSON of `store.reports` into sections with charts and tables; the words are in the template.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from api.reports import charts
from api.reports.charts import Curve, Interval, Point
from api.reports.scales import number
from deft.reporting.cost import PARTS, QUALITY
from deft.reporting.curves import SERIES

Json = Mapping[str, Any]
TEMPLATES = Path(__file__).parent / "templates"


@cache
def environment() -> Environment:
    """Return the templates, every value escaped."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Any] = {"number": number, "signed": _signed, "pretty": _pretty, "words": _words}
    made.filters |= filters
    return made


@cache
def style() -> str:
    """Return the page's style."""
    return (TEMPLATES / "report.css").read_text(encoding="utf-8")


@cache
def policy() -> str:
    """Return a content security policy that allows the page its own style by its hash, and nothing else."""
    digest = base64.b64encode(hashlib.sha256(style().encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def page(report: Json) -> str:
    """Return the page of *report*."""
    comparison = report["comparison"] or {}
    return (
        environment()
        .get_template("report.html")
        .render(
            report=report,
            comparison=comparison,
            style=Markup(style()),  # noqa: S704 -- a file of ours
            policy=_in_document(),
            parts=PARTS,
            title=report["job"]["name"] or report["job"]["id"],
            charts=_charts(report, comparison),
            slices=_slices(report["slices"]),
        )
    )


def _in_document() -> str:
    """Return the policy as a page may state it itself: frames are the answer's matter."""
    return policy().partition("; frame-ancestors")[0]


def _signed(value: float | None) -> str:
    return number(value, is_signed=True)


def _words(text: str) -> Markup:
    """Return a sentence with what stands between backquotes as code."""
    return Markup(re.sub("`([^`]*)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 -- it was escaped first


def _pretty(value: Any) -> str:  # noqa: ANN401 -- JSON
    return json.dumps(value, indent=1, ensure_ascii=False)


def _charts(report: Json, comparison: Json) -> dict[str, Any]:
    return {
        "accuracy": _accuracy(comparison),
        "differences": _differences(comparison),
        "slices": _source_differences(comparison),
        "cost": _cost(report["cost_quality"]),
        "rewards": _rewards(report["rewards"]),
        "tokens": _tokens(report["discrepancy"]),
        "training": _training(report["training"]),
    }


def _accuracy(comparison: Json) -> Markup:
    cells = [(row["arm"], row["cells"].get(QUALITY)) for row in comparison.get("table", [])]
    rows = [Interval(arm, cell["value"], cell["low"], cell["high"]) for arm, cell in cells if cell is not None]
    return charts.intervals("Preference accuracy of every arm with 95 % intervals", rows, zero=0.5)


def _differences(comparison: Json) -> Markup:
    rows = [
        Interval(f"{each['arm']} - {each['against']}", each["difference"], each["low"], each["high"])
        for each in comparison.get("differences", [])
        if each["metric"] == QUALITY and each.get("slice", "all") == "all"
    ]
    title = "Paired differences in preference accuracy with 95 % intervals"
    return charts.intervals(title, rows, zero=0.0, is_signed=True)


def _source_differences(comparison: Json) -> Markup:
    """Return the differences of the focus by source."""
    rows = [
        Interval(
            f"{each['slice'].removeprefix('source:')}: - {each['against']}",
            each["difference"],
            each["low"],
            each["high"],
        )
        for each in comparison.get("differences", [])
        if each["metric"] == QUALITY and each.get("slice", "all") != "all" and each["arm"] == comparison["focus"]
    ]
    return charts.intervals("Paired differences by source", rows, zero=0.0, is_signed=True)


def _cost(curve: Json | None) -> Markup:
    found = (curve or {}).get("points", [])
    rows = [Point(p["arm"], p["total_seconds"], p["value"], p["low"], p["high"]) for p in found]
    return charts.points("Preference accuracy against seconds", rows, "seconds, scoring included", "accuracy")


def _rewards(rewards: Json | None) -> Markup:
    if rewards is None:
        return Markup()
    name = {"margin": "R_d of chosen less rejected", "rejected": "R_d of the rejected response"}
    edges, scored, kept = rewards["edges"], rewards["scored"], rewards["kept"]
    x_name = name.get(rewards["by"], "R_d of the chosen response")
    return charts.histogram("Distribution rewards of scored and kept rows", edges, scored, kept, rewards["cut"], x_name)


def _tokens(discrepancy: Json | None) -> Markup:
    found = (discrepancy or {}).get("leading_tokens", [])
    rows = [Interval(_visible(t), t["q_diff"], t["low"], t["high"]) for t in found]
    return charts.intervals("Leading tokens of Q_diff with 95 % intervals", rows, zero=0.0, is_signed=True)


def _visible(token: Json) -> str:
    """Return a token's text with its white space made visible."""
    return repr(token.get("text", token["token"]))[:24]


def _training(runs: Sequence[Json]) -> list[Markup]:
    """Return a chart a series, each with every run that has it."""
    found = []
    for name, said in SERIES.items():
        rows = [
            Curve(run["run"], run["series"][name]["steps"], run["series"][name]["values"])
            for run in runs
            if name in run["series"]
        ]
        found.append(charts.curves(f"{said} of every run", rows, "optimiser step", said))
    return [chart for chart in found if chart]


def _slices(rows: Sequence[Json]) -> list[dict[str, Any]]:
    """Return one table a metric, and judging: a slice a row, a system a column."""
    found = []
    for metric, judging_id in dict.fromkeys((row["metric"], row["judging_id"]) for row in rows):
        own = [row for row in rows if (row["metric"], row["judging_id"]) == (metric, judging_id)]
        systems = list(dict.fromkeys(row["system"] for row in own))
        cells = {(row["slice"], row["system"]): row for row in own}
        names = list(dict.fromkeys(row["slice"] for row in own))
        table = [{"slice": name, "cells": [cells.get((name, system)) for system in systems]} for name in names]
        found.append({"metric": metric, "judging_id": judging_id, "systems": systems, "rows": table})
    return found
