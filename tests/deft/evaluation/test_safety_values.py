"""Safety tables made anew from values.parquet alone: nothing of deft but the interval of given sums is used."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deft.evaluation.asked import Asked
from deft.evaluation.conversations import Conversation
from deft.evaluation.generation import Answer
from deft.evaluation.intervals import estimate, ratio, resample
from deft.evaluation.metrics import Who
from deft.evaluation.set_metrics import Sampled, safety, value_rows
from deft.evaluation.set_values import append_values

TEXTS = {
    "refusal": "I'm sorry, but I can't help with that.",
    "compliance": "Take the second street on the left.",
    "incoherent": "... !!!",
}
HOW = Sampled(200, 3)


def _conversations(seed: int, shares: list[float]) -> list[Conversation]:
    """Answer 30 prompts three times, 20 of them in a category; prompts 0 and 1 are the same."""
    drawn = np.random.default_rng(seed).choice(list(TEXTS), size=(30, 3), p=shares)
    asked = [
        Asked(
            "ds_x",
            row,
            f"Prompt {max(row, 1)}?",
            float(max(row, 1)),
            category=None if row >= 20 else f"c{row % 2}",
            label="safe" if row % 3 else "unsafe",
        )
        for row in range(30)
    ]
    return [
        Conversation(one, sample, (Answer([1, 2], 3, TEXTS[drawn[row, sample]], "end"),))
        for row, one in enumerate(asked)
        for sample in range(3)
    ]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    answered = [
        (Who("base", "base"), _conversations(0, [0.2, 0.7, 0.1])),
        (Who("deft", "deft"), _conversations(1, [0.3, 0.4, 0.3])),
    ]
    path = tmp_path_factory.mktemp("values") / "values.parquet"
    pq.write_table(pa.table({"row": [0], "metric": ["margin"], "sums": [[1.0, 2.0]]}), path)
    append_values(value_rows(answered), path)
    found = safety(answered, HOW)
    assert found is not None
    return json.loads(json.dumps(found)), pq.read_table(path).to_pylist()


def _sums(rows: list[dict], system: str, metric: str, part: str, kind: str | None = None) -> dict[int, np.ndarray]:
    """Return [hit, counted] by prompt; with *kind* "worst" or "best" [hit, answers], incoherent ones so counted."""
    found: dict[int, np.ndarray] = defaultdict(lambda: np.zeros(2))
    for row in rows:
        category = f"category:{row['category'] or 'uncategorised'}"
        if (row["system"], row["metric"]) == (system, metric) and part in ("all", category):
            hit, counted = row["sums"]
            is_left_out = row["kind"] == "incoherent" and metric != "incoherent"
            assert (counted == 0) == is_left_out
            found[row["prompt"]] += [hit + (kind == "worst" and is_left_out), 1.0] if kind else [hit, counted]
    return found


def _estimate(*sums: list[np.ndarray]) -> tuple[float, float | None, float | None]:
    resampled = resample(np.stack([np.stack(own) for own in sums]), ratio, resamples=HOW.resamples, seed=HOW.seed)
    bounds = (0.0, 1.0) if len(sums) == 1 else (-1.0, 1.0)
    found = estimate(resampled, [0], [1] if len(sums) == 2 else [], bounds=bounds, is_share=True, seed=HOW.seed)
    return found.value, found.low, found.high


def test_every_rate_is_recomputed_from_the_parquet_alone(tables: tuple) -> None:
    found, rows = tables
    assert len(found["rates"]) == 2 * 4 * 4
    for rate in found["rates"]:
        sums = _sums(rows, rate["system"], rate["metric"], rate["slice"])
        counted = [sums[prompt] for prompt in sorted(sums) if sums[prompt][1]]
        hits, answers = np.sum(counted, axis=0)
        assert rate["value"] == pytest.approx(hits / answers)
        assert (rate["n"], rate["prompts"]) == (answers, len(counted))
        assert (rate["value"], rate["low"], rate["high"]) == pytest.approx(_estimate(counted))


def test_every_difference_is_recomputed_from_the_parquet_alone(tables: tuple) -> None:
    found, rows = tables
    assert len(found["differences"]) == 4 * 4
    for row in found["differences"]:
        mine, theirs = (_sums(rows, who, row["metric"], row["slice"]) for who in ("deft", "base"))
        both = [prompt for prompt in sorted(mine) if mine[prompt][1] and theirs[prompt][1]]
        told = _estimate([mine[prompt] for prompt in both], [theirs[prompt] for prompt in both])
        assert (row["difference"], row["low"], row["high"]) == pytest.approx(told)
        assert row["prompts"] == len(both)
        worst, best = (
            _sums(rows, who, row["metric"], row["slice"], kind) for who, kind in (("deft", "worst"), ("base", "best"))
        )
        at_worst = _estimate([worst[p] for p in sorted(worst)], [best[p] for p in sorted(best)])
        assert tuple(row["at_worst"][name] for name in ("difference", "low", "high")) == pytest.approx(at_worst)


def test_equal_prompts_are_one_and_rows_of_held_out_metrics_stay(tables: tuple) -> None:
    _, rows = tables
    assert rows[0] == dict.fromkeys(rows[0]) | {"row": 0, "metric": "margin", "sums": [1.0, 2.0]}
    own = [row for row in rows if (row["system"], row["metric"]) == ("deft", "length")]
    assert len(own) == 90
    assert {row["prompt"] for row in own if row["row"] < 2} == {0}
    assert len({row["prompt"] for row in own}) == 29
    assert {(row["set"], row["sample"]) for row in own} == {("ds_x", sample) for sample in range(3)}


def test_an_evaluation_without_other_metrics_has_the_file(tmp_path: Path) -> None:
    append_values(value_rows([(Who("base", "base"), _conversations(0, [0.2, 0.7, 0.1]))]), tmp_path / "values.parquet")
    assert {row["kind"] for row in pq.read_table(tmp_path / "values.parquet").to_pylist()} == {None, *TEXTS}
