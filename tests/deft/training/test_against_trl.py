"""Our DPO training and TRL's, on the same ids: the same losses, step by step."""

import random
from typing import Any

import pytest
import torch

from deft.reward import head_of
from deft.specs import DpoMethod, Lora, Optimisation
from deft.tokens import TokenizedExample
from deft.training.objective import Objective, reference_logps
from deft.training.policy import attach_lora
from deft.training.run import training_arguments
from deft.training.trainer import AlignmentTrainer
from tests.deft.small_runs import Record
from tests.models import byte_tokenizer, tiny_llama

STEPS, BATCH, RATE, BETA = 50, 4, 3e-3, 0.1
WORDS = ("red", "tea", "hot", "sun", "old", "map")


def rows() -> list[dict[str, str]]:
    """Pairs that are hard to tell apart, so that the loss stays high and every step has a gradient worth comparing."""
    draw = random.Random(1)  # noqa: S311 - test data

    def text(count: int) -> str:
        return "".join(f" {draw.choice(WORDS)}" for _ in range(count))

    return [
        {"prompt": f"question {i}?", "chosen": text(1 + i % 4) + " yes" * (i % 3 == 0), "rejected": text(1 + i % 3)}
        for i in range(STEPS * BATCH)
    ]


ROWS = rows()


def policy() -> Any:
    return attach_lora(tiny_llama(0), Lora(r=4), seed=0)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, float]]:
    import datasets
    import trl

    torch.set_num_threads(1)
    arguments = trl.DPOConfig(
        output_dir=str(tmp_path_factory.mktemp("trl")),
        beta=BETA,
        per_device_train_batch_size=BATCH,
        num_train_epochs=1,
        learning_rate=RATE,
        lr_scheduler_type="linear",
        optim="adamw_torch",
        max_grad_norm=1.0,
        train_sampling_strategy="sequential",
        max_length=None,
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=True,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    tokenizer = byte_tokenizer(has_chat_template=False)
    trainer = trl.DPOTrainer(
        policy(), args=arguments, train_dataset=datasets.Dataset.from_list(ROWS), processing_class=tokenizer
    )
    trainer.train()
    return [entry for entry in trainer.state.log_history if "loss" in entry]


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, float]]:
    torch.set_num_threads(1)
    tokenizer = byte_tokenizer(has_chat_template=False)

    def ids(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    tokenized = [
        TokenizedExample(ids(row["prompt"]), [ids(row["chosen"]), ids(row["rejected"])], [False, False]) for row in ROWS
    ]
    model = policy()
    objective = Objective(DpoMethod(beta=BETA), tokenized, tokenizer.eos_token_id, True, 1, head_of(model))
    steps = [list(range(start, start + BATCH)) for start in range(0, len(ROWS), BATCH)]
    objective.reference = reference_logps(
        objective, model, steps, reference=model.disable_adapter, after_each=lambda _: None
    )
    optimisation = Optimisation(learning_rate=RATE, batch_size=BATCH)
    arguments = training_arguments(optimisation, tmp_path_factory.mktemp("ours"), next(model.parameters()))
    report = Record()
    AlignmentTrainer(model, arguments, steps=steps, objective=objective, omega=0.0, report=report, store=None).train()
    return [report.steps[step] for step in sorted(report.steps)]


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("loss", 1e-4),
        ("logps/chosen", 1e-3),
        ("logps/rejected", 1e-3),
        ("logits/chosen", 1e-4),
        ("logits/rejected", 1e-4),
        ("num_tokens", 0),
        ("epoch", 1e-12),
        ("rewards/chosen", 1e-4),
        ("rewards/rejected", 1e-4),
        ("rewards/margins", 1e-4),
        ("rewards/accuracies", 0),
        ("grad_norm", 1e-2),
        ("learning_rate", 1e-12),
    ],
)
def test_every_step_agrees(
    ours: list[dict[str, float]], theirs: list[dict[str, float]], name: str, tolerance: float
) -> None:
    assert len(ours) == len(theirs) == STEPS
    differences = [mine[name] - other[name] for mine, other in zip(ours, theirs, strict=True)]
    assert max(map(abs, differences)) <= tolerance, differences
    assert abs(sum(differences) / STEPS) <= max(tolerance / 10, 0)


def test_the_runs_learn_something(ours: list[dict[str, float]]) -> None:
    assert ours[0]["loss"] == pytest.approx(0.6931472, abs=1e-7)
    late = sum(step["loss"] for step in ours[STEPS // 2 :]) / (STEPS - STEPS // 2)
    assert 0.1 < late < 0.65
