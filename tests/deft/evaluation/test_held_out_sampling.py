"""Held-out prompts that are answered by sampling: seeded, repeated, counted, and apart from greedy numbers."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from deft.endpoints import Endpoint
from deft.evaluation.run import run_evaluate
from deft.reports import Silent
from deft.specs import EvaluateSpec
from tests.deft.evaluation.test_answer_sets import inputs  # noqa: F401 - the fixture
from tests.judge_server import Scripted, judge_server

Inputs = dict[str, Path]
SAMPLING = {"temperature": 1.0, "repeats": 3, "seed": 1}


def run(inputs: Inputs, out: Path, endpoint: Endpoint | None = None, **options: Any) -> dict[str, Any]:  # noqa: F811
    spec = EvaluateSpec.model_validate(
        {
            "model": "m",
            "dataset": "ds_1",
            "rows": {"split": "all"},
            "systems": [{"name": "deft", "arm": "deft", "adapter": "ad_1"}],
            "tokens": {"max_prompt_tokens": 200, "max_total_tokens": 300},
            "options": {
                "metrics": ["length", "bleu", "kl", "preference_accuracy"],
                "prompts": 2,
                "max_new_tokens": 6,
                "bootstrap": 100,
                **options,
            },
        }
    )
    out.mkdir()
    return run_evaluate(spec, inputs=inputs, out=out, checkpoints=None, report=Silent(), endpoint=endpoint)


def answers(out: Path) -> dict[tuple[str, int, int], str]:
    lines = [json.loads(line) for line in (out / "generations.jsonl").read_text().splitlines()]
    return {(line["system"], line["row"], line["sample"]): line["text"] for line in lines}


def read(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def sampled(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:  # noqa: F811
    out = tmp_path_factory.mktemp("sampled") / "out"
    return out, run(inputs, out, held_out_sampling=SAMPLING)


def test_every_prompt_is_answered_so_often_and_every_answer_counts(sampled: tuple[Path, dict[str, Any]]) -> None:
    out, summary = sampled
    said = answers(out)
    assert len(said) == 2 * 2 * 3
    assert {sample for _, _, sample in said} == {0, 1, 2}
    assert len({said["base", row, sample] for _, row, sample in said}) > 2
    assert len((out / "prompts.jsonl").read_text().splitlines()) == summary["answered_prompts"] == 2
    numbers = {(row["system"], row["metric"]): row for row in read(out / "metrics.json") if row["slice"] == "all"}
    assert {numbers["deft", metric]["n"] for metric in ("length", "bleu", "kl")} == {6}
    values = pl.read_parquet(out / "values.parquet").filter(pl.col("metric") == "length", pl.col("system") == "deft")
    assert values.select("row", "sample").n_unique() == 6
    assert values["prompt"].n_unique() == 2


def test_a_draw_depends_on_its_prompt_its_number_and_the_seed_alone(
    inputs: Inputs,  # noqa: F811
    sampled: tuple[Path, dict[str, Any]],
    tmp_path: Path,
) -> None:
    run(inputs, tmp_path / "once", held_out_sampling={**SAMPLING, "repeats": 1})
    run(inputs, tmp_path / "other", held_out_sampling={**SAMPLING, "seed": 2})
    known = answers(sampled[0])
    assert answers(tmp_path / "once") == {place: text for place, text in known.items() if place[2] == 0}
    assert answers(tmp_path / "other") != known


def test_the_recipe_and_its_seed_are_settings_of_what_was_generated(
    inputs: Inputs,  # noqa: F811
    sampled: tuple[Path, dict[str, Any]],
    tmp_path: Path,
) -> None:
    run(inputs, tmp_path / "greedy")
    greedy, drawn = (read(out / "evaluation.json")["settings"] for out in (tmp_path / "greedy", sampled[0]))
    for metric in ("length", "bleu", "kl"):
        assert (greedy[metric]["decoding"], drawn[metric]["decoding"]) == ("greedy-1", "gumbel-1")
        assert drawn[metric]["sampling"] == {"temperature": 1.0, "top_p": 1.0, "repeats": 3, "seed": 1}
        assert "sampling" not in greedy[metric]
    assert greedy["preference_accuracy"] == drawn["preference_accuracy"]
    assert greedy["length"]["prompts"] == drawn["length"]["prompts"]


def test_a_server_is_asked_with_a_seed_of_each_answer(inputs: Inputs, tmp_path: Path) -> None:  # noqa: F811
    server = {"endpoint": "vllm", "models": {"base": "b", "deft": "d"}}
    with judge_server(Scripted(lambda name: f"from {name}")) as script:
        endpoint = Endpoint(script.url, "k")
        run(inputs, tmp_path / "out", endpoint, server=server, held_out_sampling=SAMPLING, metrics=["length"])
    seeds = [body["seed"] for body in script.asked]
    assert len(seeds) == 12
    assert len(set(seeds)) == 6
    assert {body["temperature"] for body in script.asked} == {1.0}
