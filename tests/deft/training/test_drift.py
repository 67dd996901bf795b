"""The probe set: its numbers against naive ones, and that looking at it changes nothing of the run."""

from pathlib import Path
from typing import Any

import pytest
import torch

from deft.errors import ReviewNeeded
from deft.reward import direction_of, head_of
from deft.specs import DpoMethod, Drift, Lora, ProMethod, SftMethod
from deft.tokens import TokenizedExample
from deft.training.drift import DriftWatch, expected_length, make_probe
from deft.training.objective import Objective
from deft.training.policy import attach_lora, set_training_mode
from tests.deft import small_runs
from tests.models import tiny_llama

END = 2
EXAMPLES = [
    TokenizedExample([5, 6, 7], [[8, 9, 10, 11], [12]], [False, False]),
    TokenizedExample([20, 21], [[22, 23], [24, 25, 26]], [True, False]),
]


def policy_and_objective() -> tuple[Any, Objective]:
    torch.manual_seed(0)
    q_diff = torch.randn(259, dtype=torch.float64)
    q_diff -= q_diff.mean()
    model = attach_lora(tiny_llama(0), Lora(r=4, dropout=0.3), seed=0)
    head = head_of(model)
    return model, Objective(DpoMethod(), EXAMPLES, END, True, 1, head, direction_of(head, q_diff.numpy()))


def move(model: Any) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.05)


def test_the_numbers_are_those_of_the_whole_distributions() -> None:
    model, objective = policy_and_objective()
    probe = make_probe(objective, model, examples=8, seed=0, reference=model.disable_adapter)
    move(model)
    found = probe.measure(model)

    kls, entropies, lengths = [], [], []
    for example in EXAMPLES:
        response = example.response_ids[0] + ([] if example.is_cut[0] else [END])
        ids = torch.tensor([example.prompt_ids + response[:-1]])
        with torch.no_grad():
            ours = torch.log_softmax(model(ids).logits[0, len(example.prompt_ids) - 1 :], -1)
            with model.disable_adapter():
                theirs = torch.log_softmax(model(ids).logits[0, len(example.prompt_ids) - 1 :], -1)
        assert len(ours) == len(response)
        kls.append((ours.exp() * (ours - theirs)).sum(-1).mean())
        entropies.append(-(ours.exp() * ours).sum(-1).mean())
        alive, total = 1.0, 0.0
        for position in ours:
            total += alive
            alive *= 1 - position[END].exp().item()
        lengths.append(total)
    assert found["deft/probe_kl"] == pytest.approx(torch.stack(kls).mean().item(), abs=1e-5)
    assert found["deft/probe_kl"] > 0.01
    assert found["deft/probe_entropy"] == pytest.approx(torch.stack(entropies).mean().item(), abs=1e-5)
    assert found["deft/probe_length"] == pytest.approx(sum(lengths) / 2, abs=1e-4)
    with torch.no_grad():
        expected = [objective.parts(model, [i], objective.size_of([i]), at_start=True).r_d for i in (0, 1)]
    assert found["deft/probe_r_d"] == pytest.approx(torch.cat(expected).mean().item(), abs=1e-5)  # type: ignore[arg-type]


def test_at_the_start_there_is_no_divergence_at_all() -> None:
    model, objective = policy_and_objective()
    probe = make_probe(objective, model, examples=1, seed=0, reference=model.disable_adapter)
    assert probe.at_start(model)["deft/probe_kl"] == 0
    assert probe.measure(model) == probe.at_start(model)


def test_the_expected_length_of_known_odds() -> None:
    assert expected_length(torch.tensor([0.5, 0.5, 0.9])).item() == 1 + 0.5 + 0.25
    assert expected_length(torch.zeros(7)).item() == 7


def test_a_look_draws_no_random_number_and_leaves_no_gradient() -> None:
    model, objective = policy_and_objective()
    set_training_mode(model)
    before = torch.get_rng_state()
    probe = make_probe(objective, model, examples=2, seed=3, reference=model.disable_adapter)
    probe.measure(model)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return small_runs.make_inputs(tmp_path_factory.mktemp("inputs"))


def test_a_run_that_is_looked_at_ends_in_the_bits_of_one_that_is_not(inputs: dict[str, Path], tmp_path: Path) -> None:
    def weights(name: str, drift: Any) -> tuple[str, small_runs.Record]:
        report = small_runs.Record()
        spec = small_runs.spec_of(drift=drift, lora={"dropout": 0.2})
        return small_runs.train(spec, inputs, tmp_path / name, report=report)["adapter_sha256"], report

    (never, silent), (always, looked) = weights("never", None), weights("always", {"every": 1, "examples": 5})
    assert always == never
    assert silent.at_start == {}
    assert not any(name.startswith("deft/probe") for values in silent.steps.values() for name in values)
    kls = [looked.steps[step]["deft/probe_kl"] for step in range(1, 9)]
    assert looked.at_start["deft/probe_kl"] == 0 < kls[0] < kls[-1]


def test_a_resumed_run_measures_against_the_same_start(inputs: dict[str, Path], tmp_path: Path) -> None:
    sft = small_runs.spec_of(method={"type": "sft"}, deft=None, optimisation={"epochs": 1})
    small_runs.train(sft, inputs, tmp_path / "sft")
    started = {**inputs, "adapter": tmp_path / "sft"}
    spec = small_runs.spec_of(adapter="ad_1", drift={"every": 1, "max_kl": None})
    whole, resumed = small_runs.Record(), small_runs.Record()
    small_runs.train(spec, started, tmp_path / "whole", tmp_path / "checkpoints", whole)
    (newest,) = (tmp_path / "checkpoints").glob("step-000008")
    for file in newest.iterdir():
        file.unlink()
    newest.rmdir()
    small_runs.train(spec, started, tmp_path / "resumed", tmp_path / "checkpoints", resumed)
    assert sorted(resumed.steps) == [7, 8]
    assert resumed.steps[8] == whole.steps[8]
    assert resumed.at_start == {}
    assert resumed.steps[8]["deft/probe_kl"] > 0


TIGHT = {"every": 2, "max_kl": 1e-9}


def test_a_drift_beyond_its_budget_writes_a_checkpoint_and_pauses(inputs: dict[str, Path], tmp_path: Path) -> None:
    spec, checkpoints = small_runs.spec_of(drift=TIGHT, lora={"dropout": 0.2}), tmp_path / "checkpoints"
    report = small_runs.Record()
    with pytest.raises(ReviewNeeded, match=r"after optimiser step 2 .*max_kl at most 1e-09") as caught:
        small_runs.train(spec, inputs, tmp_path / "first", checkpoints, report)
    assert caught.value.error_code == "drift_budget"
    assert caught.value.findings[0].pointer == "/drift/max_kl"
    assert report.checkpoints == [2]
    assert max(report.steps) == 2
    assert not list((tmp_path / "first").iterdir())

    resumed = small_runs.Record()
    resumed.accepted = ["drift_budget"]
    summary = small_runs.train(spec, inputs, tmp_path / "second", checkpoints, resumed)
    assert sorted(resumed.steps) == [3, 4, 5, 6, 7, 8]
    (note,) = resumed.notes
    assert "step 4 is beyond the drift budget" in note
    straight = small_runs.spec_of(drift=None, lora={"dropout": 0.2})
    assert summary["adapter_sha256"] == small_runs.train(straight, inputs, tmp_path / "third")["adapter_sha256"]


def test_without_a_place_for_checkpoints_a_drift_is_noted_and_nothing_is_lost(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    report = small_runs.Record()
    small_runs.train(small_runs.spec_of(drift=TIGHT), inputs, tmp_path / "out", report=report)
    assert sorted(report.steps) == list(range(1, 9))
    assert len(report.notes) == 1


def watch_of(*, method: Any = None, **budget: Any) -> DriftWatch:
    model, objective = policy_and_objective()
    objective.method = method or objective.method
    probe = make_probe(objective, model, examples=2, seed=0, reference=model.disable_adapter)
    return DriftWatch(probe, Drift(**budget), model)


def test_each_limit_is_one_of_its_own_number_and_of_both_directions() -> None:
    watch = watch_of(max_kl=0.5, max_entropy_change=0.5, max_length_change=0.5, max_r_d_change=0.5)
    same = watch.start
    assert watch.overruns(same) == []
    amounts = {
        "kl": 0.6,
        "entropy": -0.6 * same["deft/probe_entropy"],
        "length": -0.6 * same["deft/probe_length"],
        "r_d": -0.6,
    }
    fields = {"kl": "max_kl", "entropy": "max_entropy_change", "length": "max_length_change", "r_d": "max_r_d_change"}
    for name, amount in amounts.items():
        for sign in (1, -1):
            metric = f"deft/probe_{name}"
            moved = {**same, metric: same[metric] + sign * amount}
            expected = [] if (name, sign) == ("kl", -1) else [fields[name]]
            assert [finding.code for finding in watch.overruns(moved)] == expected
            assert watch.overruns({**same, metric: same[metric] + sign * amount * 0.8}) == []


@pytest.mark.parametrize(("method", "expected"), [(DpoMethod(), 1.0), (SftMethod(), 3.0), (ProMethod(), 3.0)])
def test_how_much_kl_a_method_may_take_by_itself(method: Any, expected: float) -> None:
    watch = watch_of(method=method)
    assert watch.limits["max_kl"] == expected
    assert watch.overruns({**watch.start, "deft/probe_kl": expected}) == []
    assert len(watch.overruns({**watch.start, "deft/probe_kl": expected + 0.01})) == 1


def test_a_limit_of_null_is_none() -> None:
    watch = watch_of(max_kl=None)
    assert watch.overruns({**watch.start, "deft/probe_kl": 1e9, "deft/probe_r_d": 1e9}) == []
