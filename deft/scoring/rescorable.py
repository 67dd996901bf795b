"""Whether a Q_diff can serve where it is named: with another scoring's states, under another model's head. Torch-free.

The same is asked when a job is posted, of what is on record then, and when it runs. It reads names of files and the
header of distribution.safetensors.
"""

from dataclasses import dataclass
from pathlib import Path

from deft.errors import ArtifactCorrupt, Finding, InvalidInput
from deft.scoring.extending import HIDDEN

PROJECTION = "projection.safetensors"
_CODE = "distribution_of_another_tokenizer"


@dataclass(frozen=True, slots=True)
class Counted:
    """What a Q_diff was counted with: the hash of the tokenizer (empty: not on record), and over V tokens."""

    tokenizer: str
    vocabulary_size: int


def counted_in(folder: Path) -> Counted:
    """Return what the Q_diff in *folder* was counted with.

    Raises:
        ArtifactCorrupt: it cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(folder / "distribution.safetensors"), framework="numpy") as file:
            (size,) = file.get_slice("q_diff").get_shape()
            return Counted((file.metadata() or {}).get("tokenizer_sha256", ""), size)
    except (OSError, ValueError, SafetensorError) as error:
        raise ArtifactCorrupt(f"distribution.safetensors is not a distribution: {error}") from error


def require_states(folder: Path, pointer: str, *, needs_hidden: bool = True) -> None:
    """Refuse a scoring whose R_d is no function of mean hidden states, so that it has none.

    Raises:
        InvalidInput: so it is.
    """
    if all((folder / name).is_file() for name in [PROJECTION, *([HIDDEN] if needs_hidden else [])]):
        return
    raise _refusal(
        "not_linear",
        pointer,
        "a scoring without mean hidden states: its model's head is soft-capped, so R_d is no function of them",
        "a scoring of a model with a linear head",
        "score the dataset again with the other Q_diff's data as `count_rows`, or select by the scoring's own Q_diff",
    )


def require_same_tokenizer(own: Counted, other: Counted) -> None:
    """Refuse a Q_diff that was counted with the *other* tokenizer where the scoring's own is given.

    Raises:
        InvalidInput: they differ, or V does.
    """
    if own == other:
        return
    expected, found = (
        f"counted with tokenizer {each.tokenizer[:12] or 'unknown'} over {each.vocabulary_size} tokens"
        for each in (own, other)
    )
    fix = "score that dataset with this scoring's model"
    raise _refusal(_CODE, "/distribution", f"a distribution {found}", f"one {expected}", fix)


def require_vocabulary(counted: Counted, vocabulary_size: int, pointer: str) -> None:
    """Refuse a Q_diff that was not counted over the *vocabulary_size* tokens of the model that is to use it.

    Raises:
        InvalidInput: so it is.
    """
    if counted.vocabulary_size == vocabulary_size:
        return
    found = f"a Q_diff counted over {counted.vocabulary_size} tokens"
    expected = f"one over the {vocabulary_size} tokens of the model's vocabulary"
    fix = "score the data with this model first, or use the model that it was scored with"
    finding = Finding(code=_CODE, pointer=pointer, found=found, expected=expected, fix=fix)
    raise InvalidInput(f"expected {expected}, found {found}: {fix}", code=_CODE, findings=[finding])


def _refusal(code: str, pointer: str, found: str, expected: str, fix: str) -> InvalidInput:
    finding = Finding(code=code, pointer=pointer, found=found, expected=expected, fix=fix)
    return InvalidInput(f"The scoring cannot be used with this Q_diff: found {found}.", code=code, findings=[finding])
