import threading
import time

from deft.errors import Unavailable
from worker.lease import Answer, LeaseKeeper, Terms

TERMS = Terms(lease_seconds=0.5, renew_seconds=0.05)
OURS = Answer(is_ours=True)


def keep(renew, seconds, terms=TERMS):
    lost = []
    with LeaseKeeper(renew, terms, on_lost=lambda: lost.append(time.monotonic())) as keeper:
        time.sleep(seconds)
        return keeper, lost


def test_a_lease_that_is_renewed_is_kept_past_its_length():
    keeper, lost = keep(lambda: OURS, 1.0)
    assert lost == []
    assert not keeper.is_lost


def test_a_row_that_is_not_ours_is_given_up_at_once_and_once():
    began = time.monotonic()
    keeper, lost = keep(lambda: Answer(is_ours=False), 0.7)
    assert keeper.is_lost
    assert len(lost) == 1
    assert lost[0] - began < 0.3
    assert keeper.seconds_left == 0


def test_a_database_that_refuses_is_retried_and_the_lease_given_up_before_it_ends():
    tries = []

    def refuse():
        tries.append(1)
        raise Unavailable

    began = time.monotonic()
    _, lost = keep(refuse, 0.8)
    assert len(tries) >= 3
    assert 0.3 < lost[0] - began < TERMS.lease_seconds


def test_a_database_that_hangs_does_not_keep_us_from_giving_up_in_time():
    never = threading.Event()

    def hang():
        never.wait(5)
        return OURS

    began = time.monotonic()
    _, lost = keep(hang, 0.8)
    never.set()
    assert 0.3 < lost[0] - began < TERMS.lease_seconds


def test_a_short_outage_is_survived():
    answers = iter([Unavailable(), OURS])

    def renew():
        answer = next(answers, OURS)
        if isinstance(answer, Exception):
            raise answer
        return answer

    keeper, lost = keep(renew, 0.8)
    assert lost == []
    assert not keeper.is_lost


def test_what_the_owner_wants_is_passed_on():
    keeper, _ = keep(lambda: Answer(is_ours=True, wish="cancel"), 0.3)
    assert keeper.wish == "cancel"
