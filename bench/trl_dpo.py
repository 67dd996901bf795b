"""TRL's DPOTrainer on the same tokenised pairs, set up fairly: no checkpointing, right dtype, its best batch size."""

import tempfile
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from transformers.trainer_callback import PrinterCallback

from bench.machine import Clock
from bench.ours import BETA, LORA, OPTIMISATION
from bench.workload import Workload
from deft.tokens import TokenizedExample
from deft.training.policy import attach_lora

if TYPE_CHECKING:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

SEED = 0


def train_trl(
    work: Workload,
    pairs: Sequence[TokenizedExample],
    clock: Clock,
    *,
    batch: int,
    precompute: bool,
) -> list[float]:
    """Train one epoch over *pairs* in file order, *batch* pairs a pass; return the loss of every optimiser step.

    With *precompute* the reference is computed before (part `reference`), else in every step (part `epoch`).
    """
    import datasets

    datasets.disable_progress_bars()
    datasets.disable_caching()
    rows = [_row(pair, work.end_id) for pair in pairs]
    model = attach_lora(work.model(), LORA, seed=SEED)
    with tempfile.TemporaryDirectory(dir=work.scratch) as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arguments = _arguments(work, folder, batch=batch, precompute=precompute)
        with clock.part("reference" if precompute else "start"):
            trainer = _tokenised_trainer()(
                model, args=arguments, train_dataset=datasets.Dataset.from_list(rows), processing_class=work.tokenizer
            )
        trainer.remove_callback(PrinterCallback)
        with clock.part("epoch"):
            trainer.train()
    return [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]


def _row(pair: TokenizedExample, end_id: int) -> dict[str, list[int]]:
    chosen, rejected = pair.response_ids
    return {"prompt_ids": pair.prompt_ids, "chosen_ids": [*chosen, end_id], "rejected_ids": [*rejected, end_id]}


def _tokenised_trainer() -> "type[DPOTrainer]":
    """Return a DPOTrainer that takes rows which are tokenised already."""
    import trl

    class Tokenised(trl.DPOTrainer):  # type: ignore[misc]
        def _prepare_dataset(self, dataset: "Dataset", *_: object, **__: object) -> "Dataset":
            return dataset

    return Tokenised


def _arguments(work: Workload, folder: str, *, batch: int, precompute: bool) -> "DPOConfig":
    import trl

    return trl.DPOConfig(
        output_dir=folder,
        beta=BETA,
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=max(1, OPTIMISATION.batch_size // batch),
        num_train_epochs=1,
        learning_rate=OPTIMISATION.learning_rate,
        weight_decay=OPTIMISATION.weight_decay,
        max_grad_norm=OPTIMISATION.max_grad_norm,
        lr_scheduler_type="linear",
        optim="adamw_torch",
        train_sampling_strategy="sequential",
        max_length=None,
        bf16=work.precision == "bf16",
        gradient_checkpointing=False,
        precompute_ref_log_probs=precompute,
        use_cpu=work.device == "cpu",
        dataloader_pin_memory=torch.cuda.is_available(),
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=SEED,
    )
