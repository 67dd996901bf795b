"""Answers to prompt sets, turn by turn: the next user turn follows the model's own answer.

A set's questions are laid out as the model expects: by its chat template where it has one, else as a transcript with
`Human:` and `Assistant:` marks; `tokens.template` may force either. Knows no metric and no file but the set's own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from torch import nn

from deft.data.prompt_sets import read_prompts
from deft.evaluation.answer_journals import AnswerJournal
from deft.evaluation.asked import Asked
from deft.evaluation.continuous import EngineFailed, generate_continuously
from deft.evaluation.engines import Engines, Used
from deft.evaluation.generation import Answer, Choose, Decoding, Keep, Questions, generate, is_cut_at_marks, likeliest
from deft.evaluation.metrics import BASE
from deft.evaluation.sampling import sampled, seed_of
from deft.evaluation.served import rows_named
from deft.examples import Example, Message
from deft.specs import EvaluateSpec, Sampling, TokenOptions
from deft.tokens import encode_examples

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer


@dataclass(frozen=True, slots=True)
class Conversation:
    """What one system answered to one prompt of a set, the *sample*-th time: an answer a turn.

    *is_cut* says whether the prompt of a turn was longer than `tokens.max_prompt_tokens` and lost its beginning.
    """

    asked: Asked
    sample: int
    answers: tuple[Answer, ...] = ()
    is_cut: bool = False


def read_sets(spec: EvaluateSpec, inputs: Mapping[str, Path]) -> list[Asked]:
    """Return the prompts of all sets that *spec* names, in order."""
    return [
        Asked(name, row, p.prompt, point, p.further, p.category, p.label, p.reference)
        for index, name in enumerate(spec.prompt_sets)
        for row, p, point in read_prompts(inputs[f"prompt_set.{index}"])
    ]


def layout(options: TokenOptions, tokenizer: "Tokenizer") -> TokenOptions:
    """Return *options* with the template that questions of sets are laid out by."""
    if options.template != "auto":
        return options
    has_template = bool(getattr(tokenizer, "chat_template", None))
    return options.model_copy(update={"template": "chat" if has_template else "hh"})


class Answering(Protocol):
    """What answers prompts: a model in memory, or one behind an endpoint."""

    def __call__(self, questions: Questions, on_progress: Callable[[int], None]) -> list[Answer]:
        """Answer *questions*, sampled where they have seeds."""


@dataclass(frozen=True, slots=True)
class Speaker:
    """What answers, and how it is asked: the *options* of its prompts, sampling or none."""

    answering: Answering
    tokenizer: "Tokenizer"
    options: TokenOptions
    sampling: Sampling | None = None


def in_memory(
    model: nn.Module,
    tokenizer: "Tokenizer",
    decoding: Decoding,
    sampling: Sampling | None = None,
    engines: Engines | None = None,
    system: str = BASE,
    journal_of: Callable[[Used], AnswerJournal] = AnswerJournal,
) -> Answering:
    """Return what answers by *model*, which stays where it is, as *system*, by one of *engines*, where it is noted.

    *journal_of* returns where the answers of an engine are kept.
    """
    choice = engines or Engines()

    def continuously(questions: Questions, on_progress: Callable[[int], None], keep: Keep) -> list[Answer]:
        return generate_continuously(model, tokenizer, questions, decoding, on_progress, keep)

    def in_batches(questions: Questions, on_progress: Callable[[int], None], keep: Keep) -> list[Answer]:
        seeds = questions.seeds

        def chooser(batch: Sequence[int]) -> Choose:
            if seeds is None or sampling is None:
                return likeliest
            return sampled(sampling, [seeds[place] for place in batch])

        return generate(model, tokenizer, questions, decoding, on_progress, keep, chooser)

    def answer(questions: Questions, on_progress: Callable[[int], None]) -> list[Answer]:
        why = choice.why_sorted(model, is_sampled=questions.seeds is not None and sampling is not None)
        if why is None:
            try:
                answers = journal_of("continuous_batching").complete(continuously, questions, on_progress)
            except EngineFailed as error:
                why = f"continuous batching failed: {error}"
            else:
                choice.note(system, "continuous_batching")
                return answers
        choice.note(system, "sorted_batches", why)
        return journal_of("sorted_batches").complete(in_batches, questions, on_progress)

    return answer


def converse(
    speaker: Speaker, prompts: Sequence[Asked], on_progress: Callable[[int], None] = lambda _: None
) -> list[Conversation]:
    """Answer every turn of every prompt, as often as is asked for; *on_progress* gets the number of answers done.

    Raises:
        InvalidInput: a prompt does not fit the template that was asked for.
    """
    repeats = 1 if speaker.sampling is None else speaker.sampling.repeats
    found = [Conversation(asked, sample) for asked in prompts for sample in range(repeats)]
    done = 0
    for turn in range(1 + max((len(asked.further) for asked in prompts), default=-1)):
        places = [place for place, own in enumerate(found) if len(own.asked.further) >= turn]
        answered = _turn(speaker, [found[place] for place in places], turn, _from(done, on_progress))
        for place, own in zip(places, answered, strict=True):
            found[place] = own
        done += len(places)
    return found


def _from(before: int, on_progress: Callable[[int], None]) -> Callable[[int], None]:
    """Return what counts on from *before*."""
    return lambda done: on_progress(before + done)


def _turn(
    speaker: Speaker, open_ones: Sequence[Conversation], turn: int, on_progress: Callable[[int], None]
) -> list[Conversation]:
    examples = [Example(_prompt(own, speaker.options), ()) for own in open_ones]
    encoded = encode_examples(examples, speaker.tokenizer, speaker.options)

    def name_of(place: int) -> str:
        asked = open_ones[place].asked
        return f"turn {turn + 1} of row {asked.row} of {asked.set}"

    questions = Questions(
        [each.prompt_ids for each in encoded],
        [is_cut_at_marks(example, speaker.options) for example in examples],
        _seeds(speaker.sampling, open_ones, turn),
    )
    with rows_named(name_of):
        answers = speaker.answering(questions, on_progress)
    return [
        replace(own, answers=(*own.answers, answer), is_cut=own.is_cut or each.is_prompt_cut)
        for own, answer, each in zip(open_ones, answers, encoded, strict=True)
    ]


def _seeds(sampling: Sampling | None, open_ones: Sequence[Conversation], turn: int) -> list[int] | None:
    if sampling is None:
        return None
    return [seed_of(sampling.seed, own.asked.set, own.asked.row, own.sample, turn) for own in open_ones]


def _prompt(own: Conversation, options: TokenOptions) -> str | list[Message]:
    """Return the conversation so far as messages; as text, its turns apart by blank lines, where it must be `plain`."""
    first = own.asked.prompt
    messages = [Message(role="user", content=first)] if isinstance(first, str) else list(first)
    for answer, further in zip(own.answers, own.asked.further, strict=False):
        messages += [Message(role="assistant", content=answer.text), Message(role="user", content=further)]
    if options.template == "plain":
        return "\n\n".join(message["content"] for message in messages)
    return messages
