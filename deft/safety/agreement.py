"""How the refusal rules, or a judge, agree with labels of people, from a file that the user has. No row is shown.

Known label words are XSTest's published ones (`1_full_compliance`, `2_full_refusal`, `3_partial_refusal`) and ours.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scipy import stats

from deft.data.answer_kinds import KINDS, Kind, kind_named
from deft.data.readers import open_source
from deft.errors import Finding, InvalidInput
from deft.safety.refusals import kind_of


@dataclass(frozen=True, slots=True)
class Agreement:
    """Counts of (label of people, what was told); *unknown* rows have a label that is none of ours.

    *untold* answers are those of which nothing sure was said.
    """

    counts: Counter[tuple[Kind, Kind]]
    unknown: int = 0
    untold: int = 0

    @property
    def n(self) -> int:
        """Rows with a known label."""
        return self.counts.total()

    @property
    def share(self) -> float:
        """Share of rows on which both say the same."""
        return sum(n for (one, other), n in self.counts.items() if one == other) / self.n

    @property
    def share_of_two(self) -> float:
        """The same where only compliance and the rest are told apart."""
        same = [n for (one, other), n in self.counts.items() if (one == "compliance") == (other == "compliance")]
        return sum(same) / self.n

    def of_kind(self, kind: Kind) -> tuple[int, int]:
        """Return on how many of the rows that people call *kind* both say the same, and how many there are."""
        rows = sum(n for (one, _), n in self.counts.items() if one == kind)
        return self.counts[kind, kind], rows

    @property
    def kappa(self) -> float:
        """Cohen's kappa (1960): agreement beyond what their own frequencies would give; 1 where both are one."""
        people, rules = Counter[Kind](), Counter[Kind]()
        for (one, other), n in self.counts.items():
            people[one] += n
            rules[other] += n
        chance = sum(people[kind] * rules[kind] for kind in KINDS) / self.n**2
        return 1.0 if chance == 1 else (self.share - chance) / (1 - chance)


def agreement_of(kinds: Sequence[Kind | None], labels: Sequence[str]) -> Agreement:
    """Compare *kinds* with *labels*, answer by answer; None could not be told."""
    counts: Counter[tuple[Kind, Kind]] = Counter()
    unknown = untold = 0
    for kind, label in zip(kinds, labels, strict=True):
        known = kind_named(label)
        if known is None:
            unknown += 1
        elif kind is None:
            untold += 1
        else:
            counts[known, kind] += 1
    return Agreement(counts, unknown, untold)


_NAMED = r"(compliance|refusal|partial|incoherent)\W*$"
_LAST_LINE = re.compile(rf"^[^\w\n]*kind\W*{_NAMED}", re.IGNORECASE | re.MULTILINE)
_MENTION = re.compile(rf"\bkind\W*{_NAMED}", re.IGNORECASE | re.MULTILINE)
"""A kind at the end of a line that says more: too unsure to count, but another one beside it makes none sure."""


def kind_in(reply: str) -> Kind | None:
    """Return the one kind that a judge's *reply* names (`deft.judges.templates.kind_question`), else None."""
    sure, named = ({found.lower() for found in lines.findall(reply)} for lines in (_LAST_LINE, _MENTION))
    return next(kind for kind in KINDS if kind in sure) if len(sure) == len(sure | named) == 1 else None


Half = Literal["development", "held_out"]


def half_of(request: str) -> Half:
    """Return the half of a *request*, by its SHA-256: the same in every file and for every model's answers."""
    digest = hashlib.sha256(request.strip().encode()).hexdigest()
    return "held_out" if int(digest[:8], 16) % 2 else "development"


def share_interval(hits: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of *hits* among *n*, n > 0: Jeffreys (Brown, Cai and DasGupta 2001)."""
    low, high = stats.beta.ppf([0.025, 0.975], hits + 0.5, n - hits + 0.5)
    return (0.0 if hits == 0 else float(low)), (1.0 if hits == n else float(high))


Tell = Callable[[Sequence[tuple[str, str]]], Sequence[Kind | None]]
"""Says of each (request, answer) what the answer does."""


def by_rules(pairs: Sequence[tuple[str, str]]) -> list[Kind | None]:
    """Tell by the rules."""
    return [kind_of(answer, request) for request, answer in pairs]


def agreement_in(
    path: Path,
    *,
    request: str = "prompt",
    answer: str = "completion",
    label: str = "final_label",
    tell: Tell = by_rules,
    half: Half | None = None,
) -> Agreement:
    """Compare *tell* with the labels in the file at *path* (CSV, JSONL, Parquet, also compressed).

    With *half* only of requests that fall in it: a rule is written while looking at one, and tested on the other.

    Raises:
        InvalidInput: it lacks one of the columns, or no row has a known label.
        InvalidRows: it cannot be read.
    """
    rows = [row for _, row in open_source(path).records if isinstance(row, dict)]
    usable = [row for row in rows if isinstance(row.get(answer), str) and isinstance(row.get(label), str)]
    usable = [row for row in usable if half in (None, half_of(str(row.get(request, ""))))]
    kinds = tell([(str(row.get(request, "")), row[answer]) for row in usable])
    found = agreement_of(kinds, [row[label] for row in usable])
    if found.n == 0:
        finding = Finding(
            "no_labels", "no row with both", f"columns {answer} and {label}", "name them with the options"
        )
        raise InvalidInput("The file has no labelled answers.", code="no_labels", findings=[finding])
    return found
