"""What raters are shown: which prompts, which system on which side, which items check attention, in which order.

All of it is a function of the seed (by SHA-256, so that any program can repeat it). Knows no database and no page.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from deft.errors import Finding, InvalidInput, shown
from deft.examples import ASSISTANT_MARK, HUMAN_MARK, Message, is_transcript
from deft.specs.studies import VERDICTS, AttentionItem, StudySpec, Verdict
from deft.studies.generations import AnsweredPrompt, LaterTurn

ItemKind = Literal["pair", "attention", "identical"]
"""`identical`: both systems said the same; it is a tie that nobody needs to be asked about."""

MOST_SOURCES = 20
"""Names of sources that a refusal tells."""

LABELS: dict[Verdict, str] = {"1": "1 is better", "tie": "tie", "both_bad": "both bad", "2": "2 is better"}
"""The words of the verdicts, on the page and in items that check attention."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to judge: *first*, *second* and the answers of *later* turns are responses as they stand on the page.

    *is_swapped*: the second system's answers stand first. *expected* is the right verdict of an attention item. An item
    is given to raters until *raters_wanted* have judged it; attention items go to every rater.
    """

    kind: ItemKind
    row: int | None
    prompt: str | list[Message]
    cluster: float | None
    source: str | None
    first: str
    second: str
    is_swapped: bool
    raters_wanted: int
    expected: Verdict | None = None
    is_warned: bool = False
    later: tuple[LaterTurn, ...] = ()


def place_of(seed: int, *labels: object) -> str:
    """Return the place, as sortable text, of what *labels* name in the order that *seed* and the labels make."""
    return hashlib.sha256(":".join([str(seed), *(str(label) for label in labels)]).encode()).hexdigest()


def make_items(spec: StudySpec, prompts: Sequence[AnsweredPrompt], seed: int) -> list[Item]:
    """Return the items of a study over *prompts*, in an order that tells neither kind nor side.

    Half of the pairs (by the seed) are swapped, so that each system stands first equally often.
    """
    drawn = sorted(prompts, key=lambda prompt: place_of(seed, "draw", prompt.row))[: spec.items]
    pairs = [prompt for prompt in drawn if not prompt.is_identical]
    swapped = _share(seed, "side", pairs, 0.5)
    shared = _share(seed, "overlap", pairs, spec.overlap)
    items = [_pair(spec, prompt, prompt.row in swapped, prompt.row in shared) for prompt in pairs]
    items += [_identical(prompt) for prompt in drawn if prompt.is_identical]
    items += [_instruction(spec, drawn, seed, index) for index in range(spec.attention)]
    items += [_known(spec, item, seed, index) for index, item in enumerate(spec.attention_items)]
    order = sorted(range(len(items)), key=lambda index: place_of(seed, "item", index))
    return [items[index] for index in order]


def _share(seed: int, label: str, prompts: Sequence[AnsweredPrompt], share: float) -> set[int]:
    """Return the rows of the *share* of *prompts* (rounded) that come first in the order of *label*."""
    rows = sorted((prompt.row for prompt in prompts), key=lambda row: place_of(seed, label, row))
    return set(rows[: round(share * len(rows))])


def _pair(spec: StudySpec, prompt: AnsweredPrompt, is_swapped: bool, is_shared: bool) -> Item:
    first, second = _as_shown(prompt.answers, is_swapped)
    later = tuple(LaterTurn(turn.user, _as_shown(turn.answers, is_swapped)) for turn in prompt.later)
    wanted = spec.raters_per_overlap if is_shared else 1
    return Item(
        "pair",
        prompt.row,
        prompt.prompt,
        prompt.cluster,
        prompt.source,
        first,
        second,
        is_swapped,
        wanted,
        is_warned=_is_warned(spec, prompt.source),
        later=later,
    )


def _as_shown(answers: tuple[str, str], is_swapped: bool) -> tuple[str, str]:
    return (answers[1], answers[0]) if is_swapped else answers


def _identical(prompt: AnsweredPrompt) -> Item:
    first, second = prompt.answers
    known = (prompt.row, prompt.prompt, prompt.cluster, prompt.source)
    return Item("identical", *known, first, second, False, 0, later=prompt.later)


def _instruction(spec: StudySpec, drawn: Sequence[AnsweredPrompt], seed: int, index: int) -> Item:
    """Return an item over one of the prompts, whose responses say in every turn what is to be chosen."""
    verdict = VERDICTS[int(place_of(seed, "expected", index), 16) % len(VERDICTS)]
    text = f"This item checks attention. Whatever the prompt asks, please choose: {LABELS[verdict]}."
    prompt = drawn[int(place_of(seed, "attention", index), 16) % len(drawn)]
    warned = _is_warned(spec, prompt.source)
    later = tuple(LaterTurn(turn.user, (text, text)) for turn in prompt.later)
    return Item("attention", None, prompt.prompt, None, None, text, text, False, 0, verdict, warned, later)


def _known(spec: StudySpec, item: AttentionItem, seed: int, index: int) -> Item:
    is_second = int(place_of(seed, "known", index), 16) % 2 == 1
    first, second = (item.worse, item.better) if is_second else (item.better, item.worse)
    expected: Verdict = "2" if is_second else "1"
    warned = _is_warned(spec, None)
    return Item("attention", None, item.prompt, None, None, first, second, False, 0, expected, warned)


def refuse_unknown_sources(spec: StudySpec, prompts: Sequence[AnsweredPrompt]) -> None:
    """Check that the sources to warn of are some of the *prompts*, and that there is a warning.

    Raises:
        InvalidInput: `no_content_warning`, or `unknown_source` with those that there are: no rater would be warned.
    """
    if spec.warn_sources is None:
        return
    if spec.content_warning is None:
        expected, fix = "a content_warning beside warn_sources", "give content_warning, or leave warn_sources out"
        raise _not_warned([Finding("no_content_warning", "null", expected, fix, "/content_warning")])
    known = sorted({prompt.source for prompt in prompts if prompt.source is not None})
    more = f" and {len(known) - MOST_SOURCES} more" if len(known) > MOST_SOURCES else ""
    told = f"one of {', '.join(map(shown, known[:MOST_SOURCES]))}{more}"
    expected = told if known else "no warn_sources: none of the prompts has a source"
    fix = "name a source as its rows do, or leave warn_sources out to warn of every item"
    findings = [
        Finding("unknown_source", shown(name), expected, fix, f"/warn_sources/{place}")
        for place, name in enumerate(spec.warn_sources)
        if name not in known
    ]
    if findings:
        raise _not_warned(findings)


def _not_warned(findings: list[Finding]) -> InvalidInput:
    return InvalidInput("No rater would be warned of what is meant.", code=findings[0].code, findings=findings)


def _is_warned(spec: StudySpec, source: str | None) -> bool:
    if spec.content_warning is None:
        return False
    return spec.warn_sources is None or source in spec.warn_sources


def turns_of(prompt: str | list[Message]) -> list[Message]:
    """Return *prompt* as turns for people: messages as they are, a transcript by its marks, else one turn."""
    if not isinstance(prompt, str):
        return [Message(role=turn["role"], content=turn["content"]) for turn in prompt]
    if not is_transcript(prompt):
        return [Message(role="user", content=prompt)]
    return _transcript_turns("\n\n" + prompt.lstrip())


def _transcript_turns(text: str) -> list[Message]:
    turns: list[Message] = []
    for part in text.split(HUMAN_MARK):
        said, *answers = part.split(ASSISTANT_MARK)
        turns += [Message(role="user", content=said.strip())]
        turns += [Message(role="assistant", content=answer.strip()) for answer in answers]
    return [turn for turn in turns if turn["content"]]
