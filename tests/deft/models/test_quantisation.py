"""An NF4 base: where it works, what is said of it and it is not mixed with; its gradients, with the package."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from deft.arms import submit_children
from deft.errors import InvalidInput
from deft.models import quantisation
from deft.models.loading import load_base
from deft.models.quantisation import keep_gradients, numbers_of, require_nf4
from deft.scoring.stored_states import open_states
from deft.specs import EvaluateSpec, Lora, OperationSpec, PipelineSpec, ScoreSpec, TrainSpec
from deft.training.policy import attach_lora, set_training_mode


@pytest.mark.parametrize(
    ("installed", "device", "found"),
    [
        (None, "cuda", "not installed"),
        ("0.49.2", "cuda", r"bitsandbytes 0\.49\.2"),
        ("0.50.0", "mps", "kind mps"),
    ],
)
def test_where_nf4_does_not_work_it_is_refused_with_the_fix(installed: str | None, device: str, found: str) -> None:
    with pytest.raises(InvalidInput, match=found) as caught:
        require_nf4(installed, device)
    (finding,) = caught.value.findings
    assert finding.expected
    assert finding.fix.endswith("or set quantisation to none")


def test_where_it_works_it_is_not() -> None:
    for installed in ("0.50.0", "0.50.2", "0.51.0.dev0", "1.0.0"):
        for device in quantisation.DEVICES:
            require_nf4(installed, device)


def test_a_missing_package_is_told_before_weights_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.models import write_model_files

    monkeypatch.setattr(quantisation, "installed_version", lambda: None)
    with pytest.raises(InvalidInput, match="bitsandbytes is not installed"):
        load_base(write_model_files(tmp_path / "model"), quantisation="nf4")


def test_results_of_an_nf4_base_are_told_apart_and_not_extended_by_others(tmp_path: Path) -> None:
    from tests.deft import small_runs

    model = nn.Linear(2, 2)
    assert numbers_of(model, torch.bfloat16) == "bfloat16"
    model.is_loaded_in_4bit = True  # type: ignore[assignment]
    assert numbers_of(model, torch.bfloat16) == "nf4/bfloat16"

    scoring = small_runs.make_inputs(tmp_path / "in")["scoring"]
    (scoring / "scoring.json").write_text('{"base_weights_hash": "b", "config_hash": "c", "dtype": "nf4/bfloat16"}')
    (scoring / "hidden.npy").touch()
    with pytest.raises(InvalidInput, match=r"a scoring whose dtype is nf4/bfloat16") as caught:
        open_states(
            scoring,
            {
                "base_weights_hash": "b",
                "config_hash": "c",
                "adapter_hash": None,
                "dtype": "bfloat16",
                "tokenizer_sha256": "",
                "options": "",
            },
        )
    assert caught.value.findings[0].expected.startswith("bfloat16, as this scoring has it")


def test_a_pipeline_has_one_base_in_all_its_jobs() -> None:
    spec = PipelineSpec.model_validate({"dataset": "d", "model": "m", "optimisation": {"quantisation": "nf4"}})
    children: list[OperationSpec] = []

    def submit(_name: str, child: OperationSpec) -> str:
        children.append(child)
        return f"job_{len(children)}"

    submit_children(spec, submit)
    bases = [each.quantisation for each in children if isinstance(each, ScoreSpec | EvaluateSpec)]
    trained = [each.optimisation.quantisation for each in children if isinstance(each, TrainSpec)]
    assert set(bases + trained) == {"nf4"}
    assert len(bases) == 2


def test_a_merge_into_four_bits_is_refused_when_it_is_asked_for() -> None:
    with pytest.raises(ValidationError, match="merge needs the base's own weights"):
        TrainSpec.model_validate({"data": "d", "model": "m", "merge": True, "optimisation": {"quantisation": "nf4"}})


def test_no_module_is_left_to_repack_its_weight() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    setattr(model[0], quantisation.REPACKING, True)
    keep_gradients(model)
    assert getattr(model[0], quantisation.REPACKING) is False
    assert not hasattr(model[1], quantisation.REPACKING)


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is optional (the extra `nf4`)")
def test_gradients_over_an_nf4_base_are_those_over_its_weights_written_out(tmp_path: Path) -> None:
    import bitsandbytes

    from tests.models import save_tiny_llama

    save_tiny_llama(tmp_path)
    packed, whole = load_base(tmp_path, quantisation="nf4"), load_base(tmp_path)
    for name, module in packed.named_modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            weight = bitsandbytes.functional.dequantize_4bit(module.weight.data, module.weight.quant_state)
            whole.get_submodule(name).weight.data = weight.float()
    gradients = []
    for base in (packed, whole):
        with torch.no_grad():
            base(input_ids=torch.arange(3, 9)[None])  # after which a repacked weight would give no gradient
        policy = attach_lora(base, Lora(r=4), seed=0)
        set_training_mode(policy)
        policy(input_ids=torch.arange(3, 40)[None], labels=torch.arange(3, 40)[None]).loss.backward()
        gradients.append({name: p.grad for name, p in policy.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-4, atol=1e-6)
