import itertools
import re
from pathlib import Path

import pytest
from sqlalchemy import update

from deft.specs import ScoreSpec
from store import jobs, moves, states
from store.states import FINISHED, STATUSES, TRANSITIONS
from store.tables import Event, Job

GLOSSARY = Path("docs/glossary.md")


def test_no_arrow_leaves_a_finished_state():
    for transition in TRANSITIONS:
        assert not transition.sources & FINISHED, transition.name


def test_letters_and_names_are_unique():
    assert len({t.letter for t in TRANSITIONS}) == len({t.name for t in TRANSITIONS}) == len(TRANSITIONS)


def test_the_drawing_has_every_state_and_arrow():
    text = GLOSSARY.read_text(encoding="utf-8")
    for status in STATUSES:
        assert f"`{status}`" in text
    rows = dict(re.findall(r"^\| \(([a-p])\) \| `(\w+)`", text, flags=re.MULTILINE))
    expected = {t.letter: t.name for t in TRANSITIONS} | {"a": "created", "b": "created", "p": "derived"}
    assert rows == expected


@pytest.mark.parametrize("transition", TRANSITIONS, ids=lambda t: t.name)
def test_a_move_works_from_its_sources_and_from_nowhere_else(database, team_id, model_id, dataset_id, transition):
    for status in STATUSES:
        with database.write() as session:
            job_id = jobs.create(session, team_id, ScoreSpec(dataset=dataset_id, model="tiny")).id
            session.execute(update(Job).where(Job.id == job_id).values(status=status))
        with database.write() as session:
            moved = moves.move(session, job_id, transition)
        with database.read() as session:
            job, events = session.get(Job, job_id), session.query(Event).filter_by(job_id=job_id).count()
        if status in transition.sources:
            assert (moved.status, job.status, job.version, events) == (transition.target, transition.target, 2, 2)
            assert (job.finished_at is not None) == (transition.target in FINISHED)
        else:
            assert (moved, job.status, job.version, events) == (None, status, 1, 1)


def test_a_pipeline_can_be_derived_to_any_state_but_from_no_finished_one():
    for target in STATUSES:
        assert states.derived(target).sources == frozenset(STATUSES) - FINISHED
        assert states.derived(target).target == target


def test_every_unfinished_state_can_reach_the_end():
    arrows = {(source, t.target) for t in TRANSITIONS for source in t.sources}
    reached = set(FINISHED)
    for _ in STATUSES:
        reached |= {source for source, target in arrows if target in reached}
    assert reached == set(STATUSES)
    assert not any(a == b for a, b in itertools.product(FINISHED, STATUSES) if (a, b) in arrows)
