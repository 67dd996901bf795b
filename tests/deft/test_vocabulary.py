"""Tokens that a tokenizer has and the model no embedding for: told, and refused where a row really holds one."""

from contextlib import nullcontext
from pathlib import Path

import pytest

from deft.errors import ModelNotUsable
from deft.evaluation import run as evaluation
from deft.examples import Example
from deft.models import fit
from deft.models.loading import check_fit
from deft.operations import input_names
from deft.operations import run as run_operation
from deft.scoring import run as scoring
from deft.specs import EvaluateSpec, Rows, ScoreSpec, TokenOptions
from deft.tokens import encode_examples, end_token_id, iter_responses
from deft.training import preparation
from tests.deft import small_runs
from tests.models import byte_tokenizer, save_tiny_llama, tiny_llama


@pytest.mark.parametrize(("ids", "rows", "is_refused"), [(262_145, 262_144, False), (262_209, 262_144, True)])
def test_a_few_ids_that_no_text_holds_may_be_beyond_the_vocabulary(ids: int, rows: int, is_refused: bool) -> None:
    sizes = {"tokenizer_tokens": ids, "vocabulary_size": rows, "context_tokens": None}
    with pytest.raises(ModelNotUsable) if is_refused else nullcontext():
        fit.check_fit(TokenOptions(), **sizes)


def test_a_token_beyond_the_vocabulary_is_told_at_loading_and_refused_in_a_row(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tokenizer = byte_tokenizer()
    size = check_fit(tiny_llama(vocabulary_size=258), tokenizer, TokenOptions())
    assert "259 tokens, the model's vocabulary 258" in caplog.text
    rows = [Example("a", ("b", "c"), source_line=3), Example("a", ("b", "last of 259: \u00ed"), source_line=8)]
    assert encode_examples(rows[:1], tokenizer, TokenOptions(), size)
    for encode in (encode_examples, lambda *given: list(iter_responses(*given))):
        with pytest.raises(ModelNotUsable, match="lines 8") as caught:
            encode(rows, tokenizer, TokenOptions(), size)
        assert [(each.code, each.line) for each in caught.value.findings] == [("token_beyond_vocabulary", 8)]
    with pytest.raises(ModelNotUsable, match="end in token 2"):
        end_token_id(tokenizer, 2)


def test_no_model_is_loaded_for_rows_that_it_has_no_embedding_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = small_runs.make_inputs(tmp_path, row=lambda n: {**small_runs.pair(n), "prompt": f"{n}\u00ed?"})
    save_tiny_llama(folders["model"], vocabulary_size=258)
    for operation in (preparation, scoring, evaluation):
        monkeypatch.setattr(operation, "load_base", lambda *_, **__: pytest.fail("a model was loaded"))
    inputs = {**folders, "dataset": folders["data"]}
    specs = (
        small_runs.spec_of(deft=None),
        ScoreSpec(dataset="ds_1", model="m"),
        EvaluateSpec(dataset="ds_1", model="m", rows=Rows()),
    )
    for spec in specs:
        own = {name: inputs[name] for name in input_names(spec)}
        with pytest.raises(ModelNotUsable, match="13 rows hold a token"):
            run_operation(spec, inputs=own, out=tmp_path, checkpoints=None, report=small_runs.Record())


def test_no_model_is_loaded_that_has_no_embedding_for_the_end_of_a_response(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = small_runs.make_inputs(tmp_path)
    save_tiny_llama(folders["model"], vocabulary_size=258)
    (folders["model"] / "chat_template.jinja").unlink()
    tokenizer = byte_tokenizer(has_chat_template=False)
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(258)
    tokenizer.save_pretrained(folders["model"])
    for operation in (preparation, evaluation):
        monkeypatch.setattr(operation, "load_base", lambda *_, **__: pytest.fail("a model was loaded"))
    inputs = {**folders, "dataset": folders["data"]}
    for spec in (small_runs.spec_of(deft=None), EvaluateSpec(dataset="ds_1", model="m", rows=Rows())):
        own = {name: inputs[name] for name in input_names(spec)}
        with pytest.raises(ModelNotUsable, match="end in token 258"):
            run_operation(spec, inputs=own, out=tmp_path, checkpoints=None, report=small_runs.Record())
