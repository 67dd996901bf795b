"""The ten lines of the README, run with unmodified TRL, and what the four functions promise."""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict

import deft
import deft.library
from deft.errors import InvalidInput, InvalidRows, ModelNotUsable
from deft.reward import reward_from_logits
from tests.models import byte_tokenizer, tiny_llama

ROWS = [
    {"prompt": f"Question {n}: what is {n}?", "chosen": " It is " + "good " * (n % 7), "rejected": f" No, not {n}."}
    for n in range(40)
]


def test_the_package_itself_loads_no_torch() -> None:
    code = "import deft, sys; assert 'torch' not in sys.modules; deft.score; assert 'torch' in sys.modules"
    subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2], env=os.environ | {"PYTHONPATH": "."}
    )


def test_the_readme_block_runs_as_it_is_written(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    block = next(code for code in readme.split("```") if code.startswith("python") and "deft.reward_term" in code)
    monkeypatch.chdir(tmp_path)
    Dataset.from_list(ROWS).to_json("pairs.jsonl")
    (tmp_path / "path" / "to").mkdir(parents=True)
    (tmp_path / "path" / "to" / "model").symlink_to(tiny_model_folder)
    names: dict[str, Any] = {}
    exec(compile(block.removeprefix("python"), "README.md", "exec"), names)  # noqa: S102 - our own README

    names["loss"].backward()
    assert isinstance(names["subset"], Dataset)
    assert len(names["subset"]) == 2
    assert sorted(names["subset"]["deft_r_d"]) == sorted(score.chosen for score in names["scores"])[:2]


def test_what_is_kept_has_the_lowest_reward(tiny_model_folder: Path) -> None:
    model, tokenizer = tiny_llama(), byte_tokenizer()
    scores = deft.score(model, tokenizer, ROWS, deft.count_distribution(ROWS, tokenizer))
    kept = deft.select(ROWS, scores, keep=0.25)
    lowest = sorted(range(40), key=lambda n: scores[n].chosen)[:10]
    assert [row["prompt"] for row in kept] == [ROWS[n]["prompt"] for n in sorted(lowest)]
    assert [row["deft_r_d"] for row in kept] == [scores[n].chosen for n in sorted(lowest)]
    highest = deft.select(ROWS, scores, keep=0.25, end="highest")
    assert min(row["deft_r_d"] for row in highest) > max(row["deft_r_d"] for row in kept)


def test_a_subset_can_be_selected_from_again() -> None:
    model, tokenizer = tiny_llama(), byte_tokenizer()
    distribution = deft.count_distribution(ROWS, tokenizer)
    for rows in (ROWS, Dataset.from_list(ROWS)):
        subset: Any = deft.select(rows, deft.score(model, tokenizer, rows, distribution), keep=0.5)
        stale = [{**row, "deft_r_d": 9.0} for row in subset]
        again = deft.select(subset, deft.score(model, tokenizer, subset, distribution), keep=0.5)
        renewed = deft.select(stale, deft.score(model, tokenizer, stale, distribution), keep=0.5)
        assert type(again) is type(rows)
        assert len(again) == 10
        assert [row["deft_r_d"] for row in again] == pytest.approx([row["deft_r_d"] for row in renewed], abs=1e-6)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [({"keep": 0}, "greater"), ({"keep": float("nan")}, "number"), ({"end": "low"}, "'lowest'"), ({"by": 1}, "chosen")],
)
def test_a_setting_that_is_none_is_told_with_found_and_expected(setting: dict[str, Any], expected: str) -> None:
    scores = [deft.library.ScoredRow(row, float(row), None, 3) for row in range(40)]
    with pytest.raises(InvalidInput, match=expected) as refused:
        deft.select(ROWS, scores, **setting)
    assert {finding.pointer for finding in refused.value.findings} == {f"/{next(iter(setting))}"}


def test_splits_and_no_rows_are_called_what_they_are() -> None:
    splits: Any = DatasetDict(train=Dataset.from_list(ROWS), test=Dataset.from_list(ROWS))
    with pytest.raises(InvalidInput, match=r"splits train, test.*split="):
        deft.count_distribution(splits, byte_tokenizer())
    with pytest.raises(InvalidInput, match="found no rows") as refused:
        deft.count_distribution([], byte_tokenizer())
    assert "file" not in str(refused.value)


def test_score_is_the_definition_also_when_the_head_has_more_rows_than_tokens() -> None:
    model, tokenizer = tiny_llama(vocabulary_size=300), byte_tokenizer()
    distribution = deft.count_distribution(ROWS, tokenizer)
    (score, *_) = deft.score(model, tokenizer, ROWS, distribution)
    prompt, chosen = (tokenizer(ROWS[0][key])["input_ids"] for key in ("prompt", "chosen"))
    with torch.no_grad():
        logp = torch.log_softmax(model(torch.tensor([prompt + chosen])).logits[0].double(), -1)
    naive = distribution.q_diff @ logp[len(prompt) - 1 : -1].mean(0).numpy()[:259]
    assert score.chosen == pytest.approx(float(naive), abs=1e-6)
    assert score.chosen_tokens == len(chosen)


def test_reward_term_gives_the_score_with_a_gradient() -> None:
    model, tokenizer = tiny_llama(), byte_tokenizer()
    distribution = deft.count_distribution(ROWS, tokenizer)
    scores = deft.score(model, tokenizer, ROWS[:2], distribution)
    rows: list[Any] = [[tokenizer(row[key])["input_ids"] for key in ("prompt", "chosen")] for row in ROWS[:2]]
    longest = max(len(p) + len(c) for p, c in rows)
    ids = torch.tensor([p + c + [2] * (longest - len(p) - len(c)) for p, c in rows])
    labels = torch.tensor([[-100] * len(p) + c + [-100] * (longest - len(p) - len(c)) for p, c in rows])
    hidden = model(input_ids=ids, output_hidden_states=True).hidden_states[-1]
    r_d = deft.reward_term(model, distribution)(hidden, labels)
    np.testing.assert_allclose(r_d.detach().numpy(), [score.chosen for score in scores], rtol=0, atol=1e-5)
    r_d.sum().backward()
    assert model.model.layers[0].self_attn.q_proj.weight.grad.abs().sum() > 0


def test_a_bad_row_is_named_by_its_number() -> None:
    with pytest.raises(InvalidRows, match="row 2") as caught:
        deft.count_distribution([ROWS[0], {**ROWS[1], "rejected": None}], byte_tokenizer())
    assert caught.value.findings[0].line == 2


def test_a_distribution_of_another_tokenizer_is_refused() -> None:
    distribution = deft.count_distribution(ROWS, byte_tokenizer())
    with pytest.raises(ModelNotUsable, match="vocabulary of 40"):
        deft.reward_term(tiny_llama(vocabulary_size=40), distribution)


def test_scores_of_other_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="40 rows, but 0 scores"):
        deft.select(ROWS, [])


def test_a_head_that_learns_gets_the_gradient_of_the_definition() -> None:
    """d R_d / d W of the long way, by autograd through log-softmax, and u after a change of W."""
    for settings in ({}, {"tied": True}):
        model, tokenizer = tiny_llama(**settings), byte_tokenizer()
        distribution = deft.count_distribution(ROWS, tokenizer)
        term = deft.reward_term(model, distribution)
        ids = torch.tensor([tokenizer("some prompt and its answer")["input_ids"]])
        labels = torch.cat([torch.full((1, 11), -100), ids[:, 11:]], 1)
        with torch.no_grad():
            model.lm_head.weight.mul_(1.5)
        out = model(input_ids=ids, output_hidden_states=True)
        r_d = term(out.hidden_states[-1], labels).sum()
        (ours,) = torch.autograd.grad(r_d, model.lm_head.weight, retain_graph=True)
        naive = reward_from_logits(out.logits[0, 10:-1], distribution.q_diff)
        (theirs,) = torch.autograd.grad(naive, model.lm_head.weight)
        assert r_d.item() == pytest.approx(naive.item(), abs=1e-5)
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
        assert ours.abs().max() > 1e-3


def test_a_distribution_of_another_tokenizer_is_not_scored_with() -> None:
    distribution = deft.count_distribution(ROWS, byte_tokenizer(has_chat_template=False))
    with pytest.raises(InvalidInput, match="counted with tokenizer"):
        deft.score(tiny_llama(), byte_tokenizer(), ROWS, distribution)


@pytest.mark.parametrize("name", ["count_distribution", "score", "select", "reward_term"])
def test_the_documentation_of_a_public_function_is_complete(name: str) -> None:
    function = getattr(deft, name)
    text = function.__doc__
    assert re.match(r"M\d", text)
    assert "Raises:" in text
    arguments = text.partition("Args:")[2]
    assert all(f"{parameter}: " in arguments for parameter in inspect.signature(function).parameters)
    assert name in (Path(__file__).parents[2] / "docs" / "library.md").read_text()


def test_the_public_names_are_there() -> None:
    assert [getattr(deft, name).__name__ for name in deft.__all__] == deft.__all__
    with pytest.raises(AttributeError, match="no attribute 'train'"):
        _ = deft.train
    assert (Path(deft.__file__).with_name("py.typed")).is_file()
