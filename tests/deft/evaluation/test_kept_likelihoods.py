"""Likelihoods are computed once for evaluations of the same systems and rows, and what is kept changes no bit."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deft import cache as files
from deft import operations
from deft.budgets import EVALUATION_TOKENS
from deft.distribution import load, save
from deft.evaluation import likelihoods, run, system_likelihoods
from deft.evaluation.kept_likelihoods import KeptLikelihoods
from deft.evaluation.metrics import PairScores
from deft.models.loading import weights_hash
from deft.packing import shares_prompts
from deft.reports import Silent
from deft.specs import EvaluateSpec
from deft.tokens import TokenizedExample
from tests.deft.evaluation.test_run import dataset, inputs  # noqa: F401 - the fixtures
from tests.deft.small_runs import with_other_settings
from tests.models import byte_tokenizer, save_tiny_llama

Inputs = dict[str, Path]
ROWS, SYSTEMS = 13, 3
OPTIONS = {"metrics": ["preference_accuracy", "margin", "r_d_accuracy", "perplexity"], "prompts": 0, "bootstrap": 100}
OF_ANY_BASE = {"metrics": ["preference_accuracy", "perplexity"]}
"""Measured of a base alone, and without a scoring."""
NAMES = ("base", "one", "two")


@pytest.fixture(scope="module")
def given(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Inputs:  # noqa: F811
    """The base, an adapter and a tuned model on pairs and on general texts."""
    tuned = save_tiny_llama(tmp_path_factory.mktemp("tuned") / "model", seed=5)
    (tuned / "training.json").write_text(json.dumps({"base_weights_hash": weights_hash(inputs["model"])}))
    own = {name: inputs[name] for name in ("model", "dataset", "scoring", "adapter.0")}
    return {**own, "adapter.1": tuned, "general_dataset": inputs["dataset"]}


def spec_of(systems: int = 2, **changes: Any) -> EvaluateSpec:
    named = [{"name": name, "arm": name, "adapter": f"ad_{name}"} for name in NAMES[1:]]
    document = {
        "model": "m",
        "dataset": "ds_1",
        "scoring": "sc_1",
        "general_dataset": "ds_1",
        "general_rows": {"split": "all"},
        "rows": {"split": "all"},
        "tokens": {"max_prompt_tokens": 300, "max_total_tokens": 400},
        "systems": named[:systems],
        "options": {**OPTIONS, **changes.pop("options", {})},
    }
    return EvaluateSpec.model_validate(document | changes)


def evaluate(spec: EvaluateSpec, given: Inputs, out: Path, cache: Path | None = None) -> dict[str, Any]:
    out.mkdir()
    own = {name: given[name] for name in operations.input_names(spec)}
    return operations.run(spec, inputs=own, out=out, checkpoints=None, report=Silent(), cache=cache)


def numbers(out: Path) -> list[bytes]:
    return [(out / name).read_bytes() for name in ("metrics.json", "values.parquet", "pairs.parquet")]


def reused(summary: dict[str, Any]) -> tuple[int, int]:
    return summary["reused"]["pairs"], summary["reused"]["texts"]


@pytest.fixture(scope="module")
def filled(given: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache in which an evaluation has left everything."""
    root = tmp_path_factory.mktemp("filled")
    assert reused(evaluate(spec_of(), given, root / "out", root / "cache")) == (0, 0)
    return root / "cache"


@pytest.fixture
def cache(filled: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(filled, tmp_path / "cache"))


def test_numbers_are_the_same_to_the_last_bit_found_or_computed(
    given: Inputs, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(spec_of(), given, tmp_path / "alone")
    monkeypatch.setattr(system_likelihoods, "score_pairs", None)  # nothing can be computed
    summary = evaluate(spec_of(), given, tmp_path / "again", cache)
    assert reused(summary) == (ROWS * SYSTEMS, ROWS * SYSTEMS)
    assert numbers(tmp_path / "again") == numbers(tmp_path / "alone")
    written = json.loads((tmp_path / "again" / "evaluation.json").read_text())
    assert written["reused"] == {"answers": 0, "pairs": ROWS * SYSTEMS, "texts": ROWS * SYSTEMS}


def test_another_evaluation_computes_what_is_new_in_it_alone(given: Inputs, tmp_path: Path) -> None:
    root = tmp_path / "cache"
    evaluate(spec_of(systems=1), given | {"adapter.1": given["adapter.0"]}, tmp_path / "first", root)
    summary = evaluate(spec_of(options={"beta": 0.5}), given, tmp_path / "second", root)
    assert reused(summary) == (ROWS * 2, ROWS * 2)
    evaluate(spec_of(options={"beta": 0.5}), given, tmp_path / "alone")
    assert numbers(tmp_path / "second") == numbers(tmp_path / "alone")


def _copied(given: Inputs, name: str, folder: Path) -> Path:
    return Path(shutil.copytree(given[name], folder))


def _edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def _adapters_settings(given: Inputs, folder: Path) -> Inputs:
    _edit(_copied(given, "adapter.0", folder) / "adapter_config.json", lora_alpha=99)
    return {"adapter.0": folder}


def _adapters_weights(given: Inputs, folder: Path) -> Inputs:
    from safetensors.torch import load_file, save_file

    path = _copied(given, "adapter.0", folder) / "adapter_model.safetensors"
    save_file({name: 2 * tensor for name, tensor in load_file(path).items()}, path, metadata={"format": "pt"})
    return {"adapter.0": folder}


def _tuned_weights(given: Inputs, folder: Path) -> Inputs:
    _copied(given, "adapter.1", folder)
    save_tiny_llama(folder, seed=6)
    return {"adapter.1": folder}


def _tuned_settings(given: Inputs, folder: Path) -> Inputs:
    _edit(_copied(given, "adapter.1", folder) / "config.json", rms_norm_eps=0.01)
    return {"adapter.1": folder}


@pytest.mark.parametrize("change", [_adapters_settings, _adapters_weights, _tuned_weights, _tuned_settings])
def test_a_system_that_changed_is_scored_again_and_the_others_are_not(
    change: Callable[[Inputs, Path], Inputs], given: Inputs, cache: Path, tmp_path: Path
) -> None:
    changed = given | change(given, tmp_path / "changed")
    assert reused(evaluate(spec_of(), changed, tmp_path / "out", cache)) == (ROWS * 2, ROWS * 2)
    evaluate(spec_of(), changed, tmp_path / "alone")
    assert numbers(tmp_path / "out") == numbers(tmp_path / "alone")


def _another_base(given: Inputs, folder: Path) -> tuple[EvaluateSpec, Inputs]:
    save_tiny_llama(folder, seed=7)
    return spec_of(systems=0, options=OF_ANY_BASE), {"model": folder}


def _other_settings(given: Inputs, folder: Path) -> tuple[EvaluateSpec, Inputs]:
    return spec_of(), {"model": with_other_settings(given["model"], folder)}


def _other_end(given: Inputs, folder: Path) -> tuple[EvaluateSpec, Inputs]:
    _copied(given, "model", folder)
    (folder / "chat_template.jinja").unlink()
    byte_tokenizer(has_chat_template=False).save_pretrained(folder)  # the same tokens, but its end of text
    return spec_of(scoring=None, options=OF_ANY_BASE), {"model": folder}


def _other_tokens(given: Inputs, folder: Path) -> tuple[EvaluateSpec, Inputs]:
    return spec_of(tokens={"max_prompt_tokens": 9, "max_total_tokens": 20}), {}


@pytest.mark.parametrize("change", [_another_base, _other_settings, _other_end, _other_tokens])
def test_another_base_settings_end_or_tokens_never_hit(
    change: Callable[[Inputs, Path], tuple[EvaluateSpec, Inputs]], given: Inputs, cache: Path, tmp_path: Path
) -> None:
    spec, changed = change(given, tmp_path / "model")
    assert reused(evaluate(spec, given | changed, tmp_path / "out", cache)) == (0, 0)


def test_other_rows_or_another_q_diff_touch_the_pairs_alone(given: Inputs, cache: Path, tmp_path: Path) -> None:
    fewer = evaluate(spec_of(options={"pairs": 5}), given, tmp_path / "fewer", cache)
    assert reused(fewer) == (0, ROWS * SYSTEMS)
    counted = load(given["scoring"] / "distribution.safetensors")
    scoring = tmp_path / "scoring"
    scoring.mkdir()
    save(scoring / "distribution.safetensors", replace(counted, q_diff=-counted.q_diff))
    other = evaluate(spec_of(), given | {"scoring": scoring}, tmp_path / "other", cache)
    assert reused(other) == (0, ROWS * SYSTEMS)
    evaluate(spec_of(), given | {"scoring": scoring}, tmp_path / "alone")
    assert numbers(tmp_path / "other") == numbers(tmp_path / "alone")


def test_responses_that_were_cut_are_not_those_that_end() -> None:
    kept = KeptLikelihoods()
    whole, cut = (TokenizedExample([1], [[2], [3]], [False, is_cut]) for is_cut in (False, True))
    assert kept.context("", [whole], "") != kept.context("", [cut], "")


def test_passes_of_another_layout_never_hit(
    given: Inputs, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "shares_prompts", lambda *of: not shares_prompts(*of))
    assert reused(evaluate(spec_of(), given, tmp_path / "out", cache)) == (0, 0)


def test_passes_of_another_size_or_number_of_threads_never_hit(
    given: Inputs, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        assert reused(evaluate(spec_of(), given, tmp_path / "threads", cache)) == (0, 0)
    finally:
        torch.set_num_threads(threads)
    monkeypatch.setitem(EVALUATION_TOKENS, "cpu", 128)
    assert reused(evaluate(spec_of(), given, tmp_path / "budget", cache)) == (0, 0)


def test_what_was_computed_in_halves_for_want_of_memory_is_not_kept(
    given: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, root = likelihoods._responses, tmp_path / "cache"

    def too_large(model: Any, pack: Any, how: Any) -> Any:
        if pack.responses > 2:
            raise torch.OutOfMemoryError("out of memory")
        return whole(model, pack, how)

    monkeypatch.setattr(likelihoods, "_responses", too_large)
    evaluate(spec_of(), given, tmp_path / "halves", root)
    monkeypatch.undo()
    assert reused(evaluate(spec_of(), given, tmp_path / "whole", root)) == (0, 0)


def test_a_damaged_file_or_one_of_another_system_is_not_believed(given: Inputs, cache: Path, tmp_path: Path) -> None:
    paths = sorted((cache / "likelihoods").rglob("*.safetensors"))
    assert len(paths) == 2 * SYSTEMS
    content = paths[0].read_bytes()
    for path in paths[1:]:  # whole files, under the hash of their content, in the wrong place
        path.unlink()
        shutil.copy(paths[0], path.parent)
    paths[0].write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert reused(evaluate(spec_of(), given, tmp_path / "out", cache)) == (0, 0)
    evaluate(spec_of(), given, tmp_path / "alone")
    assert numbers(tmp_path / "out") == numbers(tmp_path / "alone")


SCORES = PairScores(np.array([-1.5]), np.array([-2.5]), np.array([2]), np.array([3]))


def test_a_file_that_holds_no_scores_is_not_believed(tmp_path: Path) -> None:
    kept, context = KeptLikelihoods(tmp_path), {"base": "b"}
    files.put(files.folder_of(tmp_path / "likelihoods", context), b"no tensors")
    assert kept.take(context) is None
    kept.put(context, SCORES)
    found = kept.take(context)
    assert found is not None
    assert (found.chosen_logp.tolist(), found.rejected_tokens.tolist(), found.r_d_chosen) == ([-1.5], [3], None)
    assert kept.take({"base": "c"}) is None


def test_scores_that_are_kept_have_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = KeptLikelihoods(tmp_path)
    kept.put({"base": "0"}, SCORES)
    (first,) = tmp_path.rglob("*.safetensors")
    monkeypatch.setattr(files, "forget_oldest", partial(files.forget_oldest, largest=first.stat().st_size))
    for base in ("1", "2"):
        kept.put({"base": base}, SCORES)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1
