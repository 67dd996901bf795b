"""The reference is computed once for runs that share rows, and what is kept changes no bit and hides no damage."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from deft.tokens import TokenizedExample
from deft.training.reference import KeptReference, open_kept
from tests.deft import small_runs
from tests.models import byte_tokenizer, save_tiny_llama

ROWS, SHARED = 13, 9
PAIR = TokenizedExample([5, 6], [[7], [8, 9]], [False, False])


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return small_runs.make_inputs(tmp_path_factory.mktemp("inputs"), rows=ROWS)


def origins(summary: dict[str, Any]) -> tuple[int, int]:
    """Return how many examples came from the cache, and how many were computed."""
    return summary["reference"]["from_cache"], summary["reference"]["computed"]


def test_two_arms_compute_the_rows_that_they_share_once_and_end_in_the_same_bits(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    fewer, cache, term = small_runs.make_inputs(tmp_path / "fewer", rows=SHARED), tmp_path / "cache", {"omega": 0.1}
    assert origins(small_runs.train(small_runs.spec_of(), fewer, tmp_path / "a", cache=cache)) == (0, SHARED)
    again = small_runs.train(small_runs.spec_of(deft=term), inputs, tmp_path / "b", cache=cache)
    assert origins(again) == (SHARED, ROWS - SHARED)
    alone = small_runs.train(small_runs.spec_of(deft=term), inputs, tmp_path / "c")
    assert again["adapter_sha256"] == alone["adapter_sha256"]
    third = small_runs.train(small_runs.spec_of(deft=None), inputs, tmp_path / "d", cache=cache)
    assert origins(third) == (ROWS, 0)


def test_passes_side_by_side_take_over_only_what_has_the_same_bits(inputs: dict[str, Path], tmp_path: Path) -> None:
    fewer, cache, spec = (
        small_runs.make_inputs(tmp_path / "fewer", rows=SHARED),
        tmp_path / "cache",
        small_runs.spec_of(),
    )
    small_runs.train(spec, fewer, tmp_path / "a", cache=cache, threads=2)  # its last step is one pass of two threads
    again = small_runs.train(spec, inputs, tmp_path / "b", cache=cache, threads=2)
    assert 0 < again["reference"]["from_cache"] < SHARED
    alone = small_runs.train(spec, inputs, tmp_path / "c", threads=2)
    assert again["adapter_sha256"] == alone["adapter_sha256"]


def _another_base(inputs: dict[str, Path], folder: Path) -> tuple[Any, dict[str, Path]]:
    save_tiny_llama(folder, seed=7)
    return small_runs.spec_of(), {**inputs, "model": folder}


def _other_settings(inputs: dict[str, Path], folder: Path) -> tuple[Any, dict[str, Path]]:
    return small_runs.spec_of(), {**inputs, "model": small_runs.with_other_settings(inputs["model"], folder)}


def _from_an_adapter(inputs: dict[str, Path], folder: Path) -> tuple[Any, dict[str, Path]]:
    small_runs.train(small_runs.spec_of(method={"type": "sft"}, deft=None), inputs, folder)
    return small_runs.spec_of(adapter="ad_1"), {**inputs, "adapter": folder}


def _other_end(inputs: dict[str, Path], folder: Path) -> tuple[Any, dict[str, Path]]:
    shutil.copytree(inputs["model"], folder)
    (folder / "chat_template.jinja").unlink()
    byte_tokenizer(has_chat_template=False).save_pretrained(folder)  # the same tokens, but its end of text
    return small_runs.spec_of(scoring=None, deft=None), {"model": folder, "data": inputs["data"]}


def _all_weights(inputs: dict[str, Path], _: Path) -> tuple[Any, dict[str, Path]]:
    return small_runs.spec_of(lora=None), inputs


def _half_precision(inputs: dict[str, Path], _: Path) -> tuple[Any, dict[str, Path]]:
    return small_runs.spec_of(optimisation={"precision": "bf16"}), inputs


def _other_tokens(inputs: dict[str, Path], _: Path) -> tuple[Any, dict[str, Path]]:
    return small_runs.spec_of(tokens={**small_runs.TOKENS, "max_prompt_tokens": 3}), inputs


@pytest.mark.parametrize(
    "change",
    [_another_base, _other_settings, _from_an_adapter, _all_weights, _half_precision, _other_tokens, _other_end],
)
def test_another_base_start_head_precision_or_tokens_never_hit(
    change: Any, inputs: dict[str, Path], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    assert origins(small_runs.train(small_runs.spec_of(), inputs, tmp_path / "a", cache=cache)) == (0, ROWS)
    spec, others = change(inputs, tmp_path / "model")
    assert origins(small_runs.train(spec, others, tmp_path / "b", cache=cache)) == (0, ROWS)


def test_a_start_whose_adapter_has_other_settings_never_hits(inputs: dict[str, Path], tmp_path: Path) -> None:
    spec, started = _from_an_adapter(inputs, tmp_path / "start")
    assert origins(small_runs.train(spec, started, tmp_path / "a", cache=tmp_path / "cache")) == (0, ROWS)
    scaled = Path(shutil.copytree(tmp_path / "start", tmp_path / "scaled"))
    settings = json.loads((scaled / "adapter_config.json").read_text())
    (scaled / "adapter_config.json").write_text(json.dumps({**settings, "lora_alpha": 2 * settings["lora_alpha"]}))
    again = small_runs.train(spec, {**started, "adapter": scaled}, tmp_path / "b", cache=tmp_path / "cache")
    assert origins(again) == (0, ROWS)


def kept_in(root: Path) -> KeptReference:
    return open_kept(root, {"base": "b"}, is_by_pass=True)


def filled(root: Path) -> Path:
    """Keep PAIR below *root* and return the file."""
    kept = kept_in(root)
    kept.put([PAIR], 1, torch.tensor([[-1.5, -2.5]]))
    kept.save()
    (path,) = kept.folder.iterdir()
    return path


def test_a_pass_is_found_by_its_examples_and_threads_or_on_a_gpu_by_the_example(tmp_path: Path) -> None:
    filled(tmp_path)
    found = kept_in(tmp_path).take([PAIR], 1)
    assert found is not None
    assert found.tolist() == [[-1.5, -2.5]]
    cut = TokenizedExample(PAIR.prompt_ids, PAIR.response_ids, [False, True])
    for examples, threads in (([PAIR], 2), ([PAIR, PAIR], 1), ([cut], 1)):
        assert kept_in(tmp_path).take(examples, threads) is None
    on_gpu = KeptReference(tmp_path / "gpu", is_by_pass=False)
    on_gpu.put([cut, PAIR], 1, torch.tensor([[-1.0, -2.0], [-3.0, -4.0]]))
    on_gpu.found = on_gpu.fresh
    assert on_gpu.take([PAIR], 4).tolist() == [[-3.0, -4.0]]  # type: ignore[union-attr]


@pytest.mark.parametrize("damage", [lambda b: b[:-3], lambda b: b[:-1] + bytes([b[-1] ^ 1]), lambda _: b""])
def test_a_damaged_file_is_not_believed_and_goes(damage: Any, tmp_path: Path) -> None:
    path = filled(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    assert kept_in(tmp_path).take([PAIR], 1) is None
    assert not path.exists()
    assert filled(tmp_path) == path
