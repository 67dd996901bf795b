"""An evaluation that is killed amid a system goes on with every answer that it had, wherever answers are kept."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from deft import operations
from deft.budgets import GENERATION_TOKENS
from deft.evaluation.answer_journals import AnswerJournal
from deft.evaluation.generation import Answer
from deft.reports import Silent
from deft.specs import EvaluateSpec, spec_json
from tests.deft.evaluation.test_answer_sets import inputs, spec_of  # noqa: F401 - the fixture

Inputs = dict[str, Path]
SYSTEMS, BUDGET = 2, 30
SAMPLING = {"temperature": 1.0, "repeats": 2, "seed": 1}

KILLED = """
import os, signal, sys
from deft import budgets
from deft.__main__ import main
from deft.evaluation.answer_journals import AnswerJournal

budget, left, *arguments = sys.argv[1:]
budgets.GENERATION_TOKENS["cpu"], left = int(budget), int(left)
add = AnswerJournal.add

def add_and_die(self, answers):
    global left
    add(self, answers)
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

AnswerJournal.add = add_and_die
sys.exit(main(arguments))
"""


def held_out(**options: Any) -> EvaluateSpec:
    asked = {"prompts": 6, "max_new_tokens": 6, "metrics": ["length", "kl", "entropy"], **options}
    return EvaluateSpec.model_validate(spec_json(spec_of(**asked)) | {"prompt_sets": []})


def two_turns(**options: Any) -> EvaluateSpec:
    return EvaluateSpec.model_validate(spec_json(spec_of(prompts=0, **options)) | {"prompt_sets": ["ds_bench"]})


def evaluate(
    spec: EvaluateSpec, given: Inputs, out: Path, *, checkpoints: Path | None = None, cache: Path | None = None
) -> dict[str, Any]:
    out.mkdir()
    return operations.run(spec, inputs=given, out=out, checkpoints=checkpoints, report=Silent(), cache=cache)


def files_of(out: Path) -> list[bytes]:
    return [(out / name).read_bytes() for name in ("metrics.json", "generations.jsonl", "values.parquet")]


@pytest.mark.parametrize(
    ("spec", "where"),
    [
        pytest.param(held_out(), "cache", id="greedily, with a cache"),
        pytest.param(held_out(), "checkpoints", id="greedily"),
        pytest.param(held_out(held_out_sampling=SAMPLING), "checkpoints", id="by sampling"),
        pytest.param(two_turns(), "checkpoints", id="two turns"),
        pytest.param(two_turns(sampling=SAMPLING), "checkpoints", id="two turns by sampling"),
    ],
)
def test_a_killed_evaluation_generates_what_is_missing_alone_and_ends_the_same(
    spec: EvaluateSpec,
    where: str,
    inputs: Inputs,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed in the second half of what the second system has to say, of two turns in the second one."""
    monkeypatch.setitem(GENERATION_TOKENS, "cpu", BUDGET)
    batches, add = list[int](), AnswerJournal.add

    def counted(journal: AnswerJournal, answers: Mapping[str, Answer]) -> None:
        batches.append(len(answers))
        add(journal, answers)

    monkeypatch.setattr(AnswerJournal, "add", counted)
    given = {name: inputs[name] for name in operations.input_names(spec)}
    alone = evaluate(spec, given, tmp_path / "alone")
    whole = batches.copy()
    last = 3 * len(whole) // 4 + 1
    assert len(whole) / SYSTEMS < last < len(whole)

    (tmp_path / "spec.json").write_text(json.dumps(spec_json(spec)))
    arguments = [part for name, folder in given.items() for part in ("--input", f"{name}={folder}")]
    arguments += ["--out", str(tmp_path / "killed"), f"--{where}", str(tmp_path / "kept")]
    command = [sys.executable, "-c", KILLED, str(BUDGET), str(last), str(tmp_path / "spec.json"), *arguments]
    ended = subprocess.run(command, capture_output=True, check=False)
    assert ended.returncode == -9, ended.stderr.decode()[-2000:]

    batches.clear()
    again = evaluate(spec, given, tmp_path / "again", **{where: tmp_path / "kept"})
    assert (again["reused"]["answers"], batches) == (sum(whole[:last]), whole[last:])
    assert again["generated_by"] == alone["generated_by"]
    assert files_of(tmp_path / "again") == files_of(tmp_path / "alone")
