"""Scores do not depend on order or packing, and the operation writes what its folder promises."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from deft import distribution as distributions
from deft.data.datasets import import_files, read_examples
from deft.errors import Interrupted, ModelNotUsable, OutOfMemory
from deft.models.loading import load_base, load_tokenizer
from deft.reports import Silent
from deft.reward import head_direction, reward_from_logits
from deft.scoring.run import run_score, score_examples
from deft.specs import Rows, ScoreSpec, TokenOptions
from deft.tokens import TokenizedExample, encode_examples
from tests.models import tiny_llama

ROWS = [
    {"prompt": f"\n\nHuman: question {n}\n\nAssistant:", "chosen": "fine " * (1 + n % 5), "rejected": f"bad thing {n}"}
    for n in range(12)
]


def dataset(folder: Path, rows: list[dict] = ROWS) -> Path:
    source = folder / "pairs.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    out = folder / "dataset"
    out.mkdir()
    import_files([source], out)
    return out


def random_examples(count: int = 9) -> list[TokenizedExample]:
    rng = np.random.default_rng(1)

    def ids(high: int) -> list[int]:
        return rng.integers(0, 259, rng.integers(1, high)).tolist()

    return [TokenizedExample(ids(30), [ids(20), ids(20)], [False, False]) for _ in range(count)]


def q_diff(size: int = 259) -> np.ndarray:
    vector = np.random.default_rng(2).normal(size=size)
    return vector - vector.mean()


def test_scores_are_those_of_one_by_one_in_any_order_and_packing() -> None:
    model, examples = tiny_llama(), random_examples()
    direction = head_direction(model, q_diff())
    alone = [score_examples(model, [example], direction, share=False) for example in examples]
    r_d = np.concatenate([scores.r_d for scores in alone])
    hidden = np.concatenate([scores.hidden for scores in alone])
    for tokens_per_pass, share in ((60, True), (500, True), (10_000, True), (200, False), (200, None)):
        scores = score_examples(model, examples, direction, tokens_per_pass=tokens_per_pass, share=share)
        np.testing.assert_allclose(scores.r_d, r_d, rtol=0, atol=1e-5)
        np.testing.assert_allclose(scores.hidden, hidden, rtol=0, atol=1e-5)
    backwards = score_examples(model, examples[::-1], direction, tokens_per_pass=300)
    np.testing.assert_allclose(backwards.r_d.reshape(-1, 2)[::-1].ravel(), r_d, rtol=0, atol=1e-5)


def test_passes_side_by_side_give_the_bits_of_one_by_one() -> None:
    model, examples = tiny_llama(), random_examples()
    direction = head_direction(model, q_diff())
    before = torch.get_num_threads()
    found = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        found.append(score_examples(model, examples, direction, tokens_per_pass=60))
    torch.set_num_threads(before)
    np.testing.assert_array_equal(found[0].r_d, found[1].r_d)
    np.testing.assert_array_equal(found[0].hidden, found[1].hidden)


def test_scores_are_those_of_full_logits() -> None:
    model, examples = tiny_llama(tied=True), random_examples()
    scores = score_examples(model, examples, head_direction(model, q_diff()))
    at = 0
    for example in examples:
        for ids in example.response_ids:
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([example.prompt_ids + ids])).logits[0]
            first = len(example.prompt_ids) - 1
            naive = reward_from_logits(logits[first : first + len(ids)], q_diff()).item()
            assert scores.r_d[at] == pytest.approx(naive, abs=2e-6 * np.abs(q_diff()).sum())
            assert scores.tokens[at] == len(ids)
            at += 1


def test_lists_of_any_length_are_scored_with_their_prompt_shared_as_apart(
    tmp_path: Path, tiny_model_folder: Path
) -> None:
    rows = [
        {"prompt": f"q{n}?", "responses": [f"{'word ' * (k + n % 4)}{k}" for k in range(2 + n % 4)]} for n in range(9)
    ]
    folder, out = dataset(tmp_path, rows), tmp_path / "out"
    summary = score(ScoreSpec(dataset="ds_1", model="m"), folder, tiny_model_folder, out)
    assert summary["is_prompt_shared"]
    table = pq.read_table(out / "scores.parquet").to_pylist()
    assert [(row["row"], row["response"]) for row in table] == [(n, k) for n in range(9) for k in range(2 + n % 4)]

    tokenizer, model = load_tokenizer(tiny_model_folder), load_base(tiny_model_folder)
    encoded = encode_examples([example for _, example in read_examples(folder)], tokenizer, TokenOptions())
    counted = distributions.load(out / "distribution.safetensors")
    direction = head_direction(model, counted.q_diff)
    alone = [TokenizedExample(e.prompt_ids, [ids], [False]) for e in encoded for ids in e.response_ids]
    apart = score_examples(model, alone, direction, share=False)
    np.testing.assert_allclose([row["r_d"] for row in table], apart.r_d, rtol=0, atol=1e-5)
    np.testing.assert_allclose(np.load(out / "hidden.npy"), apart.hidden, rtol=0, atol=1e-5)

    r_d = [[row["r_d"] for row in table if row["row"] == n] for n in range(9)]
    shares = [np.mean([own[0] > other for other in own[1:]]) for own in r_d]
    assert summary["share_chosen_higher"] == pytest.approx(np.mean(shares))
    assert 0 < summary["share_chosen_higher"] < 1


def test_running_out_of_memory_halves_the_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    from deft.packing import Pack

    model, examples = tiny_llama(), random_examples()
    direction = head_direction(model, q_diff())
    expected = score_examples(model, examples, direction)
    whole = Pack.hidden

    def hidden(pack: Pack, of: torch.nn.Module) -> torch.Tensor:
        if pack.responses > 4:
            raise torch.OutOfMemoryError("made up")
        return whole(pack, of)

    monkeypatch.setattr(Pack, "hidden", hidden)
    told = Notes()
    found = score_examples(model, examples, direction, tokens_per_pass=10_000, report=told)
    np.testing.assert_allclose(found.r_d, expected.r_d, rtol=0, atol=1e-5)
    assert told.notes[0] == "out of memory with 9 examples at once: in two halves"


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("made up"), MemoryError()])
def test_one_example_that_does_not_fit_is_a_failure_that_says_what_helps(
    tmp_path: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    from deft import operations
    from deft.packing import Pack

    def hidden(pack: Pack, of: torch.nn.Module) -> torch.Tensor:
        raise error

    monkeypatch.setattr(Pack, "hidden", hidden)
    monkeypatch.setattr("deft.scoring.scorer.shares_prompts", lambda *_: True)
    inputs, spec = {"dataset": dataset(tmp_path), "model": tiny_model_folder}, ScoreSpec(dataset="d", model="m")
    (tmp_path / "out").mkdir()
    with pytest.raises(OutOfMemory, match=r"one example does not fit .* change tokens.max_total_tokens, then prec"):
        operations.run(spec, inputs=inputs, out=tmp_path / "out", checkpoints=None, report=Silent())


class Notes(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


def test_states_that_are_not_finite_are_refused() -> None:
    model = tiny_llama()
    direction = head_direction(model, q_diff())
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(ModelNotUsable, match="NaN"):
        score_examples(model, random_examples(1), direction, share=True)


def score(spec: ScoreSpec, folder: Path, model: Path, out: Path) -> dict:
    out.mkdir()
    return run_score(spec, inputs={"dataset": folder, "model": model}, out=out, checkpoints=None, report=Silent())


def test_a_scoring_folder_holds_what_it_promises(tmp_path: Path, tiny_model_folder: Path) -> None:
    folder, out = dataset(tmp_path), tmp_path / "out"
    spec = ScoreSpec(dataset="ds_1", model="m", rows=Rows(sample=5))
    summary = score(spec, folder, tiny_model_folder, out)
    assert {path.name for path in out.iterdir()} == {
        "distribution.safetensors",
        "discrepancy.json",
        "projection.safetensors",
        "scores.parquet",
        "hidden.npy",
        "scoring.json",
        "examples.parquet",
        "original.parquet",
    }
    assert (summary["rows_counted"], summary["rows_scored"], summary["responses_scored"]) == (12, 5, 10)
    assert (summary["head"], summary["vocabulary_size"], summary["width"]) == ("plain", 259, 32)
    assert json.loads((out / "scoring.json").read_text()) == summary
    table = pq.read_table(out / "scores.parquet")
    assert table["response"].to_pylist() == [0, 1] * 5
    hidden = np.load(out / "hidden.npy", mmap_mode="r")
    assert (hidden.dtype, hidden.shape) == (np.float32, (10, 32))


def test_the_report_on_noise_is_written_with_the_text_of_its_tokens(tmp_path: Path, tiny_model_folder: Path) -> None:
    folder = dataset(tmp_path)
    summary = score(ScoreSpec(dataset="d", model="m"), folder, tiny_model_folder, tmp_path / "out")
    report = json.loads((tmp_path / "out" / "discrepancy.json").read_text())
    assert report["examples"] == len(ROWS)
    assert report["l1"] == pytest.approx(summary["l1"], abs=1e-12)
    # "fine " against "bad thing": these bytes lead on either side.
    assert {"e", "b"} <= {token["text"] for token in report["leading_tokens"]}
    assert summary["discrepancy"]["warnings"] == report["warnings"]
    assert any("12 examples" in warning for warning in report["warnings"])


def test_a_gate_that_is_off_measures_and_does_not_warn(tmp_path: Path, tiny_model_folder: Path) -> None:
    summary = score(
        ScoreSpec(dataset="d", model="m", gate="off"), dataset(tmp_path), tiny_model_folder, tmp_path / "out"
    )
    assert (summary["discrepancy"]["gate"], summary["discrepancy"]["warnings"]) == ("off", [])
    assert summary["discrepancy"]["p"] is not None


def test_the_operation_computes_the_definition_on_every_row(tmp_path: Path, tiny_model_folder: Path) -> None:
    """Counting, tokenising and R_d once more, written down naively."""
    folder, out = dataset(tmp_path), tmp_path / "out"
    score(ScoreSpec(dataset="ds_1", model="m"), folder, tiny_model_folder, out)
    tokenizer, model = load_tokenizer(tiny_model_folder), load_base(tiny_model_folder)
    ids = [[tokenizer(" " + row[side].strip())["input_ids"] for side in ("chosen", "rejected")] for row in ROWS]
    counts = [np.bincount(np.concatenate([pair[side] for pair in ids]), minlength=259) for side in (0, 1)]
    q = counts[0] / counts[0].sum() - counts[1] / counts[1].sum()
    np.testing.assert_allclose(distributions.load(out / "distribution.safetensors").q_diff, q, rtol=0, atol=1e-15)
    table = pq.read_table(out / "scores.parquet")
    for at, (row, side) in enumerate(zip(table["row"].to_pylist(), table["response"].to_pylist(), strict=True)):
        prompt = tokenizer(ROWS[row]["prompt"])["input_ids"]
        with torch.no_grad():
            logp = torch.log_softmax(model(torch.tensor([prompt + ids[row][side]])).logits[0].double(), -1)
        mean = logp[len(prompt) - 1 : -1].mean(0).numpy()
        assert table["r_d"][at].as_py() == pytest.approx(float(q @ mean), abs=1e-6)


def test_a_stop_is_heeded(tmp_path: Path, tiny_model_folder: Path) -> None:
    class Stopping(Silent):
        is_stopping = True

    inputs = {"dataset": dataset(tmp_path), "model": tiny_model_folder}
    with pytest.raises(Interrupted):
        run_score(ScoreSpec(dataset="d", model="m"), inputs=inputs, out=tmp_path, checkpoints=None, report=Stopping())


def test_a_context_that_is_too_short_is_refused(tmp_path: Path, tiny_model_folder: Path) -> None:
    spec = ScoreSpec(dataset="ds_1", model="m", tokens=TokenOptions(max_total_tokens=512))
    assert spec.tokens.max_total_tokens == 512
    with pytest.raises(ModelNotUsable, match="context"):
        score(
            spec.model_copy(update={"tokens": TokenOptions(max_total_tokens=5000)}),
            dataset(tmp_path),
            tiny_model_folder,
            tmp_path / "out",
        )
