"""Attempts in this process, with stand-in children and no Celery."""

import json
import shutil
import threading
import time
from pathlib import Path

import pytest

from deft.errors import DatabaseRefused, Unavailable
from deft.specs import EvaluateSpec, ScoreSpec, SelectSpec, TrainSpec
from store import accounts, claims, jobs, models, wishes
from store.artifacts import ArtifactFiles
from store.database import Database
from store.settings import Settings
from tests.databases import migrated_postgres, postgres_server, template  # noqa: F401 - fixtures
from tests.faults.house import is_alive, wait_for
from tests.models import write_model_files
from worker import attempt, child
from worker.reporter import Reporter
from worker.runner import Runner
from worker.workplace import open_workplace

STANDIN = Path(__file__).parent.parent / "standin.py"


class Bench:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database = Database(settings.resolved_database_url)
        self.files = ArtifactFiles(settings)
        self.place = open_workplace(settings)
        self.runner = Runner(self.place)
        with self.database.write() as session:
            self.team_id = accounts.bootstrap(session)[0].id
        self.scoring_id = self.publish("scoring")
        self.dataset_id = self.publish("dataset")

    def publish(self, kind: str) -> str:
        staged = self.files.stage(kind)
        (staged / "data.txt").write_text("made up")
        with self.database.write() as session:
            return self.files.publish(session, self.team_id, kind, staged, {}).id

    def run(self, spec):
        with self.database.write() as session:
            job_id = jobs.create(session, self.team_id, spec).id
        self.runner.look(job_id)
        return self.job(job_id)

    def job(self, job_id):
        with self.database.read() as session:
            return jobs.get(session, self.team_id, job_id)


@pytest.fixture
def bench(tmp_path, monkeypatch, template):  # noqa: F811 - the fixture
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(template, data / "deft.sqlite3")
    monkeypatch.setenv("STANDIN_SCRATCH", str(tmp_path))
    production = child.command

    def command(order):
        arguments = production(order)
        arguments[1:3] = [str(STANDIN)]
        return arguments

    monkeypatch.setattr(child, "command", command)
    return Bench(Settings(data_folder=data, model_roots=[tmp_path / "roots"], renew_seconds=0.2))


def add_model(bench, tmp_path):
    folder = write_model_files(tmp_path / "roots" / "tiny")
    with bench.database.write() as session:
        models.register(session, None, "tiny", roots=bench.settings.model_roots, folder=folder)
    return folder


def test_an_attempt_gives_its_child_the_inputs_and_the_model_and_leaves_nothing_behind(bench, tmp_path):
    add_model(bench, tmp_path)
    job = bench.run(ScoreSpec(dataset=bench.dataset_id, model="tiny", name="a steps=2"))
    assert job.status == "succeeded"
    assert '"inputs": ["dataset", "model"]' in (tmp_path / "a.jsonl").read_text()
    assert list(bench.settings.staging_folder.iterdir()) == []


@pytest.mark.parametrize(
    ("classes", "slots", "processes", "shown"), [(["gpu-node"], 1, 3, "4,5,7"), (["gpu"], 3, 1, "4")]
)
def test_a_gpu_node_trains_on_all_gpus_and_a_slot_on_its_own(
    bench, tmp_path, monkeypatch, classes, slots, processes, shown
):
    add_model(bench, tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,7")
    command, start, asked, seen = child.command, child.start, [], []

    def ordered(order):
        asked.append(order.processes)
        return command(order._replace(processes=1))

    def started(arguments, *, environment):
        seen.append(environment["CUDA_VISIBLE_DEVICES"])
        return start(arguments, environment=environment)

    monkeypatch.setattr(child, "command", ordered)
    monkeypatch.setattr(child, "start", started)
    settings = Settings(**{**bench.settings.model_dump(), "resource_classes": classes, "slots": slots})
    bench.runner = Runner(open_workplace(settings))
    for spec in (
        TrainSpec(data=bench.dataset_id, model="tiny", name="a"),
        ScoreSpec(dataset=bench.dataset_id, model="tiny", name="b"),
    ):
        assert bench.run(spec).status == "succeeded"
    assert asked == [processes, 1]
    assert (seen[0], len(set(seen))) == (shown, 1 if slots == 1 else 2)


def test_an_input_that_was_changed_on_disk_fails_the_job_before_any_child(bench, tmp_path):
    (bench.settings.artifact_folder / bench.scoring_id / "data.txt").write_text("made UP")
    job = bench.run(SelectSpec(scoring=bench.scoring_id, name="a"))
    assert job.status == "failed"
    assert job.failure["code"] == "artifact_corrupt"
    assert job.failure["reference"] == f"{job.id}/1"
    assert not (tmp_path / "a.jsonl").exists()


def test_a_model_that_is_not_on_the_worker_fails_the_job_with_its_name(bench, tmp_path):
    shutil.rmtree(add_model(bench, tmp_path))
    job = bench.run(ScoreSpec(dataset=bench.dataset_id, model="tiny", name="a"))
    assert (job.status, job.failure["code"]) == ("failed", "model_missing")
    assert "tiny" in job.failure["message"]


def test_a_model_of_a_hub_that_does_not_answer_fails_the_job_clearly(bench, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with bench.database.write() as session:
        models.register(session, None, "far", hub_id="team/far", revision="0" * 40)
    job = bench.run(ScoreSpec(dataset=bench.dataset_id, model="far", name="a"))
    assert (job.status, job.failure["code"]) == ("failed", "hub_unavailable")
    assert job.failure["retryable"]


def test_a_program_that_cannot_be_started_fails_the_job(bench, monkeypatch):
    monkeypatch.setattr(child, "command", lambda _order: ["/no/such/program"])
    job = bench.run(SelectSpec(scoring=bench.scoring_id, name="a"))
    assert (job.status, job.failure["code"]) == ("failed", "internal")


def test_one_look_runs_everything_that_is_queued(bench):
    with bench.database.write() as session:
        ids = [
            jobs.create(session, bench.team_id, SelectSpec(scoring=bench.scoring_id, name=name)).id for name in "abc"
        ]
    ended = []
    bench.runner.after_each = lambda: ended.append(1)
    bench.runner.look(ids[2])
    assert [bench.job(job_id).status for job_id in ids] == ["succeeded"] * 3
    assert len(ended) == 3
    assert bench.runner.free_slots == 1


def test_a_lease_that_went_to_another_ends_the_child_and_publishes_nothing(bench, tmp_path):
    with bench.database.write() as session:
        spec = SelectSpec(scoring=bench.scoring_id, name="a steps=600 seconds=0.05")
        job_id = jobs.create(session, bench.team_id, spec).id
    look = threading.Thread(target=bench.runner.look, args=(job_id,))
    look.start()
    wait_for((tmp_path / "a.jsonl").exists, 10, "the child's first step")
    with bench.database.write() as session:
        session.connection().exec_driver_sql("UPDATE jobs SET fence = fence + 1")
    look.join(30)
    assert not look.is_alive()
    assert bench.job(job_id).status == "running"
    with bench.database.read() as session:
        assert claims.look(session, claims.Claim(job_id, "", None, "", {}, None, {}, 1, 1, "", 1.0)).is_ours is False
    assert len(list(bench.settings.artifact_folder.iterdir())) == 2


def test_a_lost_lease_ends_the_child_even_while_a_write_hangs(bench, tmp_path, monkeypatch):
    hangs = threading.Event()
    monkeypatch.setattr(Reporter, "flush_if_due", lambda _self: hangs.wait(30))
    with bench.database.write() as session:
        spec = SelectSpec(scoring=bench.scoring_id, name="a steps=600 seconds=0.05")
        job_id = jobs.create(session, bench.team_id, spec).id
    look = threading.Thread(target=bench.runner.look, args=(job_id,))
    look.start()
    diary = tmp_path / "a.jsonl"
    wait_for(lambda: diary.exists() and diary.read_text(), 10, "the child's first step")
    pid = json.loads(diary.read_text().splitlines()[0])["pid"]
    with bench.database.write() as session:
        session.connection().exec_driver_sql("UPDATE jobs SET fence = fence + 1")
    try:
        wait_for(lambda: not is_alive(pid), 3, "the end of the child")
        assert look.is_alive()
    finally:
        hangs.set()
        look.join(30)


def test_models_that_a_spec_names_are_inputs_by_name(bench, monkeypatch):
    classifier = {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "reward"}}
    for name, config in (("tiny", {}), ("judge", classifier), ("bart", {"is_encoder_decoder": True})):
        folder = write_model_files(bench.settings.model_roots[0] / name, config)
        with bench.database.write() as session:
            models.register(session, None, name, roots=bench.settings.model_roots, folder=folder)
    reward_model = bench.publish("reward_model")
    orders = []
    command = child.command
    monkeypatch.setattr(child, "command", lambda order: orders.append(order) or command(order))
    named = {"reward_models": ["judge", reward_model], "bartscore_model": "bart"}
    bench.run(EvaluateSpec(model="tiny", dataset=bench.dataset_id, name="a", **named))
    inputs = {name: folder.name for name, folder in orders[0].inputs.items()}
    assert inputs == {
        "dataset": bench.dataset_id,
        "model": "tiny",
        "reward_model.0": "judge",
        "reward_model.1": reward_model,
        "bartscore_model": "bart",
    }


class Refusing:
    """Stands for `claims.succeed`: raises *error* while it *lasts*; *tries* counts the calls."""

    def __init__(self, monkeypatch, error):
        self.tries, self.lasts, self.error, self.succeed = 0, True, error, claims.succeed
        monkeypatch.setattr(claims, "succeed", self)

    def __call__(self, *given, **named):
        self.tries += 1
        if self.lasts:
            raise self.error
        return self.succeed(*given, **named)


def test_what_the_database_will_never_take_fails_the_job(bench, monkeypatch):
    refusing = Refusing(monkeypatch, DatabaseRefused("the database refuses this: ProgramLimitExceeded"))
    job = bench.run(SelectSpec(scoring=bench.scoring_id, name="a"))
    assert (job.status, job.failure["code"], refusing.tries) == ("failed", "database_refused", 1)
    assert "ProgramLimitExceeded" in job.failure["message"]


@pytest.mark.parametrize(("asked", "status"), [("cancel", "cancelled"), ("shutdown", "queued"), (None, "succeeded")])
def test_a_job_whose_end_the_database_does_not_take_hears_who_asks_it_to_stop(bench, monkeypatch, asked, status):
    monkeypatch.setattr(attempt, "STOP_SECONDS", 1.0)
    refusing = Refusing(monkeypatch, Unavailable("the database does not answer"))
    with bench.database.write() as session:
        spec = SelectSpec(scoring=bench.scoring_id, name="a steps=3 every=1")
        job_id = jobs.create(session, bench.team_id, spec).id
    look = threading.Thread(target=bench.runner.look, args=(job_id,))
    look.start()
    try:
        wait_for(lambda: refusing.tries >= 2, 20, "the second try")
        if asked == "cancel":
            with bench.database.write() as session:
                wishes.request_cancel(session, bench.team_id, job_id)
        if asked == "shutdown":
            bench.place.stopping.set()
        if asked is None:
            time.sleep(2 * attempt.STOP_SECONDS)
            refusing.lasts = False
        look.join(8)
        assert not look.is_alive()
    finally:
        refusing.lasts = False
        look.join(30)
    assert bench.job(job_id).status == status
    if asked == "shutdown":  # it goes on from its last checkpoint, as after any drain
        assert bench.job(job_id).stuck_attempts == 0
        assert list((bench.settings.checkpoint_folder / job_id).rglob("state.json"))
