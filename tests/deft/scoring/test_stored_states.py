"""A scoring that extends an earlier one gives what scoring everything gives, and runs only what is new."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from deft.data.datasets import import_files
from deft.errors import ArtifactCorrupt, InvalidInput
from deft.reports import Silent
from deft.scoring import scorer as scorers
from deft.scoring.extending import settings_of
from deft.scoring.run import run_score
from deft.scoring.stored_states import open_states
from deft.specs import ScoreSpec
from tests.models import save_tiny_llama

SETTINGS = ["base_weights_hash", "config_hash", "adapter_hash", "dtype", "tokenizer_sha256", "options"]
OLD = [{"prompt": f"question {n}?", "responses": [f"fine {n} " * (1 + n % 3), f"bad {n}"]} for n in range(8)]
OLD[3]["responses"].append("a third")
NEW = [{"prompt": f"another {n}?", "responses": [f"good {n}", "worse " * (1 + n % 4), f"worst {n}"]} for n in range(5)]


class Watch(Silent):
    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []
        self.current = ""

    def phase(self, name: str) -> None:
        self.current = name

    def progress(self, done: int, total: int, unit: str) -> None:
        if self.current == "score":
            self.seen.append((done, total))


def score(folder: Path, model: Path, records: list[dict[str, Any]], earlier: Path | None = None, **spec: Any) -> Path:
    data, out = folder / "data", folder / "scoring"
    for each in (data, out):
        each.mkdir(parents=True)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in records))
    import_files([folder / "rows.jsonl"], data)
    asked = ScoreSpec.model_validate({"dataset": "ds_1", "model": "m", "extends": "sc_1" if earlier else None, **spec})
    inputs = {"dataset": data, "model": model} | ({"extends": earlier} if earlier else {})
    watch = Watch()
    summary = run_score(asked, inputs=inputs, out=out, checkpoints=None, report=watch)
    assert watch.seen[-1] == (summary["rows_scored"], summary["rows_scored"])
    return out


def told(scoring: Path) -> dict[str, Any]:
    return json.loads((scoring / "scoring.json").read_text())


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Path:
    return score(tmp_path_factory.mktemp("old"), tiny_model_folder, OLD)


def forwarded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the examples that go through the model from now on."""
    counts: list[int] = []
    whole = scorers.Scorer.score

    def watched(self: Any, tokenized: Any) -> Any:
        counts.append(len(tokenized))
        return whole(self, tokenized)

    monkeypatch.setattr(scorers.Scorer, "score", watched)
    return counts


def same(one: Path, other: Path) -> None:
    tables = [pq.read_table(each / "scores.parquet") for each in (one, other)]
    assert tables[0].drop(["r_d"]).equals(tables[1].drop(["r_d"]))
    r_d = [table["r_d"].to_numpy() for table in tables]
    np.testing.assert_allclose(r_d[0], r_d[1], rtol=0, atol=1e-6)
    hidden = [np.load(each / "hidden.npy") for each in (one, other)]
    np.testing.assert_allclose(hidden[0], hidden[1], rtol=0, atol=1e-6)


# Old rows in another order, one twice, new ones between, and one old prompt with a response more.
MIXED = [
    *NEW[:2],
    *OLD[4:],
    OLD[2],
    NEW[2],
    OLD[2],
    *OLD[:2],
    OLD[3],
    {**OLD[5], "responses": ["x, then", "y"]},
    *NEW[3:],
]


def test_only_new_content_is_run_and_the_result_is_that_of_scoring_everything(
    old: Path, tmp_path: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = score(tmp_path / "all", tiny_model_folder, MIXED)
    counts = forwarded(monkeypatch)
    extended = score(tmp_path / "extended", tiny_model_folder, MIXED, old)
    assert sum(counts) == 6 == len(MIXED) - told(extended)["rows_reused"]
    same(extended, everything)
    for name, value in told(everything).items():
        if name not in ("rows_reused", "seconds", "is_prompt_shared"):
            assert told(extended)[name] == (pytest.approx(value, abs=1e-6) if isinstance(value, float) else value), name
    files = [{path.name for path in each.iterdir()} for each in (extended, everything)]
    assert files[0] == files[1]


def test_windows_are_put_together_in_order(
    old: Path, tmp_path: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = score(tmp_path / "all", tiny_model_folder, MIXED)
    monkeypatch.setattr("deft.scoring.scored_rows.SCORING_WINDOW", 3)
    same(score(tmp_path / "extended", tiny_model_folder, MIXED, old), everything)


def test_q_diff_is_counted_on_the_new_dataset(old: Path, tmp_path: Path, tiny_model_folder: Path) -> None:
    extended = score(tmp_path, tiny_model_folder, OLD[:4], old)
    assert told(extended)["rows_reused"] == 4
    assert told(extended)["l1"] != told(old)["l1"]
    r_d = [pq.read_table(each / "scores.parquet")["r_d"].to_numpy() for each in (extended, old)]
    assert np.abs(r_d[0] - r_d[1][: len(r_d[0])]).max() > 1e-3


def test_what_was_extended_can_be_extended(old: Path, tmp_path: Path, tiny_model_folder: Path) -> None:
    once = score(tmp_path / "once", tiny_model_folder, OLD + NEW[:2], old)
    twice = score(tmp_path / "twice", tiny_model_folder, OLD + NEW, once)
    assert told(twice)["rows_reused"] == len(OLD) + 2


def test_a_scored_sample_is_taken_over_as_far_as_it_goes(tmp_path: Path, tiny_model_folder: Path) -> None:
    part = score(tmp_path / "part", tiny_model_folder, OLD, rows={"sample": 3})
    whole = score(tmp_path / "whole", tiny_model_folder, OLD, part)
    assert told(whole)["rows_reused"] == 3


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"tokens": {"max_prompt_tokens": 20, "max_total_tokens": 512}}, "options"),
        ({"precision": "bf16"}, "dtype"),
    ],
)
def test_other_settings_are_refused(
    old: Path,
    tmp_path: Path,
    tiny_model_folder: Path,
    changes: dict[str, Any],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("deft.scoring.run.load_base", lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(InvalidInput) as error:
        score(tmp_path, tiny_model_folder, OLD, old, **changes)
    finding = error.value.findings[0]
    assert (finding.code, finding.pointer) == ("cannot_extend", "/extends")
    assert name in finding.found


@pytest.mark.parametrize("name", SETTINGS)
def test_states_are_opened_only_with_every_setting_that_they_were_made_with(old: Path, name: str) -> None:
    own = settings_of(old)
    assert len(open_states(old, own).places) == len(OLD)
    with pytest.raises(InvalidInput, match="cannot be extended") as error:
        open_states(old, {**own, name: "another"})
    assert name in error.value.findings[0].found


def test_another_model_is_refused(old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = save_tiny_llama(tmp_path / "model", seed=4)
    monkeypatch.setattr("deft.scoring.run.load_base", lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(InvalidInput, match="base_weights_hash"):
        score(tmp_path, other, OLD, old)


def test_the_same_weights_with_other_settings_are_refused(old: Path, tmp_path: Path, tiny_model_folder: Path) -> None:
    changed = tmp_path / "model"
    shutil.copytree(tiny_model_folder, changed)
    config = json.loads((changed / "config.json").read_text(encoding="utf-8"))
    (changed / "config.json").write_text(json.dumps(config | {"transformers_version": "0", "use_cache": False}))
    assert told(score(tmp_path / "same", changed, OLD, old))["rows_reused"] == len(OLD)
    (changed / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.04}))
    with pytest.raises(InvalidInput, match="config_hash"):
        score(tmp_path / "other", changed, OLD, old)


def test_a_scoring_without_states_is_refused_and_a_damaged_one_is_corrupt(
    old: Path, tmp_path: Path, tiny_model_folder: Path
) -> None:
    for name, change in {
        "capped": lambda folder: (folder / "hidden.npy").unlink(),
        "short": lambda folder: np.save(folder / "hidden.npy", np.load(folder / "hidden.npy")[:-1]),
    }.items():
        broken = tmp_path / name
        shutil.copytree(old, broken)
        change(broken)
        expected = InvalidInput if name == "capped" else ArtifactCorrupt
        with pytest.raises(expected):
            score(tmp_path / f"{name}-out", tiny_model_folder, OLD, broken)
