from deft.folders import seal, verify
from worker import resume
from worker.resume import Recorded


def make(folder, text="state"):
    folder.mkdir(parents=True)
    (folder / "state.json").write_text(text)
    seal(folder, {})
    return folder


def test_the_next_attempt_gets_the_two_newest_recorded_checkpoints_and_can_harm_neither(tmp_path):
    for step in (10, 20, 30):
        make(tmp_path / "000001" / f"step-{step}", text=str(step))
    recorded = [Recorded(1, "step-30"), Recorded(1, "step-20"), Recorded(1, "step-10")]
    folder = resume.take_over(tmp_path, 2, recorded)
    assert sorted(p.name for p in folder.iterdir()) == ["step-20", "step-30"]
    assert verify(folder / "step-30")
    for path in sorted((folder / "step-30").iterdir()):
        path.unlink()
    assert verify(tmp_path / "000001" / "step-30")


def test_a_checkpoint_without_a_row_is_not_taken_over(tmp_path):
    make(tmp_path / "000001" / "step-10")
    make(tmp_path / "000001" / "step-20")
    folder = resume.take_over(tmp_path, 2, [Recorded(1, "step-10")])
    assert [p.name for p in folder.iterdir()] == ["step-10"]


def test_a_recorded_checkpoint_that_is_gone_is_left_out(tmp_path):
    make(tmp_path / "000001" / "step-10")
    folder = resume.take_over(tmp_path, 2, [Recorded(1, "step-20"), Recorded(1, "step-10")])
    assert [p.name for p in folder.iterdir()] == ["step-10"]


def test_folders_of_attempts_that_left_nothing_are_removed(tmp_path):
    make(tmp_path / "000001" / "step-10")
    (tmp_path / "000002").mkdir()
    resume.take_over(tmp_path, 3, [Recorded(1, "step-10")])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["000001", "000003"]
