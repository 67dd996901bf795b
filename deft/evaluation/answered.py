"""Whether an evaluation has the answers that a judging asks for, by its prompts and its systems' names. Torch-free.

Knows no judge. A door asks it before a job is stored, and the judging itself before anything is asked.
"""

import json
from collections.abc import Collection, Sequence
from pathlib import Path

from deft.errors import Finding, InvalidInput, shown
from deft.evaluation.asked import Asked, read_asked
from deft.specs import JudgeSpec


def require_answered(folder: Path, spec: JudgeSpec) -> None:
    """Refuse *spec* where the evaluation in *folder* has no answers to judge by it.

    Raises:
        InvalidInput: as `asked_for` and `require_systems`.
    """
    asked_for(folder, spec)
    require_systems(spec, _systems(folder / "generations.jsonl", spec))


def asked_for(folder: Path, spec: JudgeSpec) -> list[Asked]:
    """Return the prompts of the evaluation in *folder* that *spec* means, of mode `safety` the labelled ones.

    Raises:
        InvalidInput: `no_answers`, `unknown_prompt_set`, or `nothing_to_judge`: none of the prompts has a label.
    """
    prompts = read_asked(folder / "prompts.jsonl")
    _require_sets(spec, {prompt.set for prompt in prompts})
    meant = [prompt for prompt in prompts if spec.prompt_sets is None or prompt.set in spec.prompt_sets]
    if spec.mode != "safety":
        return meant
    labelled = [prompt for prompt in meant if prompt.is_labelled]
    if not labelled:
        is_elsewhere = any(prompt.is_labelled for prompt in prompts)
        pointer, verb = ("/prompt_sets", "judge") if is_elsewhere else ("/evaluation", "evaluate with")
        expected, fix = "prompts labelled safe or unsafe", f"{verb} a prompt set that has labels, as XSTest"
        raise _refusal("nothing_to_judge", pointer, "no prompt with a label", expected, fix)
    return labelled


def require_systems(spec: JudgeSpec, known: Sequence[str]) -> None:
    """Refuse *spec* where it names a system that is not *known* to have answered, or compares one with none.

    Raises:
        InvalidInput: `unknown_system`, `nothing_to_compare`.
    """
    wanted = {"/against": [spec.against], "/systems": spec.systems or []}
    for pointer, names in wanted.items():
        for name in names:
            if name not in known:
                raise _refusal("unknown_system", pointer, name, ", ".join(known), "name systems that answered")
    if spec.mode == "pairwise" and len(known) < 2:
        expected, fix = "two systems or more", "evaluate an adapter beside the base, or judge with mode single"
        raise _refusal("nothing_to_compare", "/evaluation", "answers of one system", expected, fix)


def _systems(path: Path, spec: JudgeSpec) -> list[str]:
    """Return the systems that answered, read as far as it takes to find those that *spec* names."""
    found: dict[str, None] = {}
    wanted = {spec.against, *(spec.systems or [])}
    with path.open(encoding="utf-8") as file:
        for line in file:
            found[json.loads(line)["system"]] = None
            if wanted <= found.keys() and len(found) > 1:
                break
    return list(found)


def _require_sets(spec: JudgeSpec, known: Collection[str]) -> None:
    if not known:
        expected = "an evaluation with answers"
        raise _refusal("no_answers", "/evaluation", "no answers", expected, "evaluate with `prompts` or `prompt_sets`")
    missing = [name for name in spec.prompt_sets or [] if name not in known]
    if missing:
        expected = ", ".join(sorted(known))
        raise _refusal("unknown_prompt_set", "/prompt_sets", missing[0], expected, "name sets that were answered")


def _refusal(code: str, pointer: str, found: str, expected: str, fix: str) -> InvalidInput:
    finding = Finding(code=code, pointer=pointer, found=shown(found), expected=expected, fix=fix)
    return InvalidInput(f"{pointer}: found {shown(found)}, expected {expected}", code=code, findings=[finding])
