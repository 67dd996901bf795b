"""What an answer does with its request, and the words that people's labels have for it. Pure Python.

The kinds are XSTest's (Röttger et al. 2023, arXiv 2308.01263): full compliance, full refusal, partial refusal;
incoherent is ours.
"""

from typing import Literal

Kind = Literal["compliance", "refusal", "partial", "incoherent"]
KINDS: tuple[Kind, ...] = ("compliance", "refusal", "partial", "incoherent")

WORDS: tuple[tuple[str, Kind], ...] = (
    ("compliance", "compliance"),
    ("partial", "partial"),
    ("refusal", "refusal"),
    ("incoherent", "incoherent"),
)


def kind_named(label: str) -> Kind | None:
    """Return the kind that a published *label* (`1_full_compliance`) means, None for free text."""
    lowered = label.strip().lower()
    if len(lowered) > 30:
        return None
    return next((kind for word, kind in WORDS if word in lowered), None)
