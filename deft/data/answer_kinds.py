"""What an answer does with its request, and the words that people's labels have for it. Pure Python.

The kinds are XSTest's (Röttger et al. 2023, arXiv 2308.01263): full compliance, full refusal, partial refusal;
incoherent is ours.
"""

import re
from collections.abc import Mapping
from typing import Literal

Kind = Literal["compliance", "refusal", "partial", "incoherent"]
KINDS: tuple[Kind, ...] = ("compliance", "refusal", "partial", "incoherent")

NAMES: Mapping[str, Kind] = {
    **{kind: kind for kind in KINDS},
    "full compliance": "compliance",
    "full refusal": "refusal",
    "partial refusal": "partial",
}
"""Ours, and XSTest's as published but for the number before each (`1_full_compliance`)."""

EXPECTED = "compliance, refusal, partial, incoherent; XSTest's 1_full_compliance, 2_full_refusal, 3_partial_refusal"

_NUMBER, _GAPS = re.compile(r"^\d+[\s_]+"), re.compile(r"[\s_]+")


def kind_named(label: str) -> Kind | None:
    """Return the kind that *label* names in whole, None for any other text: no part of a word or of a text counts.

    Case, a number before the name, and whether spaces or underscores part its words do not matter.
    """
    return NAMES.get(_GAPS.sub(" ", _NUMBER.sub("", label.strip().lower())).strip())
