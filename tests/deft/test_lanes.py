"""Passes side by side give what they give one by one, and leave the process as it was."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
import torch

from deft.lanes import in_lanes, lanes_for

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_results_come_in_order_from_threads_that_share_the_threads_of_the_caller() -> None:
    seen: dict[int, tuple[str, int]] = {}

    def pass_of(item: int) -> int:
        time.sleep(0.02 * (3 - item % 3))
        seen[item] = threading.current_thread().name, torch.get_num_threads()
        return item * item

    assert list(in_lanes(pass_of, range(6), CPU)) == [0, 1, 4, 9, 16, 25]
    assert {threads for _, threads in seen.values()} == {1}
    assert len({name for name, _ in seen.values()}) > 1
    assert torch.get_num_threads() == 4
    assert list(in_lanes(lambda _: torch.get_num_threads(), [0, 1], CPU)) == [2, 2]


def test_the_number_of_threads_is_that_of_the_caller_again_for_threads_that_begin_later() -> None:
    list(in_lanes(lambda item: item, range(4), CPU))
    found: list[int] = []
    later = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert found == [4]


def test_one_item_and_a_gpu_stay_in_the_calling_thread() -> None:
    name = threading.current_thread().name
    assert list(in_lanes(lambda _: threading.current_thread().name, [0], CPU)) == [name]
    assert lanes_for(8, torch.device("cuda")) == 1
    assert [lanes_for(items, CPU) for items in (0, 1, 3, 9)] == [1, 1, 3, 4]


def test_an_error_reaches_the_caller_and_what_has_not_begun_is_dropped() -> None:
    begun: list[int] = []

    def pass_of(item: int) -> int:
        begun.append(item)
        if item == 1:
            raise ValueError("made up")
        time.sleep(0.05)
        return item

    with pytest.raises(ValueError, match="made up"):
        list(in_lanes(pass_of, range(100), CPU))
    assert len(begun) < 20
    assert threading.active_count() < 50
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("lane")]


def test_a_caller_that_stops_listening_drops_the_rest() -> None:
    begun: list[int] = []

    def pass_of(item: int) -> int:
        begun.append(item)
        time.sleep(0.02)
        return item

    with closing(in_lanes(pass_of, range(100), CPU)) as results:
        assert next(results) == 0
    assert len(begun) < 20
