import threading

from store.settings import Settings
from worker import devices, runner
from worker.runner import Runner
from worker.workplace import Workplace


def of_slots(tmp_path, slots, **environment):
    found = [devices.of_slot(environment, slot, slots, tmp_path) for slot in range(slots)]
    return [each.get(devices.VARIABLE) for each in found]


def test_each_slot_gets_a_gpu_of_its_own_and_more_slots_share_them(tmp_path):
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert of_slots(tmp_path, 2) == ["0", "1"]
    assert of_slots(tmp_path, 3) == ["0", "1", "0"]
    assert of_slots(tmp_path, 2, CUDA_VISIBLE_DEVICES="3, GPU-5") == ["3", "GPU-5"]


def test_one_slot_sees_all_gpus_and_a_machine_without_any_is_left_alone(tmp_path):
    assert of_slots(tmp_path, 2) == [None, None]
    assert of_slots(tmp_path, 2, CUDA_VISIBLE_DEVICES="") == [None, None]
    (tmp_path / "nvidia0").touch()
    (tmp_path / "nvidia1").touch()
    assert of_slots(tmp_path, 1) == [None]


def test_jobs_that_run_at_the_same_time_have_different_slots(monkeypatch):
    settings = Settings(slots=2)
    place = Workplace(settings, database=None, files=None, owner="w")
    jobs, taken, both = ["a", "b", "c"], [], threading.Barrier(2, timeout=10)

    class Attempt:
        def __init__(self, _place, claim, *, slot):
            taken.append((claim, slot))
            self.claim = claim

        def run(self):
            if self.claim in "ab":
                both.wait()

    monkeypatch.setattr(runner, "Attempt", Attempt)
    made = Runner(place)
    monkeypatch.setattr(made, "_claim", lambda: jobs.pop(0) if jobs else None)
    threads = [threading.Thread(target=made.look, args=("a",)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert {slot for claim, slot in taken if claim in "ab"} == {0, 1}
    assert len(taken) == 3
    assert made.free_slots == 2
