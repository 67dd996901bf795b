"""Which modules an adapter names, and whether others can be told by suffixes alone. Torch-free.

An adapter is handed out with the suffixes of its modules' names, which every server matches: what suffixes cannot tell
would come back as another adapter.
"""

from collections.abc import Collection, Iterable
from pathlib import Path

from deft.errors import Finding, InvalidInput, shown
from deft.models.files import read_settings

CONFIG = "adapter_config.json"
ALL = "all-linear"
"""The one word that PEFT itself resolves to names."""


def require_listed_targets(adapter: Path) -> None:
    """Refuse to start from the adapter in *adapter* where its target_modules is no list of names.

    Raises:
        InvalidInput: it is a pattern, or there is none.
        ModelNotUsable: adapter_config.json is no JSON object.
    """
    if not (adapter / CONFIG).is_file():
        return
    targets = read_settings(adapter, CONFIG).get("target_modules")
    if not isinstance(targets, list) and targets != ALL:
        raise _refusal("no target_modules" if targets is None else f"the pattern {shown(targets)} as target_modules")


def suffixes_of(names: Iterable[str]) -> list[str]:
    """Return the sorted last parts of modules' *names*."""
    return sorted({name.rpartition(".")[2] for name in names})


def require_all_by_suffix(adapted: Collection[str], matched: Collection[str]) -> None:
    """Check that the modules *adapted* are all those that their suffixes match, by full names.

    Raises:
        InvalidInput: they are not, since full names leave some layers out.
    """
    different = sorted(set(matched) ^ set(adapted))
    if different:
        raise _refusal(f"{len(adapted)} of {len(matched)} modules of these suffixes, without {shown(different[0])}")


def _refusal(found: str) -> InvalidInput:
    expected = "target_modules that lists suffixes of module names, alike in every layer"
    fix = "train that adapter again with such a list, or merge it into its base and register that as a model"
    finding = Finding("adapter_not_portable", found, expected, fix, pointer="/adapter")
    message = f"a training cannot start from this adapter: expected {expected}, found {found}; {fix}"
    return InvalidInput(message, code=finding.code, findings=[finding])
