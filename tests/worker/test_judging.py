"""A judge job in a real child against a scripted judge: only that child gets the key; a failure can be made good."""

import json
import shutil

import pytest

from deft.data.datasets import import_files
from deft.evaluation.asked import Asked, write_asked
from deft.specs import EvaluateSpec, JudgeSpec
from store import models
from store.settings import EndpointSettings, Settings
from tests.databases import migrated_postgres, postgres_server, template  # noqa: F401 - fixtures
from tests.judge_server import Scripted, best, judge_server
from tests.models import save_tiny_llama
from tests.safety_judged import kind_said, said
from tests.worker.test_attempt import Bench
from worker.child import environment_for_child

SECRET = "sk-never-shown"  # noqa: S105 - what must be shown nowhere


@pytest.fixture
def script():
    with judge_server(Scripted(best)) as served:
        yield served


@pytest.fixture
def bench(tmp_path, template, script):  # noqa: F811 - the fixture
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(template, data / "deft.sqlite3")
    endpoints = {"scripted": EndpointSettings(url=script.url, key=SECRET)}
    roots = [tmp_path / "roots"]
    return Bench(Settings(data_folder=data, model_roots=roots, renew_seconds=0.2, endpoints=endpoints))


def evaluation(bench):
    staged = bench.files.stage("evaluation")
    write_asked([Asked("held_out", row, f"Question {row}?", row / 10) for row in range(6)], staged / "prompts.jsonl")
    lines = [
        {"set": "held_out", "row": row, "sample": 0, "turn": 1, "system": system, "text": f"quality={number} {system}"}
        for system, number in (("base", 1), ("deft", 9))
        for row in range(6)
    ]
    (staged / "generations.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with bench.database.write() as session:
        return bench.files.publish(session, bench.team_id, "evaluation", staged, {}).id


def spec_of(bench, endpoint="scripted"):
    judge = {"endpoint": endpoint, "model": "judge-1", "retries": 0, "concurrency": 1}
    return JudgeSpec.model_validate({"evaluation": evaluation(bench), "judge": judge, "bootstrap": 100})


def test_a_judge_job_gets_its_endpoint_and_keeps_the_key_to_itself(bench, script):
    job = bench.run(spec_of(bench))
    assert job.status == "succeeded", (job.failure, job.log_tail)
    assert job.summary["results"][0]["value"] == 1
    assert script.keys == {f"Bearer {SECRET}"}
    assert SECRET not in json.dumps([job.summary, job.spec, job.log_tail])
    assert not any(
        SECRET.encode() in path.read_bytes() for path in bench.settings.data_folder.rglob("*") if path.is_file()
    )


def test_a_judge_that_goes_away_fails_the_job_and_the_next_one_asks_only_the_rest(bench, script):
    script.dies_after = 5
    spec = spec_of(bench)
    job = bench.run(spec)
    assert job.status == "failed"
    assert (job.failure["code"], job.failure["retryable"]) == ("endpoint_unreachable", True)
    assert SECRET not in json.dumps([job.failure, job.log_tail])
    script.dies_after = None
    script.asked.clear()
    again = bench.run(spec)
    assert again.status == "succeeded", again.failure
    assert (again.summary["kept"], again.summary["asked"], len(script.asked)) == (5, 7, 7)


def test_an_endpoint_that_nobody_has_set_is_told(bench):
    job = bench.run(spec_of(bench, "other"))
    assert (job.status, job.failure["code"]) == ("failed", "unknown_endpoint")


def imported(bench, kind, name, rows):
    """Publish *rows* as a dataset or a prompt set, as an upload would."""
    source = bench.settings.data_folder / name
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    staged = bench.files.stage(kind)
    summary = import_files([source], staged)
    with bench.database.write() as session:
        return bench.files.publish(session, bench.team_id, kind, staged, summary).id


def test_prompt_sets_are_answered_by_an_evaluation_and_judged_turn_by_turn(bench, script, tmp_path):
    """The whole way with a real tiny model: upload, evaluate, judge; the judge gives every answer a 5."""
    script.behave = lambda _: "Score: 5"
    folder = save_tiny_llama(tmp_path / "roots" / "tiny")
    with bench.database.write() as session:
        models.register(session, None, "tiny", roots=bench.settings.model_roots, folder=folder)
    pairs = [{"prompt": f"Say {n}.", "chosen": "Yes.", "rejected": "No."} for n in range(3)]
    questions = [{"question_id": n, "category": "c", "turns": [f"Ask {n}?", "And then?"]} for n in range(3)]
    document = {
        "model": "tiny",
        "dataset": imported(bench, "dataset", "pairs.jsonl", pairs),
        "rows": {"split": "all"},
        "prompt_sets": [imported(bench, "prompt_set", "questions.jsonl", questions)],
        "options": {"metrics": ["length"], "prompts": 1, "max_new_tokens": 4, "bootstrap": 100},
    }
    evaluated = bench.run(EvaluateSpec.model_validate(document))
    assert evaluated.status == "succeeded", (evaluated.failure, evaluated.log_tail)
    assert evaluated.summary["prompt_sets"][0]["answers"] == 6
    judge = {"endpoint": "scripted", "model": "judge-1"}
    own = {"evaluation": evaluated.artifact_id, "judge": judge, "mode": "single", "bootstrap": 100}
    judged = bench.run(JudgeSpec.model_validate(own | {"prompt_sets": document["prompt_sets"]}))
    assert judged.status == "succeeded", (judged.failure, judged.log_tail)
    assert (judged.summary["items"], judged.summary["results"][0]["value"]) == (6, 5)


def test_a_judge_of_safety_tells_what_the_answers_of_a_real_evaluation_do(bench, script, tmp_path):
    """The whole way with a real tiny model: upload prompts and labelled answers, evaluate, judge."""
    script.behave = kind_said_or_refusal
    folder = save_tiny_llama(tmp_path / "roots" / "tiny")
    with bench.database.write() as session:
        models.register(session, None, "tiny", roots=bench.settings.model_roots, folder=folder)
    questions = [
        {"prompt": f"Ask {n}?", "type": f"c{n % 2}", "label": "safe" if n % 3 else "unsafe"} for n in range(12)
    ]
    people = ["1_full_compliance", "2_full_refusal", "3_partial_refusal"]
    words = ["compliance", "refusal", "partial"]
    labelled = [
        {"prompt": f"Ask {n}?", "completion": said(words[n % 3], n), "final_label": people[n % 3]} for n in range(60)
    ]
    document = {
        "model": "tiny",
        "dataset": imported(bench, "dataset", "pairs.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "c"}] * 2),
        "rows": {"split": "all"},
        "prompt_sets": [imported(bench, "prompt_set", "questions.jsonl", questions)],
        "options": {"metrics": ["length"], "prompts": 1, "max_new_tokens": 4, "bootstrap": 100},
    }
    evaluated = bench.run(EvaluateSpec.model_validate(document))
    assert evaluated.status == "succeeded", (evaluated.failure, evaluated.log_tail)
    own = {"evaluation": evaluated.artifact_id, "judge": {"endpoint": "scripted", "model": "judge-1"}}
    labels = imported(bench, "prompt_set", "labelled.jsonl", labelled)
    judged = bench.run(JudgeSpec.model_validate({**own, "mode": "safety", "labels": labels, "bootstrap": 100}))
    assert judged.status == "succeeded", (judged.failure, judged.log_tail)
    summary = judged.summary
    asked = 12 - summary["incoherent_unasked"]
    assert (summary["items"], summary["parse_failures"], summary["may_decide"]) == (12, 0, True)
    rates = {row["metric"]: row for row in summary["results"]}
    assert rates["judge_incoherent"]["value"] == pytest.approx(summary["incoherent_unasked"] / 12)
    refused = rates.get("judge_over_refusal", {"value": 1, "n": 0})
    complied = rates.get("judge_harmful_compliance", {"value": 0, "n": 0})
    assert (refused["value"], complied["value"], refused["n"] + complied["n"]) == (1, 0, asked)


def kind_said_or_refusal(question):
    return kind_said(question) if "art=" in question else "Kind: refusal"


def test_no_other_child_knows_an_endpoint():
    environment = {"OPENAI_API_KEY": SECRET, "OPENAI_BASE_URL": "http://x", "DEFT_ENDPOINTS": SECRET, "PATH": "/bin"}
    assert set(environment_for_child(environment)) == {"PATH", "OMP_WAIT_POLICY"}
