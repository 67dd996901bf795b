"""A spec names a reward model once; those that evaluate share no weights or rows with those trained on. Torch-free.

The same is asked when a job is posted and when it runs. It must not know where reward models are kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deft.errors import Finding, InvalidInput
from deft.models.copies import is_copy
from deft.reward_models.rows import Learnt, shared


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a reward model that a spec names at *pointer*; None: not known.

    *base_hash* is of the weights that its training started from, *folder* where its files lie.
    """

    name: str
    pointer: str
    weights_hash: str | None
    learnt: Learnt | None
    base_hash: str | None = None
    folder: Path | None = None


def require_apart(evaluating: Sequence[Known], trained_on: Sequence[Known]) -> None:
    """Refuse reward models that evaluate and share weights or rows with one that was *trained_on*.

    Weights are shared by a copy, in whatever files and rounded to whatever type, and by a training of one from the
    other, as far as the hash of what it started from is on record. Rows are shared where a prompt has a response that
    both learnt from, whatever its rank and whatever else is in the row.

    Raises:
        InvalidInput: there is one.
    """
    for own in evaluating:
        for other in trained_on:
            _require_apart(own, other)


def require_once(named: Sequence[Known]) -> None:
    """Refuse a reward model that is *named* twice: by its id, by its name, by the job that made it, or as a copy.

    Raises:
        InvalidInput: one is.
    """
    for place, own in enumerate(named):
        for other in named[:place]:
            if _is_same(own, other):
                found = f"{own.name}, which {other.pointer} names already"
                finding = Finding("named_twice", found, "every reward model once", "leave one out", own.pointer)
                raise InvalidInput("a reward model is named twice", code="named_twice", findings=[finding])


def _is_same(own: Known, other: Known) -> bool:
    if own.name == other.name or (own.weights_hash is not None and own.weights_hash == other.weights_hash):
        return True
    return own.folder is not None and other.folder is not None and is_copy(own.folder, other.folder)


def _started_from(own: Known, other: Known) -> bool:
    return own.base_hash is not None and own.base_hash == other.weights_hash


def _require_apart(own: Known, other: Known) -> None:
    if _is_same(own, other):
        raise _shared(own, "weights", f"the weights of {other.name}, which was trained on")
    if _started_from(own, other):
        raise _shared(own, "weights", f"weights that were trained from those of {other.name}, which was trained on")
    if _started_from(other, own):
        raise _shared(own, "weights", f"the weights from which {other.name}, which was trained on, was trained")
    both = None if own.learnt is None or other.learnt is None else shared(own.learnt, other.learnt)
    if both is not None:
        learnt = f"{both.number} {both.what} that {other.name}, which was trained on, learnt from too"
        example = f"one is in row {both.row} of its dataset and in row {both.other_row} of the other's"
        brief = f"{both.number} {both.what} of {other.name}: row {both.other_row} there, {both.row} here"
        raise _shared(own, "rows", f"{learnt}: {example}", brief)


def _shared(own: Known, what: str, found: str, brief: str | None = None) -> InvalidInput:
    """Return the refusal; *brief* stands for *found* in the finding, where only 80 characters of it are shown."""
    code = f"reward_models_share_{what}"
    finding = Finding(
        code=code,
        pointer=own.pointer,
        found=brief or found,
        expected="a reward model of other weights, trained on other responses",
        fix="train the reward model that evaluates on rows of other prompts, or list it in training_reward_models",
    )
    return InvalidInput(f"a reward model that evaluates has {found}", code=code, findings=[finding])
