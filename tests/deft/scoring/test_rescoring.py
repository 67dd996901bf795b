"""Another Q_diff without the model gives what scoring with it would have given."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from deft import distribution as distributions
from deft.data.datasets import import_files
from deft.distribution import Counts, Distribution, difference
from deft.errors import ArtifactCorrupt, InvalidInput, ModelNotUsable, ReviewNeeded
from deft.reports import Silent
from deft.reward import direction_of, head_of, projection_of
from deft.scoring import projections
from deft.scoring.projections import Projection, are_of_one_head, probe_vector
from deft.scoring.rescoring import rescore
from deft.scoring.run import run_score, score_examples
from deft.specs import ScoreSpec, Selection, SelectSpec
from deft.subsets import run_select
from deft.tokens import TokenizedExample
from tests.families import V, tiny
from tests.models import save_tiny_llama

ASPECTS = ["helpful", "harmless", None]


def rows(count: int, words: tuple[str, str], aspects: bool = True) -> list[dict[str, Any]]:
    found = [
        {"prompt": f"question {n}?", "chosen": f"{words[0]} " * (1 + n % 4) + str(n), "rejected": f"{words[1]} {n * 7}"}
        for n in range(count)
    ]
    return [{**row, "aspect": ASPECTS[n % 3]} for n, row in enumerate(found)] if aspects else found


def scored(folder: Path, model: Path, records: list[dict[str, Any]], **spec: Any) -> Path:
    """Score *records* under *model* into a folder below *folder*, which is new."""
    data, out = folder / "data", folder / "scoring"
    for each in (data, out):
        each.mkdir(parents=True)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in records))
    import_files([folder / "rows.jsonl"], data)
    asked = ScoreSpec.model_validate({"dataset": "ds_1", "model": "m", **spec})
    run_score(asked, inputs={"dataset": data, "model": model}, out=out, checkpoints=None, report=Silent())
    return out


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> dict[str, Path]:
    """Two scorings under one model, of data sets with other words."""
    folder = tmp_path_factory.mktemp("scorings")
    return {
        "own": scored(folder / "own", tiny_model_folder, rows(18, ("fine", "bad"))),
        "other": scored(folder / "other", tiny_model_folder, rows(9, ("yes sir", "never"), aspects=False)),
    }


def r_d(scoring: Path) -> np.ndarray:
    return pq.read_table(scoring / "scores.parquet")["r_d"].to_numpy()


def with_distribution(
    model: Path, distribution: Distribution, records: list[dict[str, Any]], folder: Path
) -> np.ndarray:
    """R_d of *records* by a forward pass with *distribution*."""
    from deft.data.datasets import read_examples
    from deft.models.loading import load_base, load_tokenizer
    from deft.specs import TokenOptions
    from deft.tokens import encode_examples

    folder.mkdir()
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in records))
    import_files([folder / "rows.jsonl"], folder)
    base, tokenizer = load_base(model), load_tokenizer(model)
    tokenized = encode_examples([example for _, example in read_examples(folder)], tokenizer, TokenOptions())
    return score_examples(base, tokenized, direction_of(head_of(base), distribution.q_diff)).r_d


def test_the_scorings_own_q_diff_gives_its_own_rewards(home: dict[str, Path]) -> None:
    found = rescore(home["own"], home["own"], None)
    np.testing.assert_allclose(found.r_d, r_d(home["own"]), rtol=1e-6, atol=0)
    own = distributions.load(home["own"] / "distribution.safetensors")
    np.testing.assert_array_equal(found.distribution.q_diff, own.q_diff)


def test_another_scorings_q_diff_gives_what_scoring_with_it_gives(
    home: dict[str, Path], tiny_model_folder: Path, tmp_path: Path
) -> None:
    found = rescore(home["own"], home["other"], None)
    other = distributions.load(home["other"] / "distribution.safetensors")
    fresh = with_distribution(tiny_model_folder, other, rows(18, ("fine", "bad")), tmp_path / "fresh")
    np.testing.assert_allclose(found.r_d, fresh, rtol=0, atol=1e-5 * np.abs(fresh).max())
    assert np.abs(found.r_d - r_d(home["own"])).max() > 0.01, "the two distributions hardly differ"


def test_weights_of_aspects_give_what_scoring_with_these_weights_gives(
    home: dict[str, Path], tiny_model_folder: Path, tmp_path: Path
) -> None:
    weights = {"helpful": 1.0, "harmless": 0.25, "": 0.0}
    fresh = scored(tmp_path, tiny_model_folder, rows(18, ("fine", "bad")), aspects=weights)
    found = rescore(home["own"], home["own"], weights)
    np.testing.assert_allclose(found.r_d, r_d(fresh), rtol=0, atol=1e-5 * np.abs(r_d(fresh)).max())
    mixed = distributions.load(fresh / "distribution.safetensors")
    np.testing.assert_allclose(found.distribution.q_diff, mixed.q_diff, rtol=0, atol=1e-15)
    assert json.loads(mixed.facts["aspect_weights"]) == weights
    # A scoring that was mixed can be mixed anew: its aspects are kept apart.
    np.testing.assert_allclose(rescore(fresh, home["own"], None).r_d, r_d(home["own"]), rtol=1e-6, atol=0)
    again = rescore(fresh, fresh, {"harmless": 2.0})
    one = rescore(home["own"], home["own"], {"harmless": 1.0})
    np.testing.assert_allclose(again.r_d, 2 * one.r_d, rtol=1e-6, atol=0)


def test_a_mixture_is_the_weighted_sum_of_the_aspects_own_q_diffs(home: dict[str, Path]) -> None:
    """M12 by hand, from the rows themselves: bytes of the responses, as the tokenizer has them."""
    own = distributions.load(home["own"] / "distribution.safetensors")
    assert {name: counts.rows for name, counts in own.aspects.items()} == {"": 6, "harmless": 6, "helpful": 6}
    by_hand = np.zeros(len(own.q_diff))
    for weight, place in ((0.5, 0), (3.0, 1)):
        part = [row for n, row in enumerate(rows(18, ("fine", "bad"))) if n % 3 == place]
        for side, sign in (("chosen", 1), ("rejected", -1)):
            text = "".join(row[side] for row in part).encode()
            for byte in text:
                by_hand[own_id(byte)] += sign * weight / len(text)
    np.testing.assert_allclose(
        distributions.mixture(own.aspects, {"helpful": 0.5, "harmless": 3.0}), by_hand, rtol=0, atol=1e-12
    )


def own_id(byte: int) -> int:
    from tests.models import byte_tokenizer

    return byte_tokenizer()(bytes([byte]).decode())["input_ids"][0]


@pytest.mark.parametrize("family", ["llama", "llama-tied", "phi-bias", "cohere", "granite"])
def test_every_linear_head_is_rescored(family: str) -> None:
    model = tiny(family)
    rng = np.random.default_rng(0)
    examples = [
        TokenizedExample([1, 2, 3], [rng.integers(0, V, 5).tolist(), rng.integers(0, V, 9).tolist()], [False, False])
        for _ in range(4)
    ]
    one, other = (
        Distribution(counts, difference(counts))
        for counts in (Counts(rng.integers(1, 9, V), rng.integers(1, 9, V), 5) for _ in range(2))
    )
    head = head_of(model)
    stored = score_examples(model, examples, direction_of(head, one.q_diff)).hidden
    fresh = score_examples(model, examples, direction_of(head, other.q_diff)).r_d
    here, there = projection_of(head, one), projection_of(head, other)
    assert are_of_one_head(here, there)
    np.testing.assert_allclose(here.rewards(stored, there.u, other.q_diff), fresh, rtol=1e-6, atol=0)


def test_a_projection_survives_its_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    made = Projection(rng.normal(size=4), {"b": rng.normal(size=4), "a": rng.normal(size=4)}, rng.normal(size=4))
    with_bias = Projection(made.u, {}, made.probe, rng.normal(size=7).astype(np.float32), 0.0625)
    for projection in (made, with_bias):
        projections.save(tmp_path, projection)
        found = projections.load(tmp_path)
        assert list(found.aspects) == list(projection.aspects)
        assert found.scale == projection.scale
        np.testing.assert_array_equal(found.u, projection.u)
        assert (found.bias is None) == (projection.bias is None)
    (tmp_path / "projection.safetensors").write_bytes(b"no")
    with pytest.raises(ArtifactCorrupt):
        projections.load(tmp_path)


def test_a_head_is_known_after_rounding_to_16_bits_and_told_from_another() -> None:
    import torch

    weight = torch.randn(500, 64, generator=torch.Generator().manual_seed(0))
    probe = probe_vector(500)
    assert set(probe) == {-1.0, 1.0}

    def seen(matrix: Any) -> Projection:
        return Projection(np.zeros(64), {}, probe @ matrix.double().numpy())

    for kind in (torch.bfloat16, torch.float16):
        assert are_of_one_head(seen(weight), seen(weight.to(kind)))
    changed = weight.clone()
    changed[7] += 1.0
    assert not are_of_one_head(seen(weight), seen(changed))
    assert not are_of_one_head(seen(weight), seen(weight[:, :32]))


def refusal(home: Path, source: Path, weights: dict[str, float] | None = None) -> tuple[str, str | None]:
    with pytest.raises(InvalidInput) as error:
        rescore(home, source, weights)
    return error.value.findings[0].code, error.value.findings[0].pointer


def test_a_soft_capped_head_is_refused_with_the_reason(home: dict[str, Path], tmp_path: Path) -> None:
    capped = tmp_path / "capped"
    shutil.copytree(home["own"], capped)
    for name in ("hidden.npy", "projection.safetensors"):
        (capped / name).unlink()
    assert refusal(capped, home["other"]) == ("not_linear", "/scoring")
    assert refusal(home["own"], capped) == ("not_linear", "/distribution")
    with pytest.raises(InvalidInput, match="soft-capped"):
        rescore(capped, capped, {"helpful": 1.0})
    with pytest.raises(ModelNotUsable, match="soft-capped"):
        projection_of(head_of(tiny("gemma2")), distributions.load(home["own"] / "distribution.safetensors"))


def test_another_models_head_or_tokenizer_is_refused(home: dict[str, Path], tmp_path: Path) -> None:
    foreign = scored(tmp_path, save_tiny_llama(tmp_path / "model", seed=5), rows(4, ("a", "b")))
    assert refusal(home["own"], foreign) == ("another_head", "/distribution")
    own = distributions.load(foreign / "distribution.safetensors")
    other_tokenizer = Distribution(own.counts, own.q_diff, {**own.facts, "tokenizer_sha256": "f" * 64}, own.aspects)
    distributions.save(foreign / "distribution.safetensors", other_tokenizer)
    assert refusal(home["own"], foreign) == ("distribution_of_another_tokenizer", "/distribution")


@pytest.mark.parametrize(
    ("weights", "code", "found"),
    [({"kind": 1.0}, "unknown_aspect", "kind"), ({"helpful": 0.0}, "no_weight", "weights that are all 0")],
)
def test_weights_that_do_not_fit_are_refused(
    home: dict[str, Path], weights: dict[str, float], code: str, found: str
) -> None:
    with pytest.raises(InvalidInput) as error:
        rescore(home["own"], home["own"], weights)
    finding = error.value.findings[0]
    assert (finding.code, finding.pointer, finding.found) == (code, "/aspects", found)
    assert "`harmless`, `helpful`" in finding.expected


def test_states_of_other_responses_are_corruption(home: dict[str, Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(home["own"], broken)
    np.save(broken / "hidden.npy", np.load(broken / "hidden.npy")[:-1])
    with pytest.raises(ArtifactCorrupt):
        select(broken, tmp_path / "out", distribution=home["other"])


def select(scoring: Path, out: Path, distribution: Path | None = None, **spec: Any) -> dict[str, Any]:
    out.mkdir()
    inputs = {"scoring": scoring} | ({"distribution": distribution} if distribution else {})
    asked = SelectSpec(scoring="sc_1", distribution="sc_2" if distribution else None, **spec)
    return run_select(asked, inputs=inputs, out=out, report=Silent())


def test_select_ranks_by_the_other_q_diff_and_hands_it_on(home: dict[str, Path], tmp_path: Path) -> None:
    summary = select(home["own"], tmp_path / "subset", home["other"], selection=Selection(keep=0.25))
    expected = rescore(home["own"], home["other"], None)
    ledger = pq.read_table(tmp_path / "subset" / "ledger.parquet")
    np.testing.assert_array_equal(ledger["deft_r_d"].to_numpy(), expected.r_d[::2])
    lowest = np.argsort(expected.r_d[::2], kind="stable")[:5]
    assert {row for row, kept in enumerate(ledger["deft_kept"].to_pylist()) if kept} == set(lowest.tolist())
    handed = distributions.load(tmp_path / "subset" / "distribution.safetensors")
    np.testing.assert_array_equal(handed.q_diff, expected.distribution.q_diff)
    assert (summary["distribution"], summary["aspects"]) == ("sc_2", None)
    assert "that of sc_2" in (tmp_path / "subset" / "README.md").read_text()


def test_select_mixes_aspects(home: dict[str, Path], tmp_path: Path) -> None:
    weights = {"helpful": 1.0, "harmless": 2.0}
    summary = select(home["own"], tmp_path / "subset", aspects=weights)
    ledger = pq.read_table(tmp_path / "subset" / "ledger.parquet")
    np.testing.assert_array_equal(ledger["deft_r_d"].to_numpy(), rescore(home["own"], home["own"], weights).r_d[::2])
    assert summary["aspects"] == weights


class Refusing(Silent):
    """A report that nobody has accepted anything in, which counts phases."""

    def __init__(self, *accepted: str) -> None:
        self.accepted = accepted
        self.phases: list[str] = []

    def phase(self, name: str) -> None:
        self.phases.append(name)


def test_a_gate_that_pauses_asks_before_the_model_is_loaded(tmp_path: Path, tiny_model_folder: Path) -> None:
    spec = ScoreSpec(dataset="ds_1", model="m", gate="pause")
    inputs = {"dataset": tmp_path / "data", "model": tiny_model_folder}
    inputs["dataset"].mkdir()
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(6, ("a", "b"))))
    import_files([tmp_path / "rows.jsonl"], inputs["dataset"])
    asked = Refusing()
    (tmp_path / "one").mkdir()
    with pytest.raises(ReviewNeeded, match="6 examples") as error:
        run_score(spec, inputs=inputs, out=tmp_path / "one", checkpoints=None, report=asked)
    assert error.value.error_code == "discrepancy"
    assert error.value.findings[0].pointer == "/gate"
    assert asked.phases == ["count"]
    (tmp_path / "two").mkdir()
    accepted = Refusing("discrepancy")
    summary = run_score(spec, inputs=inputs, out=tmp_path / "two", checkpoints=None, report=accepted)
    assert summary["rows_scored"] == 6
    assert summary["discrepancy"]["warnings"]
