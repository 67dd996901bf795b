"""Resume state: what is written comes back, and nothing damaged or foreign is trusted."""

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from deft.errors import InvalidInput
from deft.reports import Silent
from deft.training import checkpoints

RUN = {"spec": "a", "data": "b"}


class Notes(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


def write(root: Path, step: int, value: float = 1.0) -> Path:
    groups = {"adapter": {"w": torch.full((3,), value)}}
    return checkpoints.write(root, step, run=RUN, groups=groups, documents={"state": {"step": step, "rate": 0.1}})


def test_tensors_and_state_come_back_as_written(tmp_path: Path) -> None:
    folder = write(tmp_path, 20, value=0.25)
    assert folder.name == "step-000020"
    assert checkpoints.newest(tmp_path, run=RUN, report=Silent()) == folder
    assert checkpoints.read_group(folder, "adapter")["w"].tolist() == [0.25] * 3
    assert checkpoints.read_document(folder, "state") == {"step": 20, "rate": 0.1}
    assert {path.suffix for path in folder.iterdir()} == {".safetensors", ".json"}


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 15):
        write(tmp_path, step)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000010", "step-000015"]


@pytest.mark.parametrize("damage", ["truncate", "flip", "no manifest", "missing file", "manifest of another form"])
def test_a_damaged_checkpoint_is_skipped_with_a_note(tmp_path: Path, damage: str) -> None:
    good, bad = write(tmp_path, 5), write(tmp_path, 10)
    tensors = bad / "adapter.safetensors"
    content = tensors.read_bytes()
    match damage:
        case "truncate":
            tensors.write_bytes(content[:-4])
        case "flip":
            tensors.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        case "no manifest":
            (bad / "manifest.json").unlink()
        case "missing file":
            tensors.unlink()
        case _:
            (bad / "manifest.json").write_text("{}")
    report = Notes()
    assert checkpoints.newest(tmp_path, run=RUN, report=report) == good
    assert len(report.notes) == 1
    assert "step-000010" in report.notes[0]


def test_without_a_sound_checkpoint_the_run_starts_at_zero(tmp_path: Path) -> None:
    assert checkpoints.newest(tmp_path / "absent", run=RUN, report=Silent()) is None
    (write(tmp_path, 5) / "state.json").write_text("{}")
    assert checkpoints.newest(tmp_path, run=RUN, report=Silent()) is None


def test_half_written_folders_are_not_seen_and_removed(tmp_path: Path) -> None:
    folder = write(tmp_path, 5)
    half = tmp_path / ".step-000010.77-abc.tmp"
    shutil.copytree(folder, half)
    assert checkpoints.newest(tmp_path, run=RUN, report=Silent()) == folder
    assert not half.exists()


def test_a_checkpoint_of_another_spec_is_refused(tmp_path: Path) -> None:
    write(tmp_path, 5)
    with pytest.raises(InvalidInput, match="spec differ"):
        checkpoints.newest(tmp_path, run={**RUN, "spec": "other"}, report=Silent())


def test_the_same_step_can_be_written_again(tmp_path: Path) -> None:
    write(tmp_path, 5, value=1.0)
    folder = write(tmp_path, 5, value=2.0)
    assert checkpoints.read_group(folder, "adapter")["w"][0] == 2.0


def test_random_generators_continue_where_they_were(tmp_path: Path) -> None:
    def draw() -> list[float]:
        return [random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.rand(1).item()]  # noqa: S311

    draw()
    tensors, numbers = checkpoints.random_state()
    folder = checkpoints.write(tmp_path, 1, run=RUN, groups={"random": tensors}, documents={"numbers": numbers})
    expected = draw()
    draw()
    checkpoints.restore_random_state(
        checkpoints.read_group(folder, "random"), checkpoints.read_document(folder, "numbers")
    )
    assert draw() == expected


def test_the_optimiser_continues_bit_for_bit(tmp_path: Path) -> None:
    def step(parameter: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
        parameter.grad = parameter.detach().sin()
        optimizer.step()

    straight = torch.nn.Parameter(torch.linspace(-1, 1, 7))
    optimizer = torch.optim.AdamW([straight], lr=0.01)
    step(straight, optimizer)
    tensors, groups = checkpoints.optimizer_parts(optimizer)
    state = {"groups": groups}
    folder = checkpoints.write(
        tmp_path, 1, run=RUN, groups={"optimizer": tensors, "w": {"w": straight}}, documents=state
    )
    step(straight, optimizer)

    resumed = torch.nn.Parameter(checkpoints.read_group(folder, "w")["w"])
    again = torch.optim.AdamW([resumed], lr=0.5)
    recorded = checkpoints.read_document(folder, "groups")
    checkpoints.load_optimizer(again, checkpoints.read_group(folder, "optimizer"), recorded)
    step(resumed, again)
    assert torch.equal(resumed, straight)
