"""The hash of a tokenizer: other where prompts, responses or decoded answers would be, equal where they are not."""

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import CTRLTokenizer, PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

import deft
from deft.errors import InvalidInput
from deft.models.loading import load_tokenizer
from deft.tokenizer import special_token_ids, tokenizer_hash
from deft.tokens import encode_texts, specials_before
from tests.models import CHAT_TEMPLATE, SPECIALS, byte_tokenizer, tiny_llama, write_model_files

REFUSES = "{{ raise_exception('no conversation is good enough') }}"
NEEDS_SYSTEM = "{% if messages[0]['role'] != 'system' %}" + REFUSES + "{% endif %}{{ bos_token }}" + CHAT_TEMPLATE
IN_LONG_ONES = "{% if messages | length > 2 %}{{ bos_token }}{% endif %}" + CHAT_TEMPLATE
IN_SYSTEM_TURNS = "{% if messages[0]['role'] == 'system' %}{{ bos_token }}{% endif %}" + CHAT_TEMPLATE
SPECIAL_UNIGRAMS = ("</s>", "<unk>")
LETTERS = ("a", "o")
TEMPLATES = [CHAT_TEMPLATE, REFUSES, NEEDS_SYSTEM, IN_LONG_ONES, IN_SYSTEM_TURNS]
ROWS = [{"prompt": f"q {i}?", "chosen": "good " * (1 + i % 4) + str(i), "rejected": "bad no"} for i in range(8)]


def with_attributes(tokenizer: Any = None, **attributes: object) -> Any:
    found = tokenizer or byte_tokenizer()
    for name, value in attributes.items():
        setattr(found, name, value)
    return found


def unigram() -> Any:
    letters = [(letter, -1.0 - at / 100) for at, letter in enumerate("▁abcdefghijklmnopqrstuvwxyz.,'?!")]
    core = Tokenizer(models.Unigram([("<unk>", 0.0), ("</s>", 0.0), *letters], unk_id=0))
    core.pre_tokenizer, core.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token=SPECIAL_UNIGRAMS[0], unk_token=SPECIAL_UNIGRAMS[1])


def ctrl(folder: Path, merges: tuple[str, ...] = ("a b", "b c</w>"), **options: object) -> Any:
    """A tokenizer without a Rust one behind it."""
    folder.mkdir(exist_ok=True)
    letters = ["<unk>", "ab", "ab@@", "bc", "bc@@", "Ab", *(letter + end for letter in "abcdeA" for end in ("", "@@"))]
    (folder / "vocab.json").write_text(json.dumps({text: at for at, text in enumerate(letters)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    return CTRLTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), **options)


def test_a_tokenizer_made_alike_has_the_same_hash() -> None:
    assert tokenizer_hash(byte_tokenizer()) == tokenizer_hash(byte_tokenizer())


@pytest.mark.parametrize(
    "changes",
    [
        {"split_special_tokens": True},
        {"eos_token": SPECIALS[1]},
        {"unk_token": SPECIALS[1]},
        {"extra_special_tokens": ["e"]},
        {"chat_template": None},
        {"chat_template": CHAT_TEMPLATE + " "},
        {"chat_template": REFUSES},
        {"chat_template": IN_LONG_ONES},
        {"clean_up_tokenization_spaces": True},
    ],
)
def test_what_decides_ids_or_decoded_texts_is_in_the_hash(changes: dict[str, object]) -> None:
    assert tokenizer_hash(with_attributes(**changes)) != tokenizer_hash(byte_tokenizer())


def test_what_stands_before_a_text_is_in_the_hash() -> None:
    assert tokenizer_hash(byte_tokenizer(bos=True)) != tokenizer_hash(byte_tokenizer())


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_special_token_is_in_the_hash_wherever_the_template_prints_it(template: str) -> None:
    one, other = (with_attributes(chat_template=template, bos_token=token) for token in SPECIALS[:2])
    assert tokenizer_hash(one) != tokenizer_hash(other)


def test_the_pad_token_is_in_the_hash_of_a_template_that_prints_it_alone() -> None:
    prints = "{% if messages | length > 2 %}{{ pad_token }}{% endif %}" + CHAT_TEMPLATE
    for template, is_equal in [(CHAT_TEMPLATE, True), (prints, False)]:
        pads = [with_attributes(chat_template=template, pad_token=token) for token in (None, *SPECIALS[:2])]
        assert (len({tokenizer_hash(each) for each in pads}) == 1) is is_equal


def test_decoding_that_cleans_spaces_is_in_the_hash() -> None:
    plain, cleans = unigram(), with_attributes(unigram(), clean_up_tokenization_spaces=True)
    (ids,) = encode_texts(plain, ["it is ."])
    assert plain.decode(ids) != cleans.decode(ids)
    assert tokenizer_hash(plain) != tokenizer_hash(cleans)


def test_a_slow_tokenizer_is_known_by_its_merges(tmp_path: Path) -> None:
    one, other = ctrl(tmp_path / "one"), ctrl(tmp_path / "other", ("b c</w>", "a b"))
    assert one.get_vocab() == other.get_vocab()
    assert encode_texts(one, ["abc"]) != encode_texts(other, ["abc"])
    assert tokenizer_hash(one) != tokenizer_hash(other)
    assert tokenizer_hash(one) == tokenizer_hash(ctrl(tmp_path / "again"))


class Begins(CTRLTokenizer):
    """One that may put a token before a text by itself, in no file."""

    begins = False

    def build_inputs_with_special_tokens(self, own: list[int], other: list[int] | None = None) -> list[int]:
        return [*([0] if self.begins else []), *own, *(other or [])]


def test_a_slow_tokenizer_is_known_by_what_it_puts_before_a_text(tmp_path: Path) -> None:
    ctrl(tmp_path)
    files = [str(tmp_path / name) for name in ("vocab.json", "merges.txt")]
    plain, begins = Begins(*files), with_attributes(Begins(*files), begins=True)
    assert (specials_before(plain), specials_before(begins)) == ([], [0])
    assert tokenizer_hash(plain) != tokenizer_hash(begins)


def test_a_slow_tokenizer_is_known_by_what_decoding_leaves_out(tmp_path: Path) -> None:
    plain, pads = ctrl(tmp_path / "one"), with_attributes(ctrl(tmp_path / "other"), pad_token=LETTERS[0])
    (ids,) = encode_texts(plain, ["a b"])
    assert plain.decode(ids, skip_special_tokens=True) != pads.decode(ids, skip_special_tokens=True)
    assert tokenizer_hash(plain) != tokenizer_hash(pads)


def test_a_slow_tokenizer_without_vocabulary_files_has_a_hash() -> None:
    from transformers import ByT5Tokenizer, CanineTokenizer

    assert len({tokenizer_hash(each) for each in (ByT5Tokenizer(), ByT5Tokenizer(), CanineTokenizer())}) == 2


@pytest.mark.parametrize("template", [None, *TEMPLATES])
def test_saving_and_loading_keeps_the_hash(tmp_path: Path, template: str | None) -> None:
    write_model_files(tmp_path)
    made = with_attributes(chat_template=template)
    made.save_pretrained(tmp_path)
    assert tokenizer_hash(load_tokenizer(tmp_path)) == tokenizer_hash(made)


@pytest.mark.parametrize("make", [unigram, lambda: ctrl(Path("unused"))], ids=["unigram", "ctrl"])
def test_saving_and_loading_keeps_the_hash_of_other_kinds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[], Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    made = make()
    made.add_special_tokens({"eos_token": "</s>", "extra_special_tokens": ["<x>"]})
    made.add_tokens(["dd"])
    made.save_pretrained(tmp_path / "saved")
    loaded = type(made).from_pretrained(tmp_path / "saved")
    assert tokenizer_hash(loaded) == tokenizer_hash(made)


def test_padding_truncation_and_the_longest_length_are_not_in_the_hash() -> None:
    used = byte_tokenizer()
    used(["a", "long text"], padding=True, truncation=True, max_length=3)
    used.backend_tokenizer.enable_truncation(2)
    used.backend_tokenizer.enable_padding(length=7)
    used.padding_side, used.truncation_side, used.model_max_length = "left", "left", 7
    assert tokenizer_hash(used) == tokenizer_hash(byte_tokenizer())


def test_an_ordinary_token_that_pads_changes_neither_hash_nor_q_diff() -> None:
    plain, pads = byte_tokenizer(), with_attributes(pad_token=LETTERS[1])
    assert special_token_ids(pads) == special_token_ids(plain) == {0, 1, 2}
    assert tokenizer_hash(pads) == tokenizer_hash(plain)
    counted = [deft.count_distribution(ROWS, each) for each in (plain, pads)]
    assert counted[0].facts == counted[1].facts
    assert (counted[0].q_diff == counted[1].q_diff).all()


@pytest.mark.parametrize("make", [byte_tokenizer, unigram])
def test_a_distribution_counted_before_a_token_was_added_to_pad_is_taken(make: Callable[[], Any]) -> None:
    plain, pads = with_attributes(make(), pad_token=None), make()
    pads.add_special_tokens({"pad_token": "[PAD]"})
    assert tokenizer_hash(plain) != tokenizer_hash(pads)
    counted, model = deft.count_distribution(ROWS, plain), tiny_llama(vocabulary_size=len(plain))
    before = deft.score(model, plain, ROWS, counted)
    model.resize_token_embeddings(len(pads))
    after = deft.score(model, pads, ROWS, counted)
    assert [row.chosen for row in after] == pytest.approx([row.chosen for row in before], rel=1e-5)


@pytest.mark.parametrize("added", [{"extra_special_tokens": ["[X]"]}, {"eos_token": "[X]", "pad_token": "[X]"}])
def test_a_distribution_is_not_taken_where_another_token_was_added(added: dict[str, object]) -> None:
    counted, more = deft.count_distribution(ROWS, byte_tokenizer()), byte_tokenizer()
    more.add_special_tokens(added)
    with pytest.raises(InvalidInput) as caught:
        deft.score(tiny_llama(vocabulary_size=len(more)), more, ROWS, counted)
    assert caught.value.error_code == "distribution_of_another_tokenizer"
    assert "score again" in caught.value.findings[0].fix


TODAYS = "{{ strftime_now('%d %b %Y') }}"


@pytest.mark.parametrize(
    ("template", "is_equal"),
    [
        ("{% if not date_string is defined %}" + TODAYS + "{% endif %}" + CHAT_TEMPLATE, True),  # Llama 3's
        ("{% if messages[-1]['role'] == 'assistant' %}" + TODAYS + "{% endif %}", False),
        ("{% if add_generation_prompt and messages[0]['role'] == 'user' %}" + TODAYS + "{% endif %}", False),
        ("{% if messages[0]['role'] != 'system' %}" + REFUSES + "{% endif %}" + TODAYS, False),
    ],
)
def test_the_day_is_in_the_hash_where_a_template_asks_for_it_by_itself(
    monkeypatch: pytest.MonkeyPatch, template: str, is_equal: bool
) -> None:
    def on(day: int) -> str:
        class Clock(datetime.datetime):
            @classmethod
            def now(cls, tz: datetime.tzinfo | None = None) -> Any:
                return cls(2025, 1, day, tzinfo=tz)

        monkeypatch.setattr(chat_template_utils, "datetime", Clock)
        return tokenizer_hash(with_attributes(chat_template=template))

    assert (on(1) == on(2)) is is_equal
    assert on(1) == on(1)
