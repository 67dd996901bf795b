"""The list of what the paper leaves open names options that there are, and claims nothing about the paper."""

import json
import re
from pathlib import Path

from deft.specs import DEFAULT_ARMS, job_spec

PAGE = Path(__file__).parents[2] / "docs" / "ambiguities.md"
ROW = re.compile(r"^\| A(\d+) \| (.+) \| (.+) \| (.+) \| (.*)\|$", re.MULTILINE)
OTHER_WORDS = {"check_data", "auto", "warn", "Human:", "Assistant:"}


def fields(schema: object) -> set[str]:
    """Return every property name in *schema*."""
    if isinstance(schema, list):
        return set().union(*map(fields, schema))
    if not isinstance(schema, dict):
        return set()
    own = set(schema.get("properties", {}))
    return own.union(*map(fields, schema.values()))


def test_the_rows_are_numbered_and_the_papers_column_is_empty() -> None:
    rows = ROW.findall(PAGE.read_text())
    assert [int(row[0]) for row in rows] == list(range(1, len(rows) + 1))
    assert len(rows) > 20
    assert all(row[4].strip() == "" for row in rows)


def test_every_option_that_is_named_is_a_field_of_a_job() -> None:
    known = fields(json.loads(json.dumps(job_spec.json_schema()))) | set(DEFAULT_ARMS) | OTHER_WORDS
    for number, _, option, _, _ in ROW.findall(PAGE.read_text()):
        for word in re.findall(r"`([^`]+)`", option):
            parts = [part for part in re.split(r"[.: ]+", word) if part]
            assert word in known or parts[0] in known, f"A{number}: `{word}`"
            assert "." not in word or parts[1] in known, f"A{number}: `{word}`"
