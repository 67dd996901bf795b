"""Judging on both databases: one item a rater at a time, no more raters than wanted, items that come back."""

import threading

import pytest
from alembic import command
from sqlalchemy import func, select, update

from deft.errors import Conflict, NotAuthenticated, NotFound
from deft.specs.studies import StudySpec
from store import accounts, judgements, raters, rating, studies, study_scores
from store.accounts import Caller
from store.database import alembic_config
from store.study_tables import StudyItem, StudyJudgement, StudyRater
from store.tables import Score
from store.types import database_now
from tests.evaluations import publish_evaluation


@pytest.fixture
def caller(database, team_id):
    with database.write() as session:
        row, _ = accounts.create_key(session, team_id, "maker")
    return Caller(team_id, row.id)


@pytest.fixture
def make(database, files, caller):
    def create(**more):
        evaluated = publish_evaluation(
            database, files, caller.team_id, rows=6, adapters={}, answers={"a": list("uvwxyz"), "b": list("UVWXYZ")}
        )
        spec = StudySpec(evaluation=evaluated.id, systems=["a", "b"], **{"attention": 0, "overlap": 0.0, **more})
        with database.read() as session:
            prepared = studies.prepare(session, files, caller.team_id, spec)
        with database.write() as session:
            return studies.create(session, caller, prepared)

    return create


def invited(database, study, name="Ann"):
    with database.write() as session:
        _, token = raters.invite(session, study.team_id, study.id, name)
        return raters.authenticate_rater(session, study.id, token)


def test_two_raters_share_the_items_between_them(database, make):
    study = make()
    ann, ben = invited(database, study), invited(database, study, "Ben")
    shown = []
    for rater in (ann, ben) * 4:
        with database.write() as session:
            item = rating.next_item(session, rater)
            if item is not None:
                rating.judge(session, rater, item.id, "1")
                shown.append(item.id)
    assert len(shown) == len(set(shown)) == 6
    with database.write() as session:
        assert rating.progress(session, ann) == rating.Progress(done=3, open=0)


def test_an_item_that_was_left_goes_to_another_after_an_hour(database, make):
    study = make(items=1)
    ann, ben = invited(database, study), invited(database, study, "Ben")
    with database.write() as session:
        item = rating.next_item(session, ann)
        assert rating.next_item(session, ben) is None
        session.execute(update(StudyJudgement).values(shown_at=database_now(-3700)))
        assert rating.next_item(session, ben).id == item.id


@pytest.mark.parametrize("by", ["invitation", "judging key", "key"])
def test_what_a_revoked_rater_left_is_another_s_at_once(database, make, caller, by):
    study = make(items=1)
    ben = invited(database, study, "Ben")
    with database.write() as session:
        key, _ = accounts.create_key(session, study.team_id, "rater")
        own = Caller(study.team_id, key.id)
    ann = invited(database, study) if by == "invitation" else joined(database, study, own)
    with database.write() as session:
        item = rating.next_item(session, ann)
        assert rating.next_item(session, ben) is None
        assert rating.progress(session, ben).open == 0
        if by == "key":
            accounts.revoke_key(session, study.team_id, own.key_id)
        else:
            raters.revoke(session, study.team_id, study.id, ann.id)
        assert rating.progress(session, ben).open == 1
        assert rating.next_item(session, ben).id == item.id


def test_what_a_revoked_rater_judged_stays_and_is_asked_of_nobody(database, make):
    study = make(items=1)
    ann, ben = invited(database, study), invited(database, study, "Ben")
    with database.write() as session:
        rating.judge(session, ann, rating.next_item(session, ann).id, "1")
        raters.revoke(session, study.team_id, study.id, ann.id)
        assert rating.next_item(session, ben) is None


def joined(database, study, caller):
    with database.write() as session:
        return raters.join(session, study.id, caller)


def test_requests_of_one_rater_at_once_get_one_item(database, make):
    study = make()
    ann = invited(database, study)
    got = []

    def ask():
        with database.write() as session:
            got.append(rating.next_item(session, ann).id)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 4
    assert len(set(got)) == 1


def test_raters_who_ask_at_once_do_not_get_the_same_single_place(database, make):
    for seed in range(5):
        study = make(items=1, seed=seed)
        several, got = [invited(database, study, f"r{n}") for n in range(4)], []
        together = threading.Barrier(len(several))

        def ask(rater, together=together, got=got):
            with database.write() as session:
                together.wait(timeout=30)
                got.append(rating.next_item(session, rater))

        threads = [threading.Thread(target=ask, args=(rater,)) for rater in several]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(got) == 4
        assert sum(item is not None for item in got) == 1


def test_what_is_judged_while_the_study_is_closed_is_in_its_score(database, make, monkeypatch):
    study = make()
    ann, looked = invited(database, study), threading.Event()
    results_of = judgements.results_of

    def watched(*given):
        found = results_of(*given)
        looked.set()
        return found

    def close():
        with database.write() as session:
            study_scores.close(session, study.team_id, study.id)

    monkeypatch.setattr(judgements, "results_of", watched)
    closing = threading.Thread(target=close)
    with database.write() as session:
        shown = [rating.next_item(session, ann).id]
    with database.write() as session:
        rating.judge(session, ann, shown[0], "1")
        closing.start()
        assert not looked.wait(timeout=0.5)  # it waits for this transaction
        rating.judge(session, ann, shown[0], "2")
    closing.join()
    with database.read() as session:
        counted = session.scalars(select(Score.n).where(Score.artifact_id == study.evaluation_id)).all()
        judged_at = session.scalars(select(StudyJudgement.judged_at)).one()
        assert studies.get(session, study.team_id, study.id).closed_at >= judged_at
    assert counted == [1, 1]
    with database.write() as session, pytest.raises(Conflict):
        rating.judge(session, ann, shown[0], "2")


def test_what_a_rater_judged_who_failed_the_checks_is_wanted_of_others(database, make):
    study = make(attention=2, attention_failures_allowed=0)
    shown = {}
    for name, is_attentive in (("Ann", False), ("Ben", True), ("Cem", True)):
        rater, kinds = invited(database, study, name), []
        with database.write() as session:
            while (item := rating.next_item(session, rater)) is not None:
                wrong = "tie" if item.expected == "1" else "1"
                rating.judge(session, rater, item.id, item.expected or "1" if is_attentive else wrong)
                kinds.append(item.kind)
        shown[name] = kinds.count("pair")
    assert shown == {"Ann": 6, "Ben": 6, "Cem": 0}


def test_every_rater_gets_the_checks_and_the_overlap(database, make):
    study = make(attention=2, overlap=0.5, raters_per_overlap=2)
    for name in ("Ann", "Ben"):
        rater = invited(database, study, name)
        with database.write() as session:
            while (item := rating.next_item(session, rater)) is not None:
                rating.judge(session, rater, item.id, item.expected or "tie")
    with database.read() as session:
        per_item = select(StudyItem.kind, func.count()).join(StudyJudgement, StudyJudgement.item_id == StudyItem.id)
        counts = dict(session.execute(per_item.group_by(StudyItem.kind)).all())
        assert studies.counts(session, study).judgements == 9
    assert counts == {"pair": 9, "attention": 4}


def test_raters_see_the_items_in_orders_of_their_own(database, make):
    study = make(overlap=1.0, raters_per_overlap=5)
    orders = set()
    for name in ("Ann", "Ben", "Cem"):
        rater, order = invited(database, study, name), []
        with database.write() as session:
            while (item := rating.next_item(session, rater)) is not None:
                rating.judge(session, rater, item.id, "1")
                order.append(item.id)
        orders.add(tuple(order))
    assert len(orders) == 3
    assert len({frozenset(order) for order in orders}) == 1


def test_only_a_hash_of_the_token_is_stored(database, make):
    study = make()
    with database.write() as session:
        row, token = raters.invite(session, study.team_id, study.id, "Ann")
        assert token not in repr([getattr(row, name) for name in StudyRater.__table__.columns.keys()])  # noqa: SIM118
        for wrong in (token[:-1], token + "x", "deftr_", "deftr_" + "x" * 10_000, token.replace("deftr_", "deft_")):
            with pytest.raises(NotAuthenticated):
                raters.authenticate_rater(session, study.id, wrong)
        assert raters.authenticate_rater(session, study.id, token).id == row.id


def test_a_key_becomes_one_rater_however_often_it_comes(database, make, team_id, other_team_id):
    study = make()
    with database.write() as session:
        _, key = accounts.create_key(session, team_id, "ci")
        _, foreign = accounts.create_key(session, other_team_id, "ci")
        caller = raters.authenticate_rater(session, study.id, key)
        assert isinstance(caller, Caller)
        joined = [raters.join(session, study.id, caller) for _ in range(2)]
        assert [raters.authenticate_rater(session, study.id, key)] * 2 == joined
        with pytest.raises(NotFound):
            raters.authenticate_rater(session, study.id, foreign)
        with pytest.raises(NotFound):
            raters.revoke(session, other_team_id, study.id, raters.of_study(session, team_id, study.id)[0].id)


def test_a_judgement_had_a_verdict_once_it_had_one(database, make):
    study = make()
    ann, said = invited(database, study), [["skip"], ["1"], ["tie", "skip", "skip"], ["skip", "2"], []]
    found = [had_verdict(database, say(database, ann, words)) for words in said]
    assert found == [False, True, True, True, False]


def test_what_was_said_before_that_was_kept_counts_as_a_verdict(database, make):
    study = make()
    ann = invited(database, study)
    items = [say(database, ann, words) for words in (["skip"], ["1"], [])]
    with database.write() as session:
        command.downgrade(alembic_config(session.connection()), "0005")
        command.upgrade(alembic_config(session.connection()), "head")
    assert [had_verdict(database, item) for item in items] == [True, True, False]


def say(database, rater, words):
    """Say all of *words*, in order, of the next item of the rater, and return its id."""
    with database.write() as session:
        item = rating.next_item(session, rater)
        for word in words:
            rating.judge(session, rater, item.id, word)
    return item.id


def had_verdict(database, item_id):
    with database.read() as session:
        return session.scalars(select(StudyJudgement.had_verdict).where(StudyJudgement.item_id == item_id)).one()
