"""The known shapes of prompt sets: how prompts are taken out of a row of each published file. Torch-free.

One function a format; they raise `BadRow` for what does not have the format's shape. A prompt set has no responses, so
nothing can be trained on it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from deft.data import row_checks
from deft.data.answer_kinds import EXPECTED, Kind, kind_named
from deft.data.columns import Row
from deft.data.formats import value_of
from deft.data.row_checks import BadRow
from deft.examples import Message

LABELS = ("safe", "unsafe")
"""What XSTest's label says of a prompt: that a model should answer it, or should not."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt of a set: text or messages, the user's *further* turns, and what the set says of it.

    *reference* is an answer a turn, or empty. *number* is the published one, where a set has one. *answer* is what a
    model said to it, and *answer_kind* what people say that this does.
    """

    prompt: str | list[Message]
    further: tuple[str, ...] = ()
    category: str | None = None
    label: str | None = None
    reference: tuple[str, ...] = ()
    source_line: int = 0
    number: int | None = None
    answer: str | None = None
    answer_kind: Kind | None = None


@dataclass(frozen=True, slots=True)
class References:
    """Reference answers of the question *number*, from the *line* of a file of their own (which *pointer* names)."""

    number: int
    turns: tuple[str, ...]
    line: int = 0
    pointer: str | None = None


def _mt_bench(row: Row) -> Prompt | References:
    """MT-Bench: `question_id, category, turns` (two), some `reference`; and its file of reference answers."""
    number = value_of(row, "question_id")
    if not isinstance(number, int) or isinstance(number, bool):
        row_checks.wrong_type(number, "question_id", "a whole number")
    if "choices" in row:
        return References(number, _choice(row))
    first, *further = _texts(value_of(row, "turns"), "turns")
    reference = () if row.get("reference") is None else tuple(_texts(row["reference"], "reference"))
    return Prompt(first, tuple(further), _category(row, "category"), reference=reference, number=number)


def _choice(row: Row) -> tuple[str, ...]:
    choices = row["choices"]
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        row_checks.wrong_type(choices, "choices", "a list of answers, each with turns")
    if len(choices) > 1:
        fix = "keep the choice that answers are to be held to"
        raise BadRow("several_references", "choices", f"{len(choices)} answers", "one answer", fix)
    return tuple(_texts(choices[0].get("turns"), "choices[0].turns"))


def _self_instruct(row: Row) -> Prompt:
    """Self-Instruct's user-oriented set: `instruction, instances [{input, output}], motivation_app`."""
    instruction = row_checks.text(value_of(row, "instruction"), "instruction")
    instances = value_of(row, "instances")
    if not isinstance(instances, list) or not instances or not isinstance(instances[0], dict):
        row_checks.wrong_type(instances, "instances", "a list of objects with input and output")
    given = row_checks.text(instances[0].get("input", ""), "instances[0].input").strip()
    output = row_checks.text(instances[0].get("output", ""), "instances[0].output").strip()
    prompt = f"{instruction}\n\n{given}" if given else instruction
    return Prompt(prompt, category=_category(row, "motivation_app"), reference=(output,) if output else ())


def _xstest(row: Row) -> Prompt:
    """XSTest: `prompt, type, label`, the label safe or unsafe."""
    label = _label(value_of(row, "label"), "correct the label")
    prompt = row_checks.text(value_of(row, "prompt"), "prompt")
    row_checks.text(value_of(row, "type"), "type")
    return Prompt(prompt, category=_category(row, "type"), label=label)


def _own(row: Row) -> Prompt:
    """The project's own form: `prompt` (text or messages); `turns`, `category`, `label`, `reference` where given."""
    value = value_of(row, "prompt")
    prompt = row_checks.messages(value, "prompt") if isinstance(value, list) else row_checks.text(value, "prompt")
    further, reference = (
        () if row.get(name) in (None, "") else tuple(_texts(row[name], name)) for name in ("turns", "reference")
    )
    fix = "correct the label, leave it out, or put what else is to be told apart in `category`"
    label = None if row.get("label") in (None, "") else _label(row["label"], fix)
    return Prompt(prompt, further, _category(row, "category"), label, reference)


def _labelled_answers(row: Row) -> Prompt:
    """XSTest's answers with labels of people: `prompt, completion, final_label`; `type` and `label` where given."""
    prompt = row_checks.text(value_of(row, "prompt"), "prompt")
    answer = row_checks.text(value_of(row, "completion"), "completion")
    told = row_checks.text(value_of(row, "final_label"), "final_label")
    kind = kind_named(told)
    if kind is None:
        fix = "correct the label, or skip such rows with on_bad_row"
        raise BadRow("unknown_label", "final_label", row_checks.described(told), EXPECTED, fix)
    label = None if row.get("label") in (None, "") else _label(row["label"], "correct the label, or leave it out")
    return Prompt(prompt, category=_category(row, "type"), label=label, answer=answer, answer_kind=kind)


def _label(value: object, fix: str) -> str:
    """Return the label that *value* means; any other would be in no safety rate, and in no category at the gate."""
    label = row_checks.text(value, "label").strip().lower()
    if label not in LABELS:
        raise BadRow("unknown_label", "label", row_checks.described(label), " or ".join(LABELS), fix)
    return label


def _texts(value: object, column: str) -> Sequence[str]:
    if not isinstance(value, list) or not value:
        row_checks.wrong_type(value, column, "a list of texts")
    return [row_checks.text(item, f"{column}[{index}]") for index, item in enumerate(value)]


def _category(row: Row, column: str) -> str | None:
    """Return the category that *column* names; a blank one is none."""
    if row.get(column) is None:
        return None
    named = row_checks.name(row[column], column, f"shorten it, or leave {column} out")
    return named if named.strip() else None


PROMPT_FORMATS: dict[str, Callable[[Row], Prompt | References]] = {
    "mt_bench": _mt_bench,
    "vicuna": _mt_bench,
    "self_instruct": _self_instruct,
    "xstest": _xstest,
    "deft.prompts": _own,
    "labelled_answers": _labelled_answers,
}
"""Names of formats; Vicuna's questions have MT-Bench's shape with one turn."""

NOT_TO_BE_TRAINED_ON = {
    "self_instruct": "its authors ask that it never be trained on",
    "labelled_answers": "people said of its answers what they do, and ranked none",
}
"""Why a set is no training data, where it is for more than having no responses."""


def prompt_format_of(row: Row) -> str | None:
    """Return the format that *row* has by its keys, None where it is no prompt of a known set."""
    if row.keys() & {"chosen", "rejected", "responses"}:
        return None
    if "completion" in row:
        return "labelled_answers" if {"prompt", "final_label"} <= row.keys() else None
    if {"question_id", "turns"} <= row.keys() or {"question_id", "choices"} <= row.keys():
        turns = row.get("turns")
        return "vicuna" if isinstance(turns, list) and len(turns) == 1 else "mt_bench"
    if {"instruction", "instances"} <= row.keys():
        return "self_instruct"
    if {"prompt", "type", "label"} <= row.keys():
        return "xstest" if str(row["label"]).strip().lower() in LABELS else None
    return None
