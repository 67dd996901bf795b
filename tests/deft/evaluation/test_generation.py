from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from deft.evaluation import generation
from deft.evaluation.generation import Decoding, Questions, end_ids, generate, greedy_ids, is_cut_at_marks
from deft.examples import Example
from deft.specs import TokenOptions
from tests.models import byte_tokenizer, tiny_llama


def _prompts(number: int = 6) -> list[list[int]]:
    draw = np.random.default_rng(0)
    return [draw.integers(3, 259, size).tolist() for size in draw.integers(1, 40, number)]


def _decoding(**options: object) -> Decoding:
    return Decoding(**({"max_new_tokens": 12, "end_ids": frozenset([2])} | options))  # type: ignore[arg-type]


def _naive(model: torch.nn.Module, prompt: list[int], decoding: Decoding) -> list[int]:
    ids = list(prompt)
    for _ in range(decoding.max_new_tokens):
        with torch.no_grad():
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] in decoding.end_ids:
            break
    return ids[len(prompt) :]


class Scripted(torch.nn.Module):
    """A model that answers any prompt with the bytes of *text*, then its end token for ever."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.script = byte_tokenizer()(text, add_special_tokens=False)["input_ids"]
        self.step = 0

    def forward(self, input_ids: torch.Tensor, **_: object) -> object:
        following = self.script[self.step] if self.step < len(self.script) else 2
        self.step += 1
        logits = torch.nn.functional.one_hot(torch.full((len(input_ids), 1), following), 259).float()
        return type("Output", (), {"logits": logits, "past_key_values": None})


def _scripted(text: str, *, is_transcript: bool = True, limit: int = 60) -> object:
    questions = Questions([[5, 6, 7]], [is_transcript])
    (answer,) = generate(Scripted(text), byte_tokenizer(), questions, _decoding(max_new_tokens=limit))
    return answer


def test_a_batch_is_answered_as_each_prompt_alone() -> None:
    model, prompts, decoding = tiny_llama(), _prompts(), _decoding()
    together = greedy_ids(model, prompts, decoding)
    assert together == [greedy_ids(model, [prompt], decoding)[0] for prompt in prompts]
    assert together == [_naive(model, prompt, decoding) for prompt in prompts]


def test_an_end_token_ends_one_answer_and_not_its_neighbours() -> None:
    model, prompts = tiny_llama(), _prompts()
    free = greedy_ids(model, prompts, _decoding())
    end = free[0][3]
    ended = greedy_ids(model, prompts, _decoding(end_ids=frozenset([end])))
    for before, after in zip(free, ended, strict=True):
        assert after == (before[: before.index(end) + 1] if end in before else before)
    assert ended[0][-1] == end


@pytest.mark.parametrize("budget", [1, 120, 10_000])
def test_answers_come_in_the_order_of_the_prompts_whatever_the_batches(budget: int) -> None:
    model, prompts, seen = tiny_llama(), _prompts(), []
    decoding = _decoding(token_budget=budget)
    found = generate(model, byte_tokenizer(), Questions(prompts, [False] * len(prompts)), decoding, seen.append)
    assert [answer.chosen_ids for answer in found] == [_naive(model, prompt, decoding) for prompt in prompts]
    assert seen[-1] == len(prompts)


def test_answers_that_do_not_fit_together_are_given_in_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    model, prompts, halved = tiny_llama(), _prompts(), []
    whole = generation.greedy_ids

    def small_device(model: torch.nn.Module, batch: Sequence[Any], *rest: Any) -> Any:
        if len(batch) > 2:
            raise torch.OutOfMemoryError("made up")
        return whole(model, batch, *rest)

    monkeypatch.setattr(generation, "greedy_ids", small_device)
    decoding = _decoding(token_budget=10_000, on_halving=halved.append)
    found = generate(model, byte_tokenizer(), Questions(prompts, [False] * len(prompts)), decoding)
    assert [answer.chosen_ids for answer in found] == [_naive(model, prompt, decoding) for prompt in prompts]
    assert halved[0] == len(prompts)


def test_agrees_with_greedy_generation_of_transformers() -> None:
    model, prompt = tiny_llama(), _prompts()[0]
    expected = model.generate(
        torch.tensor([prompt]), max_new_tokens=12, do_sample=False, eos_token_id=2, pad_token_id=2
    )
    assert greedy_ids(model, [prompt], _decoding())[0] == expected[0, len(prompt) :].tolist()


def test_an_answer_that_ends_keeps_its_text_and_says_so() -> None:
    answer = _scripted(" Fine, thanks.")
    assert (answer.text, answer.stop, answer.is_ended) == ("Fine, thanks.", "end", True)
    assert len(answer.ids) == len(" Fine, thanks.")
    assert answer.chosen_ids == [*answer.ids, 2]


def test_an_answer_that_reaches_the_limit_has_not_ended() -> None:
    answer = _scripted("on and on and on", limit=5)
    assert (answer.text, answer.stop, answer.is_ended) == ("on an", "limit", False)


@pytest.mark.parametrize("mark", ["\n\nHuman:", "\n\nAssistant:", " Human:"])
def test_a_turn_mark_cuts_the_answer_to_a_transcript_and_stops_it_at_once(mark: str) -> None:
    model = Scripted(f" Yes.{mark} and much more that nobody reads")
    (answer,) = generate(model, byte_tokenizer(), Questions([[5]], [True]), _decoding(max_new_tokens=60))
    assert (answer.text, answer.stop, answer.is_ended) == ("Yes.", "turn_mark", False)
    assert len(answer.ids) == len(" Yes.")
    assert model.step == len(f" Yes.{mark}")


def test_a_turn_mark_at_once_leaves_an_empty_answer() -> None:
    answer = _scripted("\n\nHuman: hi")
    assert (answer.text, answer.ids, answer.stop) == ("", [], "turn_mark")


def test_a_turn_mark_means_nothing_where_the_prompt_is_no_transcript() -> None:
    answer = _scripted(" The word Human: is fine", is_transcript=False)
    assert answer.text == "The word Human: is fine"


def test_superhuman_is_no_turn_mark() -> None:
    assert _scripted(" superHuman: yes").text == "superHuman: yes"


def test_transcripts_are_cut_at_marks_and_chats_and_plain_texts_are_not() -> None:
    def cut(prompt: object, template: str = "auto") -> bool:
        return is_cut_at_marks(Example(prompt, ("a", "b")), TokenOptions(template=template))  # type: ignore[arg-type]

    messages = [{"role": "user", "content": "hi"}]
    assert cut("\n\nHuman: hi\n\nAssistant:")
    assert not cut("Say hi.")
    assert not cut(messages)
    assert cut(messages, "hh")
    assert not cut("\n\nHuman: hi\n\nAssistant:", "chat")


def test_an_answer_ends_by_what_training_appends_or_the_model_names() -> None:
    model = tiny_llama()
    assert end_ids(model, 2) == {2}
    model.generation_config.eos_token_id = [0, 7]
    assert end_ids(model, 2) == {0, 2, 7}
