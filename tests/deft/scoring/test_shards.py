"""A scoring in shards is the scoring: the same files, bit for bit where the windows are the same."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from deft.errors import ArtifactCorrupt, InvalidInput, ReviewNeeded
from deft.folders import sha256_of
from deft.operations import run
from deft.reports import Silent
from deft.scoring.shards import ScoreCountSpec, ScoreMergeSpec, ScoreShardSpec, ranges
from deft.specs import Rows, ScoreSpec
from tests.deft.scoring.test_run import dataset

WINDOW, SHARD_ROWS = 3, 6
ROWS = [
    {"prompt": f"\n\nHuman: question {n}\n\nAssistant:", "chosen": "fine " * (1 + n % 7), "rejected": f"bad thing {n}"}
    for n in range(20)
]
SPEC = ScoreSpec(dataset="d", model="m", rows=Rows(sample=16))


@pytest.fixture
def inputs(tmp_path: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    monkeypatch.setattr("deft.scoring.scored_rows.SCORING_WINDOW", WINDOW)
    return {"dataset": dataset(tmp_path, ROWS), "model": tiny_model_folder}


def made(spec: object, inputs: dict[str, Path], out: Path) -> Path:
    out.mkdir()
    run(spec, inputs=inputs, out=out, checkpoints=None, report=Silent())  # type: ignore[arg-type]
    return out


def parts_of(spec: ScoreSpec, inputs: dict[str, Path], folder: Path, bounds: list[tuple[int, int]]) -> dict[str, Path]:
    """Count, and score the ranges in another order than theirs; return the inputs of the merge."""
    counted = made(ScoreCountSpec(score=spec), inputs, folder / "counted")
    parts = {}
    for index, (start, stop) in reversed(list(enumerate(bounds))):
        shard = ScoreShardSpec(score=spec, counted="c", start=start, stop=stop)
        parts[f"part.{index}"] = made(shard, {**inputs, "counted": counted}, folder / f"part-{index}")
    return {"dataset": inputs["dataset"], "counted": counted, **parts}


def merge_of(spec: ScoreSpec, parts: dict[str, Path]) -> ScoreMergeSpec:
    return ScoreMergeSpec(score=spec, counted="c", parts=[name for name in parts if name.startswith("part.")])


def assert_same_tensors(one: Path, other: Path) -> None:
    ours, theirs = load_file(one), load_file(other)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.tobytes() == theirs[name].tobytes(), name


def test_shards_of_whole_windows_give_the_bits_of_one_scoring(inputs: dict[str, Path], tmp_path: Path) -> None:
    whole = made(SPEC, inputs, tmp_path / "whole")
    bounds = [(0, 6), (6, 12), (12, 16)]
    parts = parts_of(SPEC, inputs, tmp_path, bounds)
    merged = made(merge_of(SPEC, parts), parts, tmp_path / "merged")
    assert {path.name for path in merged.iterdir()} == {path.name for path in whole.iterdir()}
    for path in whole.iterdir():
        if path.suffix == ".safetensors":  # its header has no fixed order
            assert_same_tensors(merged / path.name, path)
        elif path.name != "scoring.json":
            assert sha256_of(merged / path.name) == sha256_of(path), path.name
    one, other = (json.loads((folder / "scoring.json").read_text()) for folder in (whole, merged))
    assert (one.pop("shards"), other.pop("shards")) == (1, 3)
    assert set(one.pop("seconds")) | {"merge"} == set(other.pop("seconds"))
    assert one == other
    assert one["rows_scored"] == 16


def test_shards_that_cut_windows_give_the_same_numbers_up_to_rounding(inputs: dict[str, Path], tmp_path: Path) -> None:
    whole = made(SPEC, inputs, tmp_path / "whole")
    parts = parts_of(SPEC, inputs, tmp_path, [tuple(part) for part in ranges(16, 5)])
    merged = made(merge_of(SPEC, parts), parts, tmp_path / "merged")
    one, other = (pq.read_table(folder / "scores.parquet") for folder in (whole, merged))
    assert one.drop_columns("r_d").equals(other.drop_columns("r_d"))
    np.testing.assert_allclose(one["r_d"].to_numpy(), other["r_d"].to_numpy(), rtol=0, atol=1e-6)
    assert_same_tensors(merged / "distribution.safetensors", whole / "distribution.safetensors")


def test_shards_take_over_what_an_earlier_scoring_has(inputs: dict[str, Path], tmp_path: Path) -> None:
    first = made(SPEC.model_copy(update={"rows": Rows(sample=7)}), inputs, tmp_path / "first")
    extended = {**inputs, "extends": first}
    spec = SPEC.model_copy(update={"extends": "sc_1"})
    whole = made(spec, extended, tmp_path / "whole")
    counted = made(ScoreCountSpec(score=spec), inputs, tmp_path / "counted")
    parts = {"dataset": inputs["dataset"], "counted": counted}
    for index, (start, stop) in enumerate([(0, 9), (9, 16)]):
        shard = ScoreShardSpec(score=spec, counted="c", start=start, stop=stop)
        parts[f"part.{index}"] = made(shard, {**extended, "counted": counted}, tmp_path / f"part-{index}")
    merged = made(merge_of(spec, parts), parts, tmp_path / "merged")
    assert json.loads((merged / "scoring.json").read_text())["rows_reused"] == 7
    assert sha256_of(merged / "scores.parquet") == sha256_of(whole / "scores.parquet")


@pytest.mark.parametrize("bounds", [[(0, 6), (6, 15)], [(0, 6), (5, 16)], [(6, 16), (0, 6)]])
def test_rows_that_are_missing_or_come_twice_or_out_of_order_are_no_scoring(
    inputs: dict[str, Path], tmp_path: Path, bounds: list[tuple[int, int]]
) -> None:
    parts = parts_of(SPEC, inputs, tmp_path, bounds)
    with pytest.raises(ArtifactCorrupt, match="every row once"):
        made(merge_of(SPEC, parts), parts, tmp_path / "merged")


@pytest.mark.parametrize("name", ["base_weights_hash", "config_hash", "adapter_hash"])
def test_shards_scored_by_different_weights_or_settings_are_no_scoring(
    inputs: dict[str, Path], tmp_path: Path, name: str
) -> None:
    parts = parts_of(SPEC, inputs, tmp_path, [(0, 6), (6, 16)])
    told = json.loads((parts["part.1"] / "run.json").read_text())
    (parts["part.1"] / "run.json").write_text(json.dumps({**told, name: "0" * 64}))
    with pytest.raises(ArtifactCorrupt, match="different weights"):
        made(merge_of(SPEC, parts), parts, tmp_path / "merged")


def test_a_shard_under_another_chat_template_than_its_count_is_refused(inputs: dict[str, Path], tmp_path: Path) -> None:
    counted = made(ScoreCountSpec(score=SPEC), inputs, tmp_path / "counted")
    shutil.copytree(inputs["model"], tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")
    shard = ScoreShardSpec(score=SPEC, counted="c", start=0, stop=6)
    with pytest.raises(InvalidInput, match="tokenizer"):
        made(shard, {**inputs, "model": tmp_path / "model", "counted": counted}, tmp_path / "part")


def test_a_count_may_ask_a_person_to_look_before_any_shard(inputs: dict[str, Path], tmp_path: Path) -> None:
    spec = ScoreCountSpec(score=SPEC.model_copy(update={"gate": "pause"}))
    with pytest.raises(ReviewNeeded):
        made(spec, inputs, tmp_path / "counted")

    out = tmp_path / "again"
    out.mkdir()
    run(spec, inputs=inputs, out=out, checkpoints=None, report=Silent(accepted=("discrepancy",)))
    assert (out / "distribution.safetensors").is_file()


def test_the_merge_loads_no_torch() -> None:
    code = "import deft.scoring.merge, sys; print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
