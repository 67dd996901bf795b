import json
from typing import Any

import pytest

from deft.evaluation.harness_results import parsed, rows_of
from deft.evaluation.metrics import Who

NUMBERS = {"acc,none": 0.5, "acc_stderr,none": 0.1}
DOCUMENT = {
    "results": {"arc": NUMBERS},
    "higher_is_better": {"arc": {"acc": True}},
    "versions": {"arc": 2.0},
    "n-shot": {"arc": 0},
    "n-samples": {"arc": {"effective": 40}},
}


def rows(**changes: Any) -> list[dict[str, Any]]:
    found = parsed(json.dumps(DOCUMENT | changes))
    assert found is not None
    return [row for row, _ in rows_of(found, Who("base", "base"), None, {})]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"results": []}',
        '{"results": {"arc": 7}}',
        '{"results": ' + "[" * 100_000,
        '{"results": {}, "more": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"results": {}, "more": ' + "9" * 5_000 + "}",
        json.dumps(DOCUMENT | {"higher_is_better": {"arc": ["acc"]}}),
        json.dumps(DOCUMENT | {"n-samples": {"arc": 7}}),
        json.dumps(DOCUMENT | {"results": {"a" * 3_800: NUMBERS}}),
        json.dumps(DOCUMENT | {"results": {"a\0": NUMBERS}}),
        json.dumps(DOCUMENT | {"results": {"a\ud800": NUMBERS}}),
        json.dumps(DOCUMENT | {"results": {"arc": {"acc\n,none": 1.0}}}),
    ],
)
def test_what_has_another_form_is_not_understood(text: str) -> None:
    assert parsed(text) is None


@pytest.mark.parametrize("value", [10**400, "0.5", None, True, [0.5], float("nan"), float("inf")])
def test_what_is_no_number_is_no_score(value: object) -> None:
    assert rows(results={"arc": {"acc,none": value}}) == []


@pytest.mark.parametrize("error", [10**400, "N/A", None, -0.1, float("nan"), 1e308])
def test_an_error_that_gives_no_interval_leaves_it_out(error: object) -> None:
    (row,) = rows(results={"arc": {"acc,none": 1e308, "acc_stderr,none": error}})
    assert (row["value"], row["low"], row["high"]) == (1e308, None, None)


@pytest.mark.parametrize(("effective", "n"), [(40, 40), ("many", None), (-1, None), (2**31, None), (True, None)])
def test_a_number_of_documents_is_one_that_can_be(effective: object, n: int | None) -> None:
    assert [row["n"] for row in rows(**{"n-samples": {"arc": {"effective": effective}}})] == [n]


def test_a_name_that_stands_there_twice_is_one_score() -> None:
    twice = {"acc": 0.25, "acc,none": 0.5}
    assert [(row["metric"], row["value"]) for row in rows(results={"arc": twice})] == [("lm_eval:arc/acc", 0.25)]


def test_versions_that_are_no_versions_are_left_out_of_the_settings() -> None:
    found = parsed(json.dumps(DOCUMENT | {"lm_eval_version": "\ud800", "versions": {"arc": [1]}, "n-shot": {"arc": 5}}))
    assert found is not None
    ((_, settings),) = rows_of(found, Who("base", "base"), None, {})
    assert (settings["program"], settings["task"]) == (None, ["arc", None, 5])


def test_a_whole_number_is_stored_as_a_double() -> None:
    (row,) = rows(results={"arc": {"acc,none": 10**30}})
    assert (row["value"], type(row["value"])) == (1e30, float)
