"""What encoders and decoders read, token by token."""

from typing import Any

import pytest

from deft.examples import Example
from deft.reward_models.layout import lay_out, layout_of, options_for, reading_hash
from deft.specs import TokenOptions
from tests.models import byte_tokenizer, encoder_tokenizer

CLS, SEP = 1, 2
OPTIONS = TokenOptions(max_prompt_tokens=8, max_total_tokens=16)


def _text(ids: list[int]) -> str:
    return str(encoder_tokenizer().decode(ids))


def test_an_encoder_reads_the_pair_of_prompt_and_response() -> None:
    assert layout_of(encoder_tokenizer()) == "pair"
    (row,) = lay_out([Example("ab", ("c", "de"))], encoder_tokenizer(), OPTIONS)
    assert [_text(ids) for ids in row.ids] == ["[CLS]ab[SEP]c[SEP]", "[CLS]ab[SEP]de[SEP]"]
    assert row.response_tokens == [1, 2]
    assert row.longest == 7


def test_a_prompt_is_cut_on_the_left_and_a_response_on_the_right() -> None:
    (row,) = lay_out([Example("0123456789", ("abcdefghij", ""))], encoder_tokenizer(), OPTIONS)
    assert [_text(ids) for ids in row.ids] == ["[CLS]23456789[SEP]abcde[SEP]", "[CLS]23456789[SEP][SEP]"]
    assert len(row.ids[0]) == 16


def test_messages_become_a_transcript_for_an_encoder() -> None:
    messages = [{"role": "user", "content": "Hi"}]
    wide = TokenOptions(max_prompt_tokens=100, max_total_tokens=120)
    (row,) = lay_out([Example(messages, ("yes",))], encoder_tokenizer(), wide)  # type: ignore[arg-type]
    assert "Human: Hi" in _text(row.ids[0])


def test_a_decoder_reads_one_sequence_with_its_end_token() -> None:
    tokenizer = byte_tokenizer()
    assert layout_of(tokenizer) == "sequence"
    (row,) = lay_out([Example("ab", ("c", ""))], tokenizer, OPTIONS)
    assert row.types is None
    assert [ids[-1] for ids in row.ids] == [2, 2]
    assert [tokenizer.decode(ids[:-1]) for ids in row.ids] == ["abc", "ab"]
    (cut,) = lay_out([Example("ab", ("c" * 50,))], tokenizer, OPTIONS)
    assert len(cut.ids[0]) == 16
    assert cut.ids[0][-1] != 2, "a response that was cut does not end"


def test_another_reward_model_is_read_by_its_chat_template_if_it_has_one() -> None:
    assert options_for(byte_tokenizer(), 4096).template == "chat"
    assert options_for(byte_tokenizer(has_chat_template=False), 4096).template == "auto"
    assert options_for(encoder_tokenizer(), 512).max_total_tokens == 512
    assert options_for(encoder_tokenizer(), None).max_total_tokens == 1024


@pytest.mark.parametrize(
    "changes", [{"pad_token": "[SEP]"}, {"cls_token": None}, {"truncation_side": "left"}, {"model_input_names": ["x"]}]
)
def test_the_hash_of_how_texts_are_read_has_more_than_what_decides_ids(changes: dict[str, Any]) -> None:
    tokenizer = encoder_tokenizer()
    before = reading_hash(tokenizer)
    assert reading_hash(encoder_tokenizer()) == before
    for name, value in changes.items():
        setattr(tokenizer, name, value)
    assert reading_hash(tokenizer) != before
