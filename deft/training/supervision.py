"""What rows tell training besides their texts: the rewards of their responses (M8), and their weights. Torch-free.

Knows examples and specs; the losses that use the numbers are `deft.losses`.
"""

from collections.abc import Sequence
from typing import Literal

from deft.errors import Finding, InvalidInput
from deft.examples import Example
from deft.specs import ProMethod

RewardSource = Literal["scores", "ranks"]
LINES_NAMED = 20
LARGEST_GAP = 1_000_000
"""Beyond it a gap times a log-probability is no float32 any more that losses can be told apart by."""


def reward_source(method: ProMethod, *, has_scores: bool) -> RewardSource:
    """Return where the training rewards come from; *has_scores* says whether every row has scores.

    Raises:
        InvalidInput: scores were asked for, and not every row has them.
    """
    if method.rewards == "auto":
        return "scores" if has_scores else "ranks"
    if method.rewards == "scores" and not has_scores:
        raise _refusal(
            "no_scores",
            "rows without scores",
            "a score for every response of every row that is trained on",
            "add `scores` to the rows, or set method.rewards to ranks (gaps of 1)",
        )
    return method.rewards


def training_rewards(method: ProMethod, examples: Sequence[Example]) -> tuple[list[list[float]], RewardSource]:
    """Return r_k of M8 of every response, best first, by example, and where they come from.

    Only gaps matter: the last response has 0. Ranks have gaps of 1: N responses get N-1, ..., 1, 0.

    Raises:
        InvalidInput: scores were asked for and rows have none; the scores of every row all tie; or they lie further
            apart than `LARGEST_GAP`.
    """
    lines = [example.source_line for example in examples if example.scores is None]
    try:
        source = reward_source(method, has_scores=not lines)
    except InvalidInput as error:
        named = ", ".join(map(str, lines[:LINES_NAMED]))
        found = f"{len(lines)} of {len(examples)} rows without scores (lines {named})"
        raise _refusal(error.error_code, found, error.findings[0].expected, error.findings[0].fix) from error
    if source == "ranks":
        return [[float(rank) for rank in reversed(range(len(e.responses)))] for e in examples], source
    rewards = [[score - min(e.scores or ()) for score in e.scores or ()] for e in examples]
    _check_gaps(examples, rewards)
    return rewards, source


def _check_gaps(examples: Sequence[Example], rewards: Sequence[Sequence[float]]) -> None:
    """Refuse scores that PRO's ranking learns nothing from, or overflows with."""
    largest = max(max(own) for own in rewards)
    if largest == 0:
        raise _refusal(
            "scores_tie",
            "equal scores within every row",
            "rows whose scores differ: without a gap PRO's ranking has no gradient",
            "set method.rewards to ranks (gaps of 1)",
        )
    if not largest <= LARGEST_GAP:
        line = next(e.source_line for e, own in zip(examples, rewards, strict=True) if max(own) == largest)
        raise _refusal(
            "scores_too_far_apart",
            f"a gap of {largest:.6g} between two scores (line {line})",
            f"scores at most {LARGEST_GAP:,} apart: PRO multiplies mean log-probabilities by their gaps",
            "rescale the scores, to a spread of a few units, or set method.rewards to ranks (gaps of 1)",
        )


def row_weights(examples: Sequence[Example], *, are_used: bool) -> list[float] | None:
    """Return the weight of every row, 1 where it has none; None when no row has one or they are not used."""
    if not are_used or all(example.weight is None for example in examples):
        return None
    return [1.0 if example.weight is None else example.weight for example in examples]


def _refusal(code: str, found: str, expected: str, fix: str) -> InvalidInput:
    finding = Finding(code=code, pointer="/method/rewards", found=found, expected=expected, fix=fix)
    return InvalidInput(f"expected {expected}, found {found}: {fix}", code=code, findings=[finding])
