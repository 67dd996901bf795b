"""The golden vectors: what is in the file is what numpy computes, and what the package computes by other means."""

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from deft.golden import vectors
from deft.golden.__main__ import PATH, check
from deft.golden.check import differences, tolerance
from deft.golden.inputs import fmix32
from deft.golden.layout import as_text
from deft.golden.models import base_model

SECTIONS = ("examples", "distribution", "scores", "heads", "selection", "aspects", "losses", "omega")


@pytest.fixture(scope="module")
def document() -> Any:
    torch.set_num_threads(1)
    return json.loads(PATH.read_text())


@pytest.fixture(scope="module")
def found(document: Any) -> dict[str, float]:
    return differences(document)


def compare(ours: Any, theirs: Any, allowed: float, place: str) -> None:
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys(), place
        for key in theirs:
            compare(ours[key], theirs[key], allowed, f"{place}/{key}")
    elif isinstance(theirs, list):
        assert len(ours) == len(theirs), place
        for index, pair in enumerate(zip(ours, theirs, strict=True)):
            compare(*pair, allowed, f"{place}/{index}")
    elif isinstance(theirs, float):
        assert abs(ours - theirs) <= allowed, place
    else:
        assert ours == theirs, place


def test_the_file_is_what_the_naive_reference_computes(document: Any) -> None:
    made = json.loads(json.dumps(vectors.document()))
    assert made.keys() == document.keys()
    for section, content in document.items():
        allowed = content.get("tolerance", {}).get("float64", 0.0) if isinstance(content, dict) else 0.0
        compare(made[section], content, allowed, section)


@pytest.mark.parametrize("section", SECTIONS)
def test_the_package_computes_the_same_by_other_means(document: Any, found: dict[str, float], section: str) -> None:
    assert found.keys() == set(SECTIONS)
    assert found[section] <= tolerance(document, section)


def test_a_number_that_is_off_is_seen_in_its_section(document: Any) -> None:
    wrong = copy.deepcopy(document)
    wrong["examples"]["rows"][0]["prompt_ids"][3] += 1
    wrong["distribution"]["values"]["count_chosen"][5] += 1
    wrong["scores"]["values"]["responses"][4]["r_d"] += 1e-4
    wrong["heads"]["values"]["kinds"][4]["gradient"][1][2] += 1e-4
    wrong["selection"]["values"]["kept_counts"][0]["kept"] = 8
    wrong["aspects"]["values"]["r_d"][7] += 1e-4
    wrong["losses"]["values"]["rows"][5]["pro"] += 1e-3
    wrong["omega"]["values"]["omega"] += 1e-3
    off = differences(wrong)
    assert {section for section in SECTIONS if off[section] > tolerance(wrong, section)} == set(SECTIONS)


def test_the_reference_shares_no_code_with_the_package() -> None:
    code = "import deft.golden.vectors, sys; print(sorted(name for name in sys.modules if name.startswith('deft.')))"
    code += "; assert not {'torch', 'transformers', 'tokenizers'} & set(sys.modules)"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == str(
        [f"deft.golden{name}" for name in ("", ".inputs", ".layout", ".reference", ".training", ".vectors")]
    )


def test_the_finaliser_is_murmurs() -> None:
    """MurmurHash3 (x86, 32 bits) of the empty key is fmix32 of its seed: its known values for seeds 0, 1 and 2^32-1."""
    assert [fmix32(number) for number in (0, 1, 0xFFFFFFFF)] == [0, 0x514E28B7, 0x81F16F39]


def test_weights_are_exact_in_float32(document: Any) -> None:
    tensors = {tensor["name"]: tensor["values"] for tensor in document["model"]["tensors"]}
    state = base_model(document).state_dict()
    assert state.keys() == tensors.keys()
    for name, values in tensors.items():
        assert state[name].double().ravel().tolist() == values


def test_the_check_of_the_command_line_passes_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert check() == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(SECTIONS)
    assert all(line.endswith("ok") for line in lines)


def test_the_page_on_golden_vectors_runs_as_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "golden.md").read_text()
    lines = page.partition("## Checking another implementation")[2].splitlines()
    code = "\n".join(line.removeprefix("    ") for line in lines if line.startswith("    "))
    assert "expected" in code
    monkeypatch.chdir(PATH.parent)
    exec(compile(code, "golden.md", "exec"), {})  # noqa: S102 - our own page


def test_lists_of_numbers_stand_on_one_line() -> None:
    content = {"a": [1.5, 2], "b": [["x, y", " "], []], "c": {"d": [{"e": []}]}}
    assert json.loads(as_text(content)) == content
    assert '"a": [1.5, 2]' in as_text(content)


def test_the_file_is_small() -> None:
    assert PATH.stat().st_size < 100_000
