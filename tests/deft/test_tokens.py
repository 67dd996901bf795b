"""Prompt and response as token ids, exactly as the method says; one byte is one token here."""

import pytest
from tokenizers import processors

from deft.errors import InvalidInput
from deft.examples import Example
from deft.specs import TokenOptions
from deft.tokens import (
    encode_examples,
    end_token_id,
    iter_responses,
    special_token_ids,
    specials_before,
)
from tests.models import CHAT_TEMPLATE, SPECIALS, byte_tokenizer


def ids_of(text: str, **options: bool) -> list[int]:
    return byte_tokenizer(**options)(text, add_special_tokens=False)["input_ids"]


def encode(example: Example, **options: object) -> tuple[list[int], list[list[int]], list[bool]]:
    tokenizer = byte_tokenizer(has_chat_template=bool(options.pop("chat", True)), bos=bool(options.pop("bos", False)))
    (tokens,) = encode_examples([example], tokenizer, TokenOptions(**options))
    return tokens.prompt_ids, tokens.response_ids, tokens.is_cut


def test_a_transcript_gives_its_response_exactly_one_leading_space() -> None:
    prompt = "\n\nHuman: a\n\nAssistant:"
    prompt_ids, responses, _ = encode(Example(prompt, ("  yes \n", "no")))
    assert prompt_ids == ids_of(prompt)
    assert responses == [ids_of(" yes"), ids_of(" no")]


def test_plain_text_is_taken_as_it_is() -> None:
    prompt_ids, responses, is_cut = encode(Example("Q: a ", ("  yes ", "no")))
    assert (prompt_ids, responses) == (ids_of("Q: a "), [ids_of("  yes "), ids_of("no")])
    assert is_cut == [False, False]


def test_plain_can_be_asked_for_a_transcript() -> None:
    _, responses, _ = encode(Example("Human: a\n\nAssistant:", (" yes", "no")), template="plain")
    assert responses == [ids_of(" yes"), ids_of("no")]


def test_hh_refuses_a_prompt_without_its_mark_and_names_the_line() -> None:
    with pytest.raises(InvalidInput, match="line 7") as caught:
        encode(Example("no mark", ("a", "b"), source_line=7), template="hh")
    assert caught.value.findings[0].line == 7
    assert "plain" in caught.value.findings[0].fix


def test_messages_go_through_the_chat_template_with_a_generation_prompt() -> None:
    prompt_ids, responses, _ = encode(Example([{"role": "user", "content": "hi"}], (" yes", "no")))
    assert prompt_ids == ids_of("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n")
    assert responses == [ids_of(" yes"), ids_of("no")]


def test_a_transcript_under_the_chat_template_becomes_its_turns() -> None:
    prompt = "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:"
    prompt_ids, _, _ = encode(Example(prompt, ("x", "y")), template="chat")
    turns = ("user\na", "assistant\nb", "user\nc")
    text = "".join(f"<|im_start|>{turn}<|im_end|>\n" for turn in turns) + "<|im_start|>assistant\n"
    assert prompt_ids == ids_of(text)


def test_messages_can_be_written_as_a_transcript() -> None:
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    prompt_ids, responses, _ = encode(Example(messages, ("x", "y")), template="hh", chat=False)
    assert prompt_ids == ids_of("\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:")
    assert responses[0] == ids_of(" x")


def test_messages_without_a_chat_template_are_refused_with_the_fix() -> None:
    with pytest.raises(InvalidInput) as caught:
        encode(Example([{"role": "user", "content": "hi"}], ("a", "b"), source_line=3), chat=False)
    assert caught.value.findings[0].code == "no_chat_template"
    assert "template `hh`" in caught.value.findings[0].fix


def test_bos_stands_once_on_the_prompt_and_never_on_a_response() -> None:
    prompt_ids, responses, _ = encode(Example("abc", ("x", "y")), bos=True)
    assert prompt_ids == [0, *ids_of("abc")]
    assert responses == [ids_of("x"), ids_of("y")]


def test_a_chat_template_has_the_last_word_on_specials() -> None:
    prompt_ids, _, _ = encode(Example([{"role": "user", "content": "hi"}], ("x", "y")), bos=True)
    assert prompt_ids[0] == 1
    assert 0 not in prompt_ids


def test_the_prompt_is_cut_on_the_left_and_keeps_bos() -> None:
    """Of BOS + 6 letters, 4 tokens are kept: BOS and the last 3."""
    prompt_ids, responses, is_cut = encode(
        Example("abcdef", ("wxyz", "w")), bos=True, max_prompt_tokens=4, max_total_tokens=7
    )
    assert prompt_ids == [0, *ids_of("def")]
    assert responses == [ids_of("wxy"), ids_of("w")]
    assert is_cut == [True, False]


def test_what_the_tokenizer_puts_before_a_text_is_cut_too_where_it_is_longer_than_a_prompt_may_be() -> None:
    tokenizer = byte_tokenizer(bos=True)
    begin = SPECIALS[0]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} {begin} {begin} $A", pair=f"{begin} $A $B", special_tokens=[(begin, 0)]
    )
    options = TokenOptions(max_prompt_tokens=2, max_total_tokens=4)
    (tokens,) = encode_examples([Example("abc", ("wxyz", "w"))], tokenizer, options)
    assert tokens.prompt_ids == [0, 0]
    assert tokens.response_ids == [ids_of("wx"), ids_of("w")]


def test_a_response_that_just_fits_is_not_cut() -> None:
    _, responses, is_cut = encode(Example("abc", ("wxyz", "w")), max_prompt_tokens=4, max_total_tokens=7)
    assert responses[0] == ids_of("wxyz")
    assert is_cut == [False, False]


def test_rows_without_tokens_are_refused_by_line() -> None:
    good, bad = Example("a", ("b", "c"), source_line=1), Example("a", ("b", ""), source_line=9)
    with pytest.raises(InvalidInput, match="lines 9") as caught:
        encode_examples([good, bad], byte_tokenizer(), TokenOptions())
    assert [finding.line for finding in caught.value.findings] == [9]


def test_order_is_kept_over_batches() -> None:
    examples = [Example(f"p{n}", (f"c{n}", f"r{n}")) for n in range(5000)]
    tokens = encode_examples(examples, byte_tokenizer(), TokenOptions())
    assert len(tokens) == 5000
    assert tokens[4321].response_ids[1] == ids_of("r4321")


def test_truncation_left_on_in_the_tokenizer_is_switched_off() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.enable_truncation(2)
    (tokens,) = encode_examples([Example("abcdef", ("uvwxyz", "b"))], tokenizer, TokenOptions())
    assert (len(tokens.prompt_ids), len(tokens.response_ids[0])) == (6, 6)


def test_the_end_token_is_the_one_of_the_chat_template_else_end_of_text() -> None:
    chat = byte_tokenizer()
    chat.eos_token = SPECIALS[0]  # as base tokenizers with a chat template added often have it
    assert end_token_id(chat) == 2
    assert end_token_id(byte_tokenizer(has_chat_template=False)) == 0


def test_specials_are_found() -> None:
    assert special_token_ids(byte_tokenizer()) == {0, 1, 2}
    assert specials_before(byte_tokenizer(bos=True)) == [0]
    assert specials_before(byte_tokenizer()) == []


@pytest.mark.parametrize("bos", [False, True])
def test_responses_alone_are_those_of_whole_examples(bos: bool) -> None:
    tokenizer = byte_tokenizer(bos=bos)
    options = TokenOptions(max_prompt_tokens=6, max_total_tokens=10)
    chat = [{"role": "user", "content": "hi"}]
    examples = [Example("p" * n, ("c" * m, "r" * (1 + m % 5))) for n in range(1, 9) for m in range(1, 12)]
    examples.append(Example(chat, ("c" * 9, "r")))
    whole = [tokens.response_ids for tokens in encode_examples(examples, tokenizer, options)]
    assert list(iter_responses(examples, tokenizer, options)) == whole


NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
NO_ANSWER = "{% if messages[-1]['role'] == 'assistant' %}{{ raise_exception('ends in an answer') }}{% endif %}"
NEEDS_SYSTEM = "{% if messages[0]['role'] != 'system' %}{{ raise_exception('begin by system') }}{% endif %}"
BROKEN = "{{ messages[0]['role'] + 1 }}"


@pytest.mark.parametrize(("template", "told"), [(NO_SYSTEM, "System role not supported"), (BROKEN, "str")])
def test_a_row_that_the_chat_template_refuses_is_named_with_what_the_template_says(template: str, told: str) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template + CHAT_TEMPLATE
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "hi"}]
    with pytest.raises(InvalidInput, match="line 7") as caught:
        encode_examples([Example(turns, ("yes", "no"), source_line=7)], tokenizer, TokenOptions())
    (finding,) = caught.value.findings
    assert (finding.code, finding.line, finding.column) == ("chat_template_refuses", 7, "prompt")
    assert told in finding.found
    assert "template `hh`" in finding.fix


def test_the_end_token_is_read_from_a_template_that_needs_a_system_turn() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = SPECIALS[0]
    tokenizer.chat_template = NEEDS_SYSTEM + CHAT_TEMPLATE
    assert end_token_id(tokenizer) == 2


def test_a_template_that_refuses_a_final_answer_tells_no_end_token() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = NO_ANSWER + CHAT_TEMPLATE
    with pytest.raises(InvalidInput, match="ends in an answer") as caught:
        end_token_id(tokenizer)
    assert (caught.value.error_code, caught.value.findings[0].pointer) == ("chat_template_refuses", "/model")
    assert "chat_template.jinja" in caught.value.findings[0].fix


def test_a_template_that_prints_the_date_gives_the_same_ids_every_day() -> None:
    tokenizer = byte_tokenizer()
    date = "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"  # Llama 3's
    tokenizer.chat_template = date + "{{ date_string }} {{ messages[0]['content'] }}"
    example = Example([{"role": "user", "content": "hi"}], ("yes", "no"))
    (found,) = encode_examples([example], tokenizer, TokenOptions(template="chat"))
    assert tokenizer.decode(found.prompt_ids) == "26 Jul 2024 hi"
