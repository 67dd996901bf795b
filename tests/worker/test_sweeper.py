import os
import shutil
import signal
import subprocess
import sys
import time

from deft.specs import SelectSpec
from store import accounts, bell, jobs
from store.artifacts import ArtifactFiles
from store.database import Database
from store.settings import Settings
from tests.databases import template  # noqa: F401 - fixture


def test_a_sweeper_alone_rings_for_what_nobody_took_and_stops_when_told(tmp_path, template):  # noqa: F811
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(template, data / "deft.sqlite3")
    settings = Settings(data_folder=data)
    bell.prepare_embedded(settings)
    database, files = Database(settings.resolved_database_url), ArtifactFiles(settings)
    with database.write() as session:
        team_id = accounts.bootstrap(session)[0].id
        staged = files.stage("scoring")
        (staged / "data.txt").write_text("made up")
        scoring_id = files.publish(session, team_id, "scoring", staged, {}).id
        job_id = jobs.create(session, team_id, SelectSpec(scoring=scoring_id)).id
    environment = {**os.environ, "DEFT_DATA_FOLDER": str(data), "DEFT_SWEEP_SECONDS": "0.2"}
    sweeper = subprocess.Popen([sys.executable, "-m", "worker.sweeper"], env=environment)
    try:
        end = time.monotonic() + 60
        while not (messages := list(settings.bell_folder.rglob("*.msg"))) and time.monotonic() < end:
            time.sleep(0.05)
        assert len(messages) == 1
        with database.read() as session:
            assert jobs.get(session, team_id, job_id).rung_at is not None
        sweeper.send_signal(signal.SIGTERM)
        assert sweeper.wait(30) == 0
    finally:
        sweeper.kill()
        sweeper.wait()


def test_a_sweeper_and_a_worker_start_without_torch():
    code = "import worker.sweeper, worker.main, sys; print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
