"""docs/library.md's own trainer, a subclass of unmodified TRL 1.16, against the trainer of the service."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

import deft
from deft.reward import direction_of, head_of
from deft.specs import DpoMethod, Lora, Optimisation
from deft.tokenizer import tokenizer_hash
from deft.tokens import TokenizedExample
from deft.training.objective import Objective, reference_logps
from deft.training.policy import attach_lora
from deft.training.run import training_arguments
from deft.training.trainer import AlignmentTrainer
from tests.deft.small_runs import Record
from tests.models import byte_tokenizer, save_tiny_llama, tiny_llama

STEPS, BATCH, RATE, BETA, OMEGA = 20, 4, 1e-2, 0.1, 0.5
ROWS = [
    {"prompt": f"question {i}?", "chosen": " good" * (1 + i % 4) + str(i), "rejected": " bad" * (1 + i % 3)}
    for i in range(STEPS * BATCH)
]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def policy() -> Any:
    return attach_lora(tiny_llama(0), Lora(r=4), seed=0)


def weights(model: Any) -> dict[str, torch.Tensor]:
    """Return the trained adapter; TRL keeps a copy of the given one, `ref`, as its reference."""
    return {name: value.detach().clone() for name, value in model.named_parameters() if ".default." in name}


def trained_by_the_page(out: Path, omega: float) -> dict[str, torch.Tensor]:
    page = (Path(__file__).parents[2] / "docs" / "library.md").read_text()
    block = next(code for code in page.split("```") if code.startswith("python") and "class DeftDPOTrainer" in code)
    names: dict[str, Any] = {}
    exec(compile(block.removeprefix("python"), "library.md", "exec"), names)  # noqa: S102 - our own page
    settings = DPOConfig(
        str(out), beta=BETA, per_device_train_batch_size=BATCH, learning_rate=RATE, num_train_epochs=1, max_length=None,
        train_sampling_strategy="sequential", optim="adamw_torch", bf16=False, gradient_checkpointing=False,
        use_cpu=True, save_strategy="no", report_to=[], disable_tqdm=True,
    )  # fmt: skip
    tokenizer, pairs = byte_tokenizer(has_chat_template=False), Dataset.from_list(ROWS)
    trainer = names["DeftDPOTrainer"](
        policy(), args=settings, train_dataset=pairs, processing_class=tokenizer,
        distribution=deft.count_distribution(pairs, tokenizer), omega=omega,
    )  # fmt: skip
    trainer.train()
    return weights(trainer.model)


def trained_by_the_service(out: Path) -> dict[str, torch.Tensor]:
    tokenizer = byte_tokenizer(has_chat_template=False)
    ids = [{key: tokenizer(text, add_special_tokens=False)["input_ids"] for key, text in row.items()} for row in ROWS]
    tokenized = [TokenizedExample(row["prompt"], [row["chosen"], row["rejected"]], [False, False]) for row in ids]
    model = policy()
    head = head_of(model)
    direction = direction_of(head, deft.count_distribution(ROWS, tokenizer).q_diff)
    objective = Objective(DpoMethod(beta=BETA), tokenized, tokenizer.eos_token_id, True, 1, head, direction)
    steps = [list(range(start, start + BATCH)) for start in range(0, len(ROWS), BATCH)]
    objective.reference = reference_logps(
        objective, model, steps, reference=model.disable_adapter, after_each=lambda _: None
    )
    arguments = training_arguments(Optimisation(learning_rate=RATE, batch_size=BATCH), out, next(model.parameters()))
    trainer = AlignmentTrainer(
        model, arguments, steps=steps, objective=objective, omega=OMEGA, report=Record(), store=None
    )
    trainer.train()
    return weights(model)


def difference(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    assert ours.keys() == theirs.keys()
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)


def test_the_pages_trainer_ends_where_the_services_does(tmp_path: Path) -> None:
    service = trained_by_the_service(tmp_path / "service")
    assert difference(trained_by_the_page(tmp_path / "page", OMEGA), service) < 1e-4
    assert difference(trained_by_the_page(tmp_path / "plain", 0.0), service) > 1e-3


def test_a_distribution_is_taken_before_and_after_a_stock_training(tmp_path: Path) -> None:
    folder, pairs = save_tiny_llama(tmp_path / "model", has_chat_template=False), Dataset.from_list(ROWS)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    tokenizer.pad_token = None
    before, counted = tokenizer_hash(tokenizer), deft.count_distribution(pairs, tokenizer)
    settings = DPOConfig(str(tmp_path / "out"), use_cpu=True, bf16=False, max_steps=1, save_strategy="no", report_to=[])
    DPOTrainer(model, args=settings, train_dataset=pairs, processing_class=tokenizer).train()
    assert tokenizer.pad_token == tokenizer.eos_token, "the trainer has set it"
    assert tokenizer_hash(tokenizer) == before
    tokenizer.save_pretrained(tmp_path / "saved")
    assert deft.score(model, AutoTokenizer.from_pretrained(tmp_path / "saved"), pairs, counted)
