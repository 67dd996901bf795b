"""The operation `train`: from a spec to an adapter, or a whole model, that was loaded again and found right.

Build data and model, measure or read omega, compute the reference once, train, save, check. The loop is
`deft.training.trainer`, the losses `deft.training.objective`, the files handed out `deft.adapters.folder`.
"""

import gc
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from deft.adapters.folder import Settings, check_in_fresh_process, save_adapter
from deft.adapters.tuned import save_tuned, take_state
from deft.errors import Interrupted
from deft.folders import sha256_of
from deft.models.attention import attention_of
from deft.models.files import config_hash
from deft.models.loading import causal_model
from deft.models.quantisation import quantisation_of
from deft.reports import Report
from deft.specs import Optimisation, TrainSpec, spec_hash, spec_json
from deft.starts import adapter_hash, ranked_under, start_of, warnings_of
from deft.training import checkpoints as resume
from deft.training.batches import trained_tokens
from deft.training.drift import DriftWatch, make_probe, review_of
from deft.training.history import write_events
from deft.training.omega import Calibration, measure_omega, read_omega
from deft.training.policy import lora_of
from deft.training.preparation import Prepared, exact_arithmetic, prepare
from deft.training.ranks import Ranks, present
from deft.training.recomputation import recomputes
from deft.training.reference import set_reference
from deft.training.term import DISTRIBUTION, has_term
from deft.training.trackers import require_trackers
from deft.training.trainer import AlignmentTrainer, CheckpointStore

SCHEDULES = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}


def run_train(
    spec: TrainSpec,
    *,
    inputs: Mapping[str, Path],
    out: Path,
    checkpoints: Path | None = None,
    cache: Path | None = None,
    report: Report,
) -> dict[str, Any]:
    """Train an adapter, or all weights, by *spec* and write it to *out*; return the summary.

    Args:
        spec: what to train, how.
        inputs: folders `data`, `model` and, as the spec names them, `adapter`, `scoring`, `omega_from`.
        out: an empty folder.
        checkpoints: where resume state is kept between attempts; None: nothing is kept.
        cache: where the reference's log-probabilities are kept for other runs; None: nothing is.
        report: hears phases, steps, metrics and checkpoints.

    Raises:
        InvalidInput: inputs that do not fit each other; a checkpoint of another run.
        TrainingDiverged: a loss or gradient that is not finite.
        RuntimeError, MemoryError: memory ran out, also with half the micro-batch (`operations.run` says what helps).
        Interrupted: it was asked to stop; a checkpoint of the last step has been written.
        ReviewNeeded: it drifted beyond its budget; likewise.
        ArtifactCorrupt: the adapter, loaded in a fresh process, gives other logits.
    """
    require_trackers(spec.report_to)
    with exact_arithmetic():
        summary = _train_and_save(spec, inputs=inputs, out=out, checkpoints=checkpoints, cache=cache, report=report)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # the check needs room for the base model
    if not present().is_first:
        return summary
    report.phase("check")
    summary["probe_difference"] = check_in_fresh_process(out, None if spec.lora is None else inputs["model"])
    if spec.merge:
        summary["merged_probe_difference"] = check_in_fresh_process(out, None)
    return summary


def _train_and_save(
    spec: TrainSpec,
    *,
    inputs: Mapping[str, Path],
    out: Path,
    checkpoints: Path | None,
    cache: Path | None,
    report: Report,
) -> dict[str, Any]:
    clock = _Clock()
    prepared = prepare(spec, inputs=inputs, report=report, needs_distribution=has_term(spec))
    of_start = _of_start(prepared.base_hash, inputs, report)
    clock.lap("load")
    store = _store(spec, prepared, inputs, checkpoints)
    start = None if store is None else _newest(store, prepared.objective.ranks, report)
    omega = _omega(spec, prepared, inputs, start, report)
    clock.lap("omega")
    reference = set_reference(prepared, inputs, start, cache, report)
    clock.lap("reference")
    if store is not None and omega.calibration is not None:
        store = replace(store, documents={"calibration": asdict(omega.calibration)})
    trainer = _trainer(spec, prepared, out, omega, store, report)
    report.phase("train")
    trainer.train(resume_from_checkpoint=None if start is None else str(start))
    clock.lap("train")
    if trainer.is_stopping and trainer.state.global_step < len(prepared.steps):
        raise Interrupted
    if trainer.overruns:
        raise review_of(trainer.overruns, trainer.state.global_step)
    if not trainer.ranks.is_first and not prepared.objective.is_sharded:
        return {}
    report.phase("save")
    summary = {**_summary(spec, prepared, trainer, omega, clock.laps), "reference": reference, **of_start}
    if spec.lora is None:
        return _save_whole(prepared, out, Settings(spec_json(spec), summary, inputs["model"]), trainer)
    write_events(trainer.history.points, out / "tensorboard")
    own = {**spec_json(spec), "lora": lora_of(prepared.model, spec.lora)}
    settings = Settings(spec=own, summary=summary, base_folder=inputs["model"])
    summary["adapter_sha256"] = save_adapter(prepared.model, prepared.tokenizer, out, settings)
    return summary


def _save_whole(prepared: Prepared, out: Path, settings: Settings, trainer: AlignmentTrainer) -> dict[str, Any]:
    """Write the tuned model, which the first process gathers; return the summary, of the others nothing."""
    is_first = trainer.ranks.is_first
    gathering = take_state(prepared.model, prepared.tokenizer, dtype=prepared.objective.computed_in, keeps=is_first)
    if not is_first:
        return {}
    write_events(trainer.history.points, out / "tensorboard")
    return {**settings.summary, "weights_hash": save_tuned(gathering, prepared.tokenizer, out, settings)}


def _newest(store: CheckpointStore, ranks: Ranks, report: Report) -> Path | None:
    """Return the checkpoint to go on from, as the first process finds it: it also removes damaged ones."""
    return ranks.first(resume.newest(store.root, run=store.run, report=report) if ranks.is_first else None)


@dataclass(frozen=True, slots=True)
class _Omega:
    """The weight of the term and where it comes from: `none`, `given`, `calibration`, `measured` or `checkpoint`."""

    value: float
    source: str
    calibration: Calibration | None = None


def _omega(
    spec: TrainSpec, prepared: Prepared, inputs: Mapping[str, Path], start: Path | None, report: Report
) -> _Omega:
    if spec.deft is None:
        return _Omega(0.0, "none")
    if spec.deft.omega != "auto":
        return _Omega(spec.deft.omega, "given")
    if "omega_from" in inputs:
        return _Omega(read_omega(inputs["omega_from"]), "calibration")
    if start is not None:
        return _measured(Calibration(**resume.read_document(start, "calibration")))
    return _measured(measure_omega(prepared.model, prepared.objective, prepared.steps, report=report))


def _measured(calibration: Calibration) -> _Omega:
    return _Omega(calibration.omega, "measured", calibration)


def _other(inputs: Mapping[str, Path]) -> str:
    """Return the SHA-256 over what a run takes from its inputs besides data and weights.

    That is Q_diff, the start adapter with its settings, omega, and the config.json of the base.
    """
    files = (
        inputs[name] / file
        for name, file in (
            ("data", DISTRIBUTION),
            ("scoring", DISTRIBUTION),
            ("omega_from", "omega.json"),
        )
        if name in inputs
    )
    hashes = [sha256_of(path) for path in files if path.is_file()]
    hashes += [adapter_hash(inputs["adapter"])] if "adapter" in inputs else []
    return hashlib.sha256("".join([*hashes, config_hash(inputs["model"])]).encode()).hexdigest()


def _store(
    spec: TrainSpec, prepared: Prepared, inputs: Mapping[str, Path], root: Path | None
) -> CheckpointStore | None:
    if root is None:
        return None
    run = {
        "spec": spec_hash(spec),
        "data": prepared.data_hash,
        "base": prepared.base_hash,
        "inputs": _other(inputs),
        "end token": str(prepared.objective.end_id),
    }
    return CheckpointStore(root, every=spec.optimisation.checkpoint_steps, run=run)


def _drift(spec: TrainSpec, prepared: Prepared) -> DriftWatch | None:
    """Return the probe set; call it before training, or after a checkpoint has been read, changes the model."""
    if spec.drift is None:
        return None
    probe = make_probe(
        prepared.objective,
        prepared.model,
        examples=spec.drift.examples,
        seed=spec.optimisation.seed,
        reference=prepared.as_reference,
    )
    return DriftWatch(probe, spec.drift, prepared.model)


def _trainer(
    spec: TrainSpec,
    prepared: Prepared,
    out: Path,
    omega: _Omega,
    store: CheckpointStore | None,
    report: Report,
) -> AlignmentTrainer:
    weight = next(prepared.model.parameters())
    return AlignmentTrainer(
        prepared.model,
        training_arguments(spec.optimisation, out, weight, report_to=spec.report_to, name=spec.name),
        steps=prepared.steps,
        objective=prepared.objective,
        omega=omega.value,
        report=report,
        store=store,
        epochs=spec.optimisation.epochs,
        drift=_drift(spec, prepared),
    )


def training_arguments(
    optimisation: Optimisation,
    out: Path,
    weight: torch.Tensor,
    *,
    report_to: Sequence[str] = (),
    name: str | None = None,
) -> TrainingArguments:
    """Return the Trainer's settings for a model on the device of *weight*: AdamW, nothing saved.

    *report_to* are experiment trackers, in which the run is called *name*. Mixed precision is the objective's business,
    the loss scale of float16 that of `deft.training.loss_scale`.
    """
    arguments = TrainingArguments(
        output_dir=str(out),
        num_train_epochs=1,  # an item of the dataset is an optimiser step; the plan holds all epochs
        per_device_train_batch_size=1,
        gradient_accumulation_steps=1,
        optim="adamw_torch",
        learning_rate=optimisation.learning_rate,
        weight_decay=optimisation.weight_decay,
        max_grad_norm=optimisation.max_grad_norm,
        lr_scheduler_type=SCHEDULES[optimisation.schedule],
        warmup_steps=optimisation.warmup_fraction,
        seed=optimisation.seed + present().rank,  # of dropout: the plan has its own
        use_cpu=weight.device.type == "cpu",
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",  # deft.training.trainer decides when
        report_to=list(report_to) if present().is_first else [],
        run_name=name,
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # never DataParallel
    return arguments


def _summary(
    spec: TrainSpec, prepared: Prepared, trainer: AlignmentTrainer, omega: _Omega, seconds: Mapping[str, float]
) -> dict[str, Any]:
    objective = prepared.objective
    weight = next(prepared.model.parameters())
    return {
        "method": spec.method.type,
        "examples": len(prepared.rows),
        "responses": sum(len(example.response_ids) for example in objective.examples),
        "rewards": prepared.reward_source,
        "rows_with_weight": prepared.rows_with_weight,
        "epochs": spec.optimisation.epochs,
        "steps": len(prepared.steps),
        "trained_tokens": spec.optimisation.epochs * sum(map(trained_tokens, objective.examples)),
        "omega": omega.value,
        "omega_source": omega.source,
        "calibration": None if omega.calibration is None else asdict(omega.calibration),
        "metrics": trainer.metrics,
        "drift": None if trainer.drift is None else {"start": trainer.drift.start, "limits": trainer.drift.limits},
        "layout": "shared" if objective.shares_prompts else "separate",
        "precision": {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[objective.computed_in],
        "attention": attention_of(prepared.model),
        "quantisation": quantisation_of(causal_model(prepared.model)),
        "gradient_checkpointing": recomputes(prepared.model),
        "device": str(weight.device),
        "processes": objective.ranks.size,
        "micro_batches_halved_in": objective.halved_in,
        "base_weights_hash": prepared.base_hash,
        "data_hash": prepared.data_hash,
        "seconds": dict(seconds),
    }


def _of_start(base_hash: str, inputs: Mapping[str, Path], report: Report) -> dict[str, Any]:
    """Return, for the summary, under which start the data were ranked and a warning where it is another than ours."""
    warnings = warnings_of(inputs["data"], start_of(base_hash, inputs.get("adapter")))
    for warning in warnings:
        report.note(warning)
    return {"scored_under": ranked_under(inputs["data"]), "warnings": warnings}


class _Clock:
    """Seconds between laps, by name."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        """Record the time since the last lap under *name*."""
        now = time.monotonic()
        self.laps[name] = round(now - self._last, 3)
        self._last = now
