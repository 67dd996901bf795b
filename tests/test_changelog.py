"""The changelog can be read: known sections, an item a change, lines that fit a screen."""

import re
from pathlib import Path

LINES = (Path(__file__).parents[1] / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
SECTIONS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_lines_are_short_and_sections_are_those_of_keep_a_changelog() -> None:
    assert max(map(len, LINES)) <= 120
    headings = [line.removeprefix("### ") for line in LINES if line.startswith("### ")]
    assert set(headings) <= SECTIONS
    assert all(re.match(r"$|#|- |  \S|The format is ", line) for line in LINES)
