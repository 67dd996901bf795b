"""The known shapes of preference data: how prompt and responses are taken out of a row of each. Torch-free.

One function a format; they raise `BadRow` for what does not have the format's shape. Which format a file has, and what
every format shares, is in `deft.data.importers`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from deft.data import row_checks
from deft.data.columns import Row
from deft.data.row_checks import BadRow
from deft.errors import shown
from deft.examples import ASSISTANT_MARK, HUMAN_MARK, Message, is_transcript


@dataclass(frozen=True, slots=True)
class Columns:
    """The user's name of each column that is read; empty means that the column is left unread."""

    prompt: str = "prompt"
    chosen: str = "chosen"
    rejected: str = "rejected"
    responses: str = "responses"
    scores: str = "scores"
    ranks: str = "ranks"
    weight: str = "weight"
    source: str = "source"
    aspect: str = "aspect"
    split: str = "split"


@dataclass(frozen=True, slots=True)
class Picked:
    """What a format's own function takes out of a row."""

    prompt: str | list[Message]
    responses: Sequence[str]
    places: Sequence[str]


def _transcript(row: Row, columns: Columns) -> Picked:
    """HH-RLHF: whole dialogues in chosen and rejected, which part after the last assistant mark."""
    (prompt, chosen), (other, rejected) = (_cut(row, name) for name in (columns.chosen, columns.rejected))
    if prompt != other:
        place = next(
            (i for i, (a, b) in enumerate(zip(prompt, other, strict=False)) if a != b), min(len(prompt), len(other))
        )
        raise BadRow(
            "context_mismatch",
            columns.rejected,
            f"dialogues that differ from character {place + 1}, before the last turn",
            "the same dialogue up to the last Assistant: mark",
            "make both dialogues equal up to their last turn, or remove the row",
        )
    return Picked(prompt, (chosen, rejected), (columns.chosen, columns.rejected))


def _cut(row: Row, column: str) -> tuple[str, str]:
    dialogue = row_checks.text(value_of(row, column), column)
    context, mark, response = dialogue.rpartition(ASSISTANT_MARK)
    if not mark:
        found, expected = row_checks.described(dialogue), "a dialogue with a turn '\\n\\nAssistant: ...'"
        raise BadRow("no_assistant_turn", column, found, expected, "mark the turns, or give the prompt in a column")
    if "\n\nHuman:" in response:
        found, expected = "a dialogue that ends with a Human turn", "a dialogue that ends with an Assistant turn"
        raise BadRow("last_turn", column, found, expected, "cut the dialogue after its last Assistant turn")
    return context + mark, response.strip()


def _plain(row: Row, columns: Columns) -> Picked:
    """TRL explicit, plain: prompt, chosen and rejected are text, kept as they are.

    After a transcript's `Assistant:` the blanks around a response belong to the mark, as in HH-RLHF's own form.
    """
    prompt = row_checks.text(value_of(row, columns.prompt), columns.prompt)
    places = (columns.chosen, columns.rejected)
    responses = [row_checks.text(value_of(row, place), place) for place in places]
    return Picked(prompt, _after(prompt, responses), places)


def _after(prompt: str, responses: Sequence[str]) -> Sequence[str]:
    return [response.strip() for response in responses] if is_transcript(prompt) else responses


def _messages(row: Row, columns: Columns) -> Picked:
    """TRL explicit, conversational: the prompt as messages, each response as one assistant message.

    Sets are also published with a prompt of plain text (one user message), with a response of plain text (one
    assistant message), and with responses that repeat the prompt's messages: all of these are read.
    """
    places = (columns.chosen, columns.rejected)
    value, answers = value_of(row, columns.prompt), [value_of(row, place) for place in places]
    if isinstance(value, str):
        if all(isinstance(answer, list) and len(answer) > 1 for answer in answers):
            return _whole_messages(row, columns)
        prompt = [Message(role="user", content=row_checks.prompt_is_not_empty(value, columns.prompt))]
    else:
        prompt = row_checks.messages(value, columns.prompt)
    return Picked(
        prompt, [_answer(answer, place, prompt) for answer, place in zip(answers, places, strict=True)], places
    )


def _answer(value: object, column: str, prompt: list[Message]) -> str:
    if isinstance(value, str):
        return value
    turns = row_checks.messages(value, column)
    if turns[: len(prompt)] == prompt:
        turns = turns[len(prompt) :]
    if len(turns) != 1 or turns[0]["role"] != "assistant":
        found = f"messages of {shown(', '.join(turn['role'] for turn in turns))}"
        fix = "move earlier turns to the prompt, and make them equal for all responses"
        raise BadRow("response_turns", column, found, "one assistant message after the prompt", fix)
    return turns[0]["content"]


def _whole_messages(row: Row, columns: Columns) -> Picked:
    """TRL implicit, conversational: whole conversations, which part at the first message that differs."""
    places = (columns.chosen, columns.rejected)
    chosen, rejected = (row_checks.messages(value_of(row, place), place) for place in places)
    shared = next((i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), None)
    if shared is None and len(chosen) == len(rejected):
        shared = len(chosen) - 1
    if shared is None or shared < max(len(chosen), len(rejected)) - 1:
        differ = shared if shared is not None else min(len(chosen), len(rejected))
        raise BadRow(
            "context_mismatch",
            columns.rejected,
            f"conversations of {len(chosen)} and {len(rejected)} messages that differ from message {differ + 1}",
            "the same messages up to the last one",
            "make both conversations equal up to their last message, or remove the row",
        )
    if shared == 0:
        expected = "a prompt before the last message"
        raise BadRow("empty_prompt", columns.chosen, "one message", expected, "add the user's message before it")
    prompt = chosen[:shared]
    return Picked(
        prompt, [_answer(turns, place, prompt) for turns, place in zip((chosen, rejected), places, strict=True)], places
    )


def _ranked(row: Row, columns: Columns) -> Picked:
    """The project's own form: a prompt (text or messages) and responses, best first or in the order of `ranks`."""
    value = value_of(row, columns.prompt)
    prompt = (
        row_checks.messages(value, columns.prompt)
        if isinstance(value, list)
        else row_checks.text(value, columns.prompt)
    )
    listed = value_of(row, columns.responses)
    if not isinstance(listed, list):
        row_checks.wrong_type(listed, columns.responses, "a list of texts, best first")
    places = [f"{columns.responses}[{index}]" for index in range(len(listed))]
    if isinstance(prompt, str):
        texts = [row_checks.text(item, place) for item, place in zip(listed, places, strict=True)]
        return Picked(prompt, _after(prompt, texts), places)
    return Picked(prompt, [_answer(item, place, prompt) for item, place in zip(listed, places, strict=True)], places)


PRO_COLUMNS = {"prompt": "prefix", "responses": "suffix", "scores": "reward"}
_PRO_ASSISTANT = "<|assistant|>"
_PRO_TURNS = {"<|prompter|>": HUMAN_MARK, _PRO_ASSISTANT: ASSISTANT_MARK}


def pro_columns(columns: Columns) -> Columns:
    """Return *columns* with PRO's own names for those that are not mapped."""
    return replace(columns, **{ours: name for ours, name in PRO_COLUMNS.items() if getattr(columns, ours) == ours})


def _pro(row: Row, columns: Columns) -> Picked:
    """PRO's published form: `prefix` (tagged turns, once or a copy for each response), `suffix`, best first.

    `reward` holds the scores. `sft_index` is the response that the SFT term is on: here always the first.
    """
    listed = value_of(row, columns.responses)
    if not isinstance(listed, list):
        row_checks.wrong_type(listed, columns.responses, "a list of texts, best first")
    places = [f"{columns.responses}[{index}]" for index in range(len(listed))]
    texts = [row_checks.text(item, place) for item, place in zip(listed, places, strict=True)]
    if row.get("sft_index", 0) != 0:
        found, expected = row_checks.described(row["sft_index"]), "0, since the SFT term is on the first response"
        raise BadRow("sft_index", "sft_index", found, expected, "put that response first, or remove the row")
    prompt = _pro_prompt(value_of(row, columns.prompt), columns.prompt, len(texts))
    return Picked(prompt, _after(prompt, texts), places)


def _pro_prompt(prefix: object, column: str, responses: int) -> str:
    """Return the one prompt of all responses; *prefix* is its turns, or a copy of them for each response."""
    if not isinstance(prefix, list) or not prefix or isinstance(prefix[0], str):
        return _pro_dialogue(prefix, column)
    if len(prefix) != responses:
        found, expected = f"{len(prefix)} prefixes", f"{responses}, one a response"
        raise BadRow("prefix_count", column, found, expected, "give one prefix for each suffix, or one list of turns")
    first, *others = (_pro_dialogue(turns, f"{column}[{i}]") for i, turns in enumerate(prefix))
    for number, other in enumerate(others, start=1):
        if other != first:
            found, fix = "another prompt than that of the first response", "make them equal, or remove the row"
            raise BadRow("context_mismatch", f"{column}[{number}]", found, "one prompt for all responses", fix)
    return first


def _pro_dialogue(turns: object, column: str) -> str:
    """Return tagged turns as a transcript, which is how PRO's code writes them for the model."""
    if not isinstance(turns, list) or not turns:
        row_checks.wrong_type(turns, column, "a list of turns such as '<|prompter|>...', the last one '<|assistant|>'")
    *earlier, last = [row_checks.text(turn, f"{column}[{index}]") for index, turn in enumerate(turns)]
    if last.strip() != _PRO_ASSISTANT:
        expected, fix = f"'{_PRO_ASSISTANT}' and nothing behind it", "end the prefix where the responses begin"
        raise BadRow("last_turn", f"{column}[{len(earlier)}]", row_checks.described(last), expected, fix)
    return "".join(_pro_turn(turn, f"{column}[{i}]") for i, turn in enumerate(earlier)) + ASSISTANT_MARK


def _pro_turn(turn: str, place: str) -> str:
    tag = next((tag for tag in _PRO_TURNS if turn.startswith(tag)), None)
    if tag is None:
        expected = f"a turn that begins with {' or '.join(_PRO_TURNS)}"
        raise BadRow("unknown_turn", place, row_checks.described(turn), expected, "mark the turns as PRO's files do")
    return f"{_PRO_TURNS[tag]} {turn.removeprefix(tag).strip()}"


FORMATS: dict[str, Callable[[Row, Columns], Picked]] = {
    "hh.transcript": _transcript,
    "trl.preference.plain.explicit": _plain,
    "trl.preference.conversational.explicit": _messages,
    "trl.preference.conversational.implicit": _whole_messages,
    "deft.responses": _ranked,
    "pro.ranked": _pro,
}


def value_of(row: Row, column: str) -> object:
    """Return the value of *column*, or refuse the row if it has none."""
    if column in row and column:
        return row[column]
    found = f"the columns {shown(', '.join(map(str, row)))}"
    fix = f"add {column}, or name the column that has it with --map (over HTTP: `columns`)"
    raise BadRow("missing_column", column or None, found, f"a column {column}", fix)
