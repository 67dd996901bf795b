"""What is on record of the things that a spec names, against what the spec asks of them, as the operations would.

It reads settings, records and a column or two of a data set; it loads nothing. What has still to be made is not looked
at.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from sqlalchemy.orm import Session

from deft.adapters.targets import require_listed_targets
from deft.arms import arms, scored_rows, trained_rows
from deft.aspects import kept_apart, used_weights
from deft.data.datasets import values_in
from deft.data.prompt_sets import require_labelled_answers
from deft.data.splits import chosen_rows, row_numbers
from deft.evaluation.answered import require_answered
from deft.evaluation.trained_on import require_trained_on
from deft.models.files import CONFIG, config_hash, read_settings
from deft.models.numbers import DTYPES, numbers_named
from deft.planning.shapes import text_settings
from deft.scoring.extending import require_extendable, settings_of
from deft.scoring.rescorable import counted_in, require_same_tokenizer, require_states, require_vocabulary
from deft.selection import require_sources
from deft.specs import (
    EvaluateSpec,
    JobSpec,
    JudgeSpec,
    MeasureOmegaSpec,
    PipelineSpec,
    Rows,
    ScoreSpec,
    Selection,
    SelectSpec,
    TrainSpec,
)
from deft.starts import adapter_hash_of, require_same_base
from deft.training.term import DISTRIBUTION, distribution_in, has_term, no_distribution
from store import earlier, models
from store.artifacts import ArtifactFiles
from store.settings import Settings
from store.tables import Artifact, JobInput


@dataclass(frozen=True, slots=True)
class Records:
    """The *artifacts* that a spec names and their *folders*, by the name of the input; the hash of the model's weights.

    What has still to be made is in neither. The hash is None where it is not known, *model* (the model's folder) where
    the job loads none or a worker has still to fetch it.
    """

    artifacts: Mapping[str, Artifact]
    folders: Mapping[str, Path]
    base_hash: str | None
    model: Path | None


def check(
    session: Session,
    files: ArtifactFiles,
    settings: Settings,
    team_id: str,
    spec: JobSpec,
    inputs: Sequence[JobInput],
) -> None:
    """Refuse *spec*, a pipeline resolved, where what is on record of *inputs* shows that it cannot succeed.

    Raises:
        InvalidInput: a training with the term has no Q_diff; a quota names a source, or weights an aspect, that no row
            has, or all weights are 0; a scoring cannot be extended, or not be used with a Q_diff; a Q_diff was counted
            over other tokens than the model has; an adapter was trained on another base, or no training can start from
            it; the labels of a judge of safety are no labelled answers; an evaluation has no answers of the systems or
            sets that a judge is asked about, or of a judge of safety no labelled prompt.
    """
    records = _records(session, files, settings, team_id, getattr(spec, "model", None), inputs)
    if isinstance(spec, ScoreSpec):
        _check_score(spec, records)
    elif isinstance(spec, SelectSpec):
        _check_select(spec, records)
    elif isinstance(spec, TrainSpec | MeasureOmegaSpec):
        _check_train(spec, records)
    elif isinstance(spec, EvaluateSpec):
        _check_evaluate(spec, records)
    elif isinstance(spec, PipelineSpec):
        _check_pipeline(spec, records)
    elif isinstance(spec, JudgeSpec):
        _check_judge(spec, records)


def _records(
    session: Session,
    files: ArtifactFiles,
    settings: Settings,
    team_id: str,
    model: str | None,
    inputs: Sequence[JobInput],
) -> Records:
    made = [each for each in inputs if each.artifact_id is not None]
    artifacts = {each.name: session.get_one(Artifact, each.artifact_id) for each in made}
    folders = {name: files.folder(row) for name, row in artifacts.items()}
    if model is None:
        return Records(artifacts, folders, None, None)
    row = models.get(session, team_id, model)
    folder = models.folder_of(settings, row)
    return Records(artifacts, folders, earlier.base_hash(session, team_id, row), folder if folder.is_dir() else None)


def _check_score(spec: ScoreSpec, records: Records) -> None:
    _check_base(records)
    _check_aspects(spec.aspects, records.folders["dataset"], spec.count_rows)
    folder = records.folders.get("extends")
    if folder is not None and (folder / "scoring.json").is_file():
        require_extendable(folder, _known_settings(spec, records, str(settings_of(folder)["dtype"])))


def _known_settings(spec: ScoreSpec, records: Records, earlier_dtype: str) -> dict[str, str | None]:
    """Return what is known of how *spec* will be scored; with precision `auto` the device decides, as it did before."""
    dtype = DTYPES.get(spec.precision, earlier_dtype.rpartition("/")[2])
    known: dict[str, str | None] = {"dtype": numbers_named(dtype, spec.quantisation)}
    known["options"] = spec.tokens.model_dump_json()
    if records.base_hash is not None:
        known["base_weights_hash"] = records.base_hash
    if records.model is not None:
        known["config_hash"] = config_hash(records.model)
    if spec.adapter is None:
        known["adapter_hash"] = None
    elif "adapter" in records.artifacts:
        files: list[dict[str, Any]] = records.artifacts["adapter"].files
        known["adapter_hash"] = adapter_hash_of({each["path"]: each["sha256"] for each in files})
    return known


def _check_select(spec: SelectSpec, records: Records) -> None:
    scoring = records.folders.get("scoring")
    if scoring is not None and isinstance(spec.selection.quota, dict) and (scoring / "scores.parquet").is_file():
        scored = pq.read_table(scoring / "scores.parquet", columns=["row"])["row"].unique().to_pylist()
        _check_quota(spec.selection, scoring, scored)
    if spec.distribution is not None or spec.aspects is not None:
        _check_rescorable(scoring, scoring if spec.distribution is None else records.folders.get("distribution"))
    counted = records.artifacts.get("scoring" if spec.distribution is None else "distribution")
    if counted is not None and spec.aspects is not None and isinstance(counted.summary.get("aspects"), dict):
        used_weights(spec.aspects, counted.summary["aspects"])


def _check_rescorable(scoring: Path | None, source: Path | None) -> None:
    """Refuse to score *scoring*'s responses by the Q_diff of *source*; None, or no summary: it has still to be made."""
    made = [
        folder if folder is not None and (folder / "scoring.json").is_file() else None for folder in (scoring, source)
    ]
    for folder, pointer in zip(made, ("/scoring", "/distribution"), strict=True):
        if folder is not None:
            require_states(folder, pointer, needs_hidden=pointer == "/scoring")
    if made[0] is not None and made[1] is not None:
        require_same_tokenizer(counted_in(made[0]), counted_in(made[1]))


def _check_train(spec: TrainSpec | MeasureOmegaSpec, records: Records) -> None:
    is_dataset = "data" in records.artifacts and records.artifacts["data"].kind == "dataset"
    if is_dataset and spec.scoring is None and has_term(spec) and distribution_in(records.folders) is None:
        raise no_distribution()
    if has_term(spec) and "data" in records.folders:
        _check_vocabulary(distribution_in(records.folders), records)
    _check_base(records)
    _check_targets(records)


def _check_evaluate(spec: EvaluateSpec, records: Records) -> None:
    for index, system in enumerate(spec.systems):
        folder = records.folders.get(f"adapter.{index}")
        if folder is not None and records.base_hash is not None:
            require_trained_on(index, system, folder, records.base_hash)
    if "r_d_accuracy" in spec.options.metrics and "scoring" in records.folders:
        path = records.folders["scoring"] / DISTRIBUTION
        _check_vocabulary(path if path.is_file() else None, records)


def _check_judge(spec: JudgeSpec, records: Records) -> None:
    if "evaluation" in records.folders:
        require_answered(records.folders["evaluation"], spec)
    if spec.mode == "safety" and "labels" in records.folders:
        require_labelled_answers(records.folders["labels"])


def _check_vocabulary(distribution: Path | None, records: Records) -> None:
    """Refuse a Q_diff over other tokens than the model has; which tokenizer the model has is seen when it is loaded."""
    if distribution is None or records.model is None:
        return
    size = text_settings(read_settings(records.model, CONFIG)).get("vocab_size")
    if isinstance(size, int):
        is_scoring = distribution.parent == records.folders.get("scoring")
        require_vocabulary(counted_in(distribution.parent), size, "/scoring" if is_scoring else "/data")


def _check_pipeline(spec: PipelineSpec, records: Records) -> None:
    _check_base(records)
    _check_targets(records)
    dataset = records.folders["dataset"]
    _check_aspects(spec.aspects, dataset, trained_rows(spec))
    if isinstance(spec.selection.quota, dict) and any(arm.selection is not None for arm in arms(spec)):
        _check_quota(spec.selection, dataset, chosen_rows(dataset, scored_rows(spec)))


def _check_base(records: Records) -> None:
    if "adapter" in records.folders and records.base_hash is not None:
        require_same_base(records.folders["adapter"], records.base_hash)


def _check_targets(records: Records) -> None:
    if "adapter" in records.folders:
        require_listed_targets(records.folders["adapter"])


def _check_quota(selection: Selection, folder: Path, rows: Sequence[int]) -> None:
    if isinstance(selection.quota, dict):
        require_sources(selection.quota, values_in(folder, "source", rows))


def _check_aspects(weights: Mapping[str, float] | None, folder: Path, rows: Rows) -> None:
    if weights is not None:
        is_whole = rows.split == "all" and rows.sample is None
        counted = row_numbers(folder) if is_whole else chosen_rows(folder, rows)
        used_weights(weights, kept_apart(values_in(folder, "aspect", counted)))
