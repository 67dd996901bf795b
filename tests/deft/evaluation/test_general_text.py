"""What the text of a row is, and how it is cut."""

import json
from pathlib import Path

import pytest

from deft.data.datasets import import_files
from deft.data.prompt_sets import import_prompts
from deft.errors import InvalidInput
from deft.evaluation.general_text import load_texts, text_of
from deft.evaluation.held_out import require_references
from deft.examples import Example
from deft.specs import EvaluateSpec
from tests.models import byte_tokenizer


def test_a_text_is_the_prompt_with_its_best_response() -> None:
    assert text_of(Example("Once upon", ("a time", "x"))) == "Once upon\na time"
    assert text_of(Example("\n\nHuman: Hi\n\nAssistant:", (" Hello ", "x"))) == "\n\nHuman: Hi\n\nAssistant: Hello"
    assert text_of(Example("", ("all of it",))) == "all of it"
    assert text_of(Example("A prompt alone", ())) == "A prompt alone"


def test_texts_are_cut_on_the_right_and_their_first_token_is_given(tmp_path: Path) -> None:
    row = {"prompt": "0123456789", "chosen": "abc", "rejected": "x"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "dataset").mkdir()
    import_files([tmp_path / "rows.jsonl"], tmp_path / "dataset")
    tokens = {"max_prompt_tokens": 4, "max_total_tokens": 6}
    spec = EvaluateSpec.model_validate({"model": "m", "dataset": "d", "general_dataset": "g", "tokens": tokens})
    tokenizer = byte_tokenizer()
    (own,) = load_texts(spec, tmp_path / "dataset", tokenizer).tokenized
    assert tokenizer.decode([*own.prompt_ids, *own.response_ids[0]]) == "012345"
    assert len(own.prompt_ids) == 1
    with_bos = byte_tokenizer(bos=True)
    (own,) = load_texts(spec, tmp_path / "dataset", with_bos).tokenized
    assert (own.prompt_ids, with_bos.decode(own.response_ids[0])) == ([0], "01234")


def test_missing_references_are_told_per_metric() -> None:
    examples = [Example("p", ("a", "b")), Example("q", ())]
    with pytest.raises(InvalidInput) as caught:
        require_references(examples, ["bleu", "bartscore"], ["kl", "bleu", "bartscore"])
    assert [finding.pointer for finding in caught.value.findings] == ["/options/metrics/1", "/options/metrics/2"]
    assert caught.value.error_code == "missing_references"
    require_references(examples[:1], ["bleu"], ["bleu"])
    require_references(examples, [], ["kl"])


def test_the_prompts_of_a_set_are_texts_too(tmp_path: Path) -> None:
    rows = [{"prompt": f"General text {n}", "category": "ab"[n % 2]} for n in range(8)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "set").mkdir()
    import_prompts([tmp_path / "rows.jsonl"], tmp_path / "set", form="deft.prompts", keeps_going=False, max_bytes=10**6)
    document = {"model": "m", "dataset": "d", "general_dataset": "g", "general_rows": {"sample": 5}}
    spec, tokenizer = EvaluateSpec.model_validate(document), byte_tokenizer()
    found = load_texts(spec, tmp_path / "set", tokenizer)
    assert found.rows == load_texts(spec, tmp_path / "set", tokenizer).rows
    assert len(found.rows) == 5
    texts = [tokenizer.decode([*own.prompt_ids, *own.response_ids[0]]) for own in found.tokenized]
    assert texts == [f"General text {row}" for row in found.rows]
    assert found.sources == ["ab"[row % 2] for row in found.rows]
