"""Bad input to `python -m deft` and to the library: a clear error, before a weight is read or a GPU is used."""

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import deft
from deft.__main__ import main, read_spec
from deft.data.datasets import import_files
from deft.errors import ArtifactCorrupt, InvalidInput, ModelNotUsable
from deft.evaluation import run as evaluating
from deft.examples import Example
from deft.losses import with_reward_term
from deft.models import loading as models
from deft.reward import head_of
from deft.scoring import run as scoring
from deft.specs import TokenOptions
from deft.tokens import encode_examples, iter_responses
from deft.training import preparation
from deft.training.omega import read_omega
from tests.deft.small_runs import TOKENS, make_inputs
from tests.models import byte_tokenizer, save_tiny_llama, tiny_llama


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail where a model would be loaded."""
    for module in (models, scoring, preparation, evaluating):
        monkeypatch.setattr(module, "load_base", lambda *_, **__: pytest.fail("weights were read"))
    yield


def command(made: dict[str, Path], model: Path, out: Path, **changes: Any) -> int:
    """Run `python -m deft` on a training, or on the *kind* of job given, with *changes* of its spec."""
    kind = changes.pop("kind", "train")
    named = "data" if kind == "train" else "dataset"
    spec = {"kind": kind, named: "ds_1", "model": "m", "tokens": TOKENS, **changes}
    inputs = {named: made["data"], "model": model}
    if kind == "train":
        spec |= {"scoring": "sc_1"}
        inputs["scoring"] = made["scoring"]
    out.mkdir()
    (out / "spec.json").write_text(json.dumps(spec))
    given_inputs = [text for name, folder in inputs.items() for text in ("--input", f"{name}={folder}")]
    return main([str(out / "spec.json"), *given_inputs, "--out", str(out / "made")])


def altered(folder: Path, root: Path, **settings: Any) -> Path:
    """Return a copy of a model's folder with other *settings* in its config.json."""
    copy = Path(shutil.copytree(folder, root / "model"))
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, **settings}))
    return copy


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize("kind", ["score", "train"])
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"output_logit_soft_cap": 30.0}, "output_logit_soft_cap in config.json"),
        ({"vocab_size": 256}, "the tokenizer has 259 tokens, the model 256"),
        ({"vocab_size": 49152}, "the tokenizer has 259 tokens, the model 49152"),
        ({"max_position_embeddings": 64}, "max_total_tokens is 96, the model's context is 64"),
        ({"vocab_size": "many"}, "Validation error for field 'vocab_size'"),
        ({"rms_norm_eps": "small"}, "Validation error for field 'rms_norm_eps'"),
        ({"model_type": "no_such_model"}, "no_such_model"),
    ],
)
def test_a_model_that_cannot_serve_is_refused_by_its_settings(
    kind: str, settings: dict[str, Any], words: str, made: dict[str, Path], tmp_path: Path, capsys: Any
) -> None:
    assert command(made, altered(made["model"], tmp_path, **settings), tmp_path / "out", kind=kind) == 1
    error = capsys.readouterr().err
    assert "failed (user/model_not_usable): " in error
    assert words in error
    assert "fix: " in error
    assert "Traceback" not in error


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize("omega", ["NaN", "Infinity", "-Infinity", "1e999", "-0.5", '"much"'])
def test_an_omega_that_is_no_finite_number_is_refused(
    omega: str, made: dict[str, Path], tmp_path: Path, capsys: Any
) -> None:
    text = json.dumps({"kind": "train", "data": "ds_1", "model": "m", "scoring": "sc_1", "deft": {"omega": "?"}})
    (tmp_path / "spec.json").write_text(text.replace('"?"', omega))
    given_inputs = [f"{name}={made[name]}" for name in ("data", "model", "scoring")]
    options = [text for pair in given_inputs for text in ("--input", pair)]
    assert main([str(tmp_path / "spec.json"), *options, "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert "/deft/omega" in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"kind": "select", "scoring": "sc_1", "scoring": "sc_2"}', "duplicate_key"),
        ('{"kind": "train", "data": "ds_1", "model": "m", "deft": {"omega": 1e-400}}', "number_range"),
        ('{"kind": "select"', "malformed_json"),
    ],
)
def test_a_spec_is_read_as_strictly_as_a_row(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text(text)
    with pytest.raises(InvalidInput) as caught:
        read_spec(tmp_path / "spec.json")
    assert caught.value.error_code == words


@pytest.mark.parametrize("text", ['{"omega": NaN}', '{"omega": Infinity}', '{"omega": -1}', "{}", "[]", "no"])
def test_a_calibration_without_a_finite_omega_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "omega.json").write_text(text)
    with pytest.raises(ArtifactCorrupt, match=r"omega\.json"):
        read_omega(tmp_path)


@pytest.mark.parametrize("omega", [math.nan, math.inf, -math.inf, -1.0])
def test_the_term_refuses_an_omega_that_is_not_finite(omega: float) -> None:
    with pytest.raises(ValueError, match="omega must be a finite number"):
        with_reward_term(torch.tensor(1.0), torch.tensor([1.0]), omega)


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize(
    ("kind", "refused", "words"),
    [
        ("score", "messages[-1]['role'] == 'user'", "row of line 1: "),
        ("train", "messages[-1]['role'] == 'user'", "row of line 1: "),
        ("train", "messages[-1]['role'] == 'assistant'", "a conversation that ends in an assistant turn"),
        ("evaluate", "messages[-1]['role'] == 'assistant'", "a conversation that ends in an assistant turn"),
    ],
)
def test_a_chat_template_that_refuses_is_told_before_the_model_is_read(
    kind: str, refused: str, words: str, made: dict[str, Path], tmp_path: Path, capsys: Any
) -> None:
    model = Path(shutil.copytree(made["model"], tmp_path / "model"))
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = f"{{% if {refused} %}}{{{{ raise_exception('not me') }}}}{{% endif %}}x"
    tokenizer.save_pretrained(model)
    changes: dict[str, Any] = {"kind": kind, "tokens": {**TOKENS, "template": "chat"}}
    if kind == "train":
        changes["deft"] = None
    if kind == "evaluate":
        changes |= {"systems": [], "rows": {"split": "all"}}
    assert command(made, model, tmp_path / "out", **changes) == 1
    error = capsys.readouterr().err
    assert "failed (user/" in error
    assert words in error
    assert "not me" in error
    assert "Traceback" not in error


@pytest.mark.usefixtures("no_weights")
def test_a_row_without_tokens_is_named_before_the_model_is_read(
    made: dict[str, Path], tmp_path: Path, capsys: Any
) -> None:
    """A tokenizer that knows none of a response's characters leaves nothing of it."""
    model = Path(shutil.copytree(made["model"], tmp_path / "model"))
    tokens = json.loads((model / "tokenizer.json").read_text())
    tokens["normalizer"] = {"type": "Replace", "pattern": {"String": "bad bad no"}, "content": ""}
    (model / "tokenizer.json").write_text(json.dumps(tokens))
    assert command(made, model, tmp_path / "out", deft=None) == 1
    error = capsys.readouterr().err
    assert "rows have a prompt or response without tokens: lines 2, 5, 8, 11" in error
    assert "line 2" in error


@settings(max_examples=60)
@given(st.integers(1, 20), st.integers(1, 12), st.integers(1, 40), st.integers(1, 40), st.booleans())
def test_no_cut_empties_a_response(prompt: int, room: int, characters: int, answer: int, bos: bool) -> None:
    """The prompt's limit is below the whole one, so at least one token of every response stays."""
    options = TokenOptions(max_prompt_tokens=prompt, max_total_tokens=prompt + room)
    example = Example("p" * characters, ("c" * answer, "r"))
    (encoded,) = encode_examples([example], byte_tokenizer(bos=bos), options)
    assert all(1 <= len(ids) <= answer for ids in encoded.response_ids)
    assert len(encoded.prompt_ids) + max(map(len, encoded.response_ids)) <= prompt + room
    assert list(iter_responses([example], byte_tokenizer(bos=bos), options)) == [encoded.response_ids]


def test_the_library_refuses_what_the_command_refuses() -> None:
    rows = [{"prompt": "p", "chosen": "c", "rejected": "r"}]
    tokenizer = byte_tokenizer()
    distribution = deft.count_distribution(rows, tokenizer)
    short = deft.TokenOptions(max_prompt_tokens=32, max_total_tokens=128)
    with pytest.raises(ModelNotUsable, match="context is 64"):
        deft.score(tiny_llama(positions=64), tokenizer, rows, distribution, tokens=short)
    with pytest.raises(ModelNotUsable, match="do not belong together"):
        deft.score(tiny_llama(vocabulary_size=1200), tokenizer, rows, distribution, tokens=short)
    with pytest.raises(InvalidInput, match="row 1"):
        deft.count_distribution(
            [{"prompt": "p", "responses": ["a", "b"], "scores": [0.0, 1.0], "ranks": [1, 2]}], tokenizer
        )


def head_cases() -> dict[str, Any]:
    quantised, bare, odd = tiny_llama(), tiny_llama(), tiny_llama()
    quantised.lm_head.weight = torch.nn.Parameter(quantised.lm_head.weight.to(torch.int8), requires_grad=False)
    bare.get_output_embeddings = lambda: None
    odd.lm_head = torch.nn.Sequential(torch.nn.Linear(32, 259), torch.nn.Tanh())
    return {"a quantised head": quantised, "no linear language-model head": bare, "no linear": odd}


@pytest.mark.parametrize("reason", ["a quantised head", "no linear language-model head", "no linear"])
def test_a_head_of_no_known_kind_is_refused_with_the_reason(reason: str) -> None:
    with pytest.raises(ModelNotUsable, match=reason) as caught:
        head_of(head_cases()[reason])
    assert caught.value.findings[0].code == "unknown_head"


@pytest.mark.parametrize(
    "settings",
    [{"num_attention_heads": 0}, {"vocab_size": -1}, {"hidden_act": "nope"}, {"rms_norm_eps": "small"}],
)
def test_settings_that_make_no_sense_are_the_users_matter(settings: dict[str, Any], tmp_path: Path) -> None:
    folder = altered(save_tiny_llama(tmp_path / "whole"), tmp_path, **settings)
    with pytest.raises(ModelNotUsable) as caught:
        models.check_settings(folder, byte_tokenizer(), TokenOptions(**TOKENS))
        models.load_base(folder)
    assert caught.value.findings[0].fix


def test_a_dataset_whose_ranks_contradict_its_scores_never_comes_to_be(tmp_path: Path) -> None:
    row = {"prompt": "p", "responses": ["a", "b"], "ranks": [1, 2], "scores": [0.0, 1.0]}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "out").mkdir()
    with pytest.raises(InvalidInput) as caught:
        import_files([tmp_path / "rows.jsonl"], tmp_path / "out")
    assert [finding.code for finding in caught.value.findings] == ["ranks_contradict_scores"]
