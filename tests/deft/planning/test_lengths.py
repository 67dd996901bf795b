"""Lengths in a plan are those of the ids that training will see; what cannot become ids is refused here already."""

import random
from pathlib import Path
from typing import Any

import orjson
import pytest
from tokenizers import Tokenizer

from deft.data.datasets import import_files, read_examples
from deft.errors import InvalidInput, ModelNotUsable
from deft.models.loading import load_tokenizer
from deft.planning.lengths import SAMPLE_ROWS, Sizes, capped, sample_examples, sampled
from deft.planning.tokenizer import PlanningTokenizer, load_planning_tokenizer
from deft.specs import TokenOptions
from deft.tokens import encode_examples, end_token_id
from tests.models import byte_tokenizer, write_model_files


def rows(count: int) -> list[dict[str, Any]]:
    chance = random.Random(0)  # noqa: S311 -- made-up rows
    words = ["why", "because", "no", "é", "three words here"]

    def text(most: int) -> str:
        return " ".join(chance.choices(words, k=chance.randint(1, most)))

    return [
        {"prompt": f"\n\nHuman: {n} {text(20)}\n\nAssistant:", "chosen": f"{text(12)} a", "rejected": f"{text(9)} b"}
        for n in range(count)
    ]


def dataset(folder: Path, lines: list[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rows.jsonl").write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    import_files([folder / "rows.jsonl"], folder / "dataset")
    return folder / "dataset"


def planning_tokenizer(folder: Path, **options: bool) -> PlanningTokenizer:
    byte_tokenizer(**options).save_pretrained(folder)
    found = load_planning_tokenizer(folder)
    assert found is not None
    return found


@pytest.mark.parametrize("bos", [False, True])
def test_sizes_are_those_of_the_ids_that_training_sees(tmp_path: Path, bos: bool) -> None:
    folder, options = dataset(tmp_path, rows(40)), TokenOptions(max_prompt_tokens=60, max_total_tokens=110)
    found = sampled(folder, range(40), planning_tokenizer(tmp_path / "model", bos=bos), options)
    examples = [example for _, example in read_examples(folder)]
    real = encode_examples(examples, load_tokenizer_of(tmp_path / "model"), options)
    assert found.basis == "counted"
    assert [(s.prompt, list(s.responses), list(s.cut)) for s in found.sizes] == [
        (len(e.prompt_ids), list(map(len, e.response_ids)), e.is_cut) for e in real
    ]
    assert 0 < found.mean(lambda sizes: sizes.is_prompt_cut) < 1
    lengths = found.lengths()
    assert lengths.rows_sampled == 40
    assert 0 < lengths.share_of_responses_cut < 1
    assert lengths.longest_row_tokens == max(s.prompt + sum(s.responses) + 2 - sum(s.cut) - 2 for s in found.sizes)


def load_tokenizer_of(folder: Path) -> Any:
    (folder / "config.json").write_text('{"model_type": "llama"}')
    return load_tokenizer(folder)


def test_it_answers_like_the_tokenizer_of_transformers(tmp_path: Path) -> None:
    ours, theirs = planning_tokenizer(tmp_path, has_chat_template=True), byte_tokenizer()
    assert len(ours) == len(theirs) == 259
    assert ours("one text")["input_ids"] == theirs("one text")["input_ids"]
    assert end_token_id(theirs) == 2
    messages = [{"role": "user", "content": "a question of mine"}, {"role": "assistant", "content": "no"}]
    ids = [len(theirs(theirs.apply_chat_template(m, tokenize=False))["input_ids"]) for m in (messages, messages[:1])]
    about = [len(ours(ours.apply_chat_template(m))["input_ids"]) for m in (messages, messages[:1])]
    assert about[0] > about[1]
    assert abs(about[1] - ids[1]) < 25  # of a byte-level tokenizer, where a role is several tokens


def test_tokens_that_only_the_settings_add_are_counted(tmp_path: Path) -> None:
    write_model_files(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"added_tokens_decoder": {"300": {"content": "<pad>"}}}')
    found = load_planning_tokenizer(tmp_path)
    assert found is not None
    assert len(found) == 301


def test_a_tokenizer_is_loaded_again_when_its_files_change(tmp_path: Path) -> None:
    write_model_files(tmp_path)
    first = load_planning_tokenizer(tmp_path)
    assert load_planning_tokenizer(tmp_path) is first
    core = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    core.add_tokens(["one more"])
    core.save(str(tmp_path / "tokenizer.json"))
    again = load_planning_tokenizer(tmp_path)
    assert first is not None
    assert again is not None
    assert len(again) == len(first) + 1


def test_a_folder_without_a_readable_tokenizer(tmp_path: Path) -> None:
    (write_model_files(tmp_path) / "tokenizer.json").write_text('{"version": "1.0"}')
    with pytest.raises(ModelNotUsable, match=r"tokenizer\.json"):
        load_planning_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    assert load_planning_tokenizer(tmp_path) is None


MESSAGES = [{"prompt": [{"role": "user", "content": "a"}], "chosen": "b", "rejected": "c"}]


def test_rows_that_do_not_become_tokens_are_refused_with_their_lines(tmp_path: Path) -> None:
    write_model_files(tmp_path / "plain", has_chat_template=False)
    tokenizer = load_planning_tokenizer(tmp_path / "plain")
    assert tokenizer is not None
    messages = dataset(tmp_path / "messages", MESSAGES)
    with pytest.raises(InvalidInput) as caught:
        sampled(messages, [0], tokenizer, TokenOptions())
    assert (caught.value.findings[0].code, caught.value.findings[0].line) == ("no_chat_template", 1)
    with pytest.raises(InvalidInput) as caught:
        sampled(messages, [0], tokenizer, TokenOptions(template="plain"))
    assert caught.value.findings[0].code == "wrong_template"
    assert sampled(messages, [0], tokenizer, TokenOptions(template="hh")).sizes[0].prompt > 1


def test_a_chat_template_is_counted_about_and_never_run(tmp_path: Path) -> None:
    write_model_files(tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").write_text("{{ raise_exception('it was run') }}")
    tokenizer = load_planning_tokenizer(tmp_path / "model")
    assert tokenizer is not None
    found = sampled(dataset(tmp_path, MESSAGES), [0], tokenizer, TokenOptions())
    assert found.is_template_approximate
    assert found.lengths().is_template_approximate


def test_a_sample_is_drawn_by_its_seed_from_the_rows_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deft.data.writer.CHUNK_ROWS", 16)  # several row groups
    folder = dataset(tmp_path, rows(100))
    wanted = list(range(3, 100, 2))
    first, again, other = (
        [e.source_line for e in sample_examples(folder, wanted, 10, seed=seed)] for seed in (1, 1, 2)
    )
    assert first == again == sorted(first)
    assert first != other
    assert {line - 1 for line in first} <= set(wanted)
    assert [e.source_line - 1 for e in sample_examples(folder, wanted, 1000, seed=0)] == wanted
    assert SAMPLE_ROWS < 1000


def test_without_a_tokenizer_the_caps_are_assumed() -> None:
    found = capped(TokenOptions(max_prompt_tokens=300, max_total_tokens=500))
    assert (found.basis, found.sizes) == ("assumed", (Sizes(300, (200, 200), (False, False), False),))
    assert found.lengths().rows_sampled == 0


def test_the_longest_chosen_are_those_that_the_arm_length_keeps() -> None:
    sizes = tuple(Sizes(10, (n, 1), (False, False), False) for n in range(1, 101))
    kept = capped(TokenOptions()).__class__("counted", sizes).longest_chosen(0.05)
    assert sorted(s.responses[0] for s in kept.sizes) == [96, 97, 98, 99, 100]
