"""What a report of a pipeline holds, gathered from its rows and from the files of what its jobs made. No HTML, no HTTP.

What is not there yet, in a pipeline that still runs or failed half-way, is null: a report may be asked for at any time.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy.orm import Session

from deft.arms import arms
from deft.errors import ArtifactCorrupt, Finding, NotFound
from deft.reporting.contrasts import contrasts
from deft.reporting.cost import cost_quality
from deft.reporting.curves import training_curve
from deft.reporting.rewards import reward_histogram
from deft.specs import PipelineSpec
from deft.studies.results import Results
from store import artifacts, jobs, judgements, judgings, pipelines, studies
from store.artifacts import ArtifactFiles
from store.finite import finite
from store.study_tables import Study
from store.tables import Artifact, Job

Json = dict[str, Any]
JUDGING = (
    *("sentence", "judge", "mode", "against", "items", "equal_answers"),
    *("asked", "kept", "refused", "retries", "parse_failures", "prompt_tokens", "completion_tokens"),
    *("position_bias", "consistency", "agreement", "may_decide", "may_not_decide_because", "settings"),
)
"""What the report takes over from judging.json beside its results."""


class Made:
    """The child jobs of one pipeline by name, and what they made."""

    def __init__(self, session: Session, files: ArtifactFiles, job: Job) -> None:
        self.session, self.files, self.job = session, files, job
        self.children = {child.name or child.id: child for child in pipelines.children_of(session, job.id)}

    def spec(self) -> PipelineSpec:
        """Return the pipeline's spec, resolved."""
        return PipelineSpec.model_validate(self.job.spec)

    def artifact(self, name: str) -> Artifact | None:
        """Return what the child *name* made; None: there is no such child, or nothing yet."""
        child = self.children.get(name)
        if child is None or child.artifact_id is None:
            return None
        return artifacts.get(self.session, self.job.team_id, child.artifact_id)

    def judgings(self) -> Sequence[Artifact]:
        """Return the judgings of the pipeline's evaluation so far, whoever posted them and when, oldest first."""
        made = self.artifact("evaluate")
        return [] if made is None else judgings.of_evaluation(self.session, self.job.team_id, made.id)

    def studies(self) -> Sequence[Study]:
        """Return the closed studies of the pipeline's answers, oldest first; who looks early sees nothing."""
        made = self.artifact("evaluate")
        return [] if made is None else studies.closed_of(self.session, self.job.team_id, made.id)

    def json(self, name: str, file: str) -> Any:  # noqa: ANN401 -- JSON
        """Return the JSON *file* of what the child *name* made; None where there is none.

        Raises:
            ArtifactCorrupt: the file is in the manifest and cannot be read.
        """
        made = self.artifact(name)
        return None if made is None else self.file(made, file)

    def file(self, made: Artifact, file: str) -> Any:  # noqa: ANN401 -- JSON
        """Return the JSON *file* of an artifact; None where it has none.

        Raises:
            ArtifactCorrupt: the file is in the manifest and cannot be read.
        """
        if file not in {entry["path"] for entry in made.files}:
            return None
        try:
            return finite(json.loads((self.files.folder(made) / file).read_text(encoding="utf-8")))
        except (OSError, ValueError):
            raise ArtifactCorrupt(f"{file} of {made.id} cannot be read.") from None


def made_by(session: Session, files: ArtifactFiles, team_id: str, job_id: str) -> Made:
    """Return what the team's pipeline made so far.

    Raises:
        NotFound: the team has no such job, or it is no pipeline.
    """
    job = jobs.get(session, team_id, job_id)
    if job.kind != "pipeline":
        finding = Finding(
            "no_report", job.kind, "a job of kind pipeline", "Ask for the report of a pipeline.", pointer=""
        )
        raise NotFound("Only a pipeline has a report.", code="no_report", findings=[finding])
    return Made(session, files, job)


def report(made: Made) -> Json:
    """Return everything that the report shows, as JSON.

    Raises:
        ArtifactCorrupt: a file that an artifact has cannot be read.
    """
    job = made.job
    comparison = made.json("evaluate", "comparison.json")
    found = {
        "job": _facts(job) | {"id": job.id, "name": job.name, "summary": job.summary},
        "comparison": comparison,
        "slices": _slices(made),
        "cost_quality": _cost(made, comparison),
        "rewards": _rewards(made),
        "discrepancy": made.json("score", "discrepancy.json"),
        "training": _training(made),
        "contrasts": _contrasts(made),
        "judgings": [judging_of(made, row) for row in made.judgings()],
        "studies": [_study(study, judgements.results_of(made.session, study)) for study in made.studies()],
        "lineage": [_line(made, name, child) for name, child in made.children.items()],
        "settings": (made.json("evaluate", "evaluation.json") or {}).get("settings"),
        "spec": job.spec,
    }
    return dict(finite(found))


def _facts(job: Job) -> Json:
    times = {name: getattr(job, name) for name in ("created_at", "started_at", "finished_at")}
    told = {name: None if time is None else time.isoformat() for name, time in times.items()}
    return {"kind": job.kind, "status": job.status, "spec_hash": job.spec_hash, **told, "failure": job.failure}


def _slices(made: Made) -> list[Json]:
    """Return the numbers of parts of what was answered: sources, categories; of these also what judges of safety say.

    `judging_id` is null where the evaluation itself says so.
    """
    found: list[tuple[str | None, Json]] = [(None, row) for row in made.json("evaluate", "metrics.json") or []]
    for judging in made.judgings():
        told = made.file(judging, "judging.json") or {}
        found += [(judging.id, row) for row in told.get("results") or [] if told.get("mode") == "safety"]
    fields = ("metric", "slice", "system", "arm", "value", "low", "high", "n", "is_trained_on")
    return [
        {name: row.get(name) for name in fields} | {"judging_id": judging_id}
        for judging_id, row in found
        if row.get("slice", "all") != "all"
    ]


def judging_of(made: Made, row: Artifact) -> Json:
    """Return what a judge said of the pipeline's answers, at which cost, and how far to trust it."""
    told = made.file(row, "judging.json") or {}
    found = {name: told.get(name) for name in JUDGING}
    results = [each for each in told.get("results") or [] if each.get("slice", "all") == "all"]
    return {"id": row.id, "created_at": row.created_at.isoformat(), **found, "results": results}


def _study(study: Study, found: Results) -> Json:
    """Return what a closed study of the pipeline's answers found."""
    times = {"created_at": study.created_at.isoformat(), "closed_at": study.closed_at and study.closed_at.isoformat()}
    told = {
        "systems": found.systems,
        "pairs": found.pairs,
        "judged_pairs": found.judged_pairs,
        "sentence": found.sentence,
    }
    told |= {"win_rate": asdict(found.win_rate), "agreement": found.agreement.alpha}
    counted = sum(not rater.is_left_out for rater in found.raters)
    return {"id": study.id, "name": study.name, **times, **told, "raters": counted}


def seconds_of(session: Session, job: Job) -> float | None:
    """Return the seconds from claim to end of the jobs that make *job*, added up; None until all have ended."""
    leaves = pipelines.leaves(session, job)
    if any(leaf.started_at is None or leaf.finished_at is None for leaf in leaves):
        return None
    spans = (leaf.finished_at - leaf.started_at for leaf in leaves if leaf.finished_at and leaf.started_at)
    return sum(span.total_seconds() for span in spans)


def _cost(made: Made, comparison: Json | None) -> Json | None:
    if comparison is None:
        return None
    known = {name: seconds_of(made.session, child) for name, child in made.children.items()}
    seconds = {name: value for name, value in known.items() if value is not None}
    counting = ((made.json("score", "scoring.json") or {}).get("seconds") or {}).get("count")
    return cost_quality(made.spec(), comparison["table"], seconds, counting)


def _rewards(made: Made) -> Json | None:
    """Return the histogram of what the pipeline's own selection ranked by."""
    name = f"select:{made.spec().selection.end}"
    subset = made.artifact(name)
    return None if subset is None else reward_histogram(made.files.folder(subset), subset.summary)


def _training(made: Made) -> list[Json]:
    """Return the curves of every training, the SFT stage first."""
    found = []
    for name, child in made.children.items():
        if child.kind == "train":
            points = [(point.step, point.values) for point in jobs.metrics(made.session, child.team_id, child.id)]
            run = name.removeprefix("train:")
            found.append({"run": run, "job_id": child.id, "status": child.status, "series": training_curve(points)})
    return found


def _contrasts(made: Made) -> Json | None:
    evaluation = made.artifact("evaluate")
    if evaluation is None or "pairs.parquet" not in {entry["path"] for entry in evaluation.files}:
        return None
    spec = made.spec()
    dataset = artifacts.get(made.session, made.job.team_id, spec.evaluation_dataset or spec.dataset, "dataset")
    arm_of = {arm.system: arm.name for arm in arms(spec)}
    examples = made.files.folder(dataset) / "examples.parquet"
    return contrasts(made.files.folder(evaluation) / "pairs.parquet", arm_of, examples if examples.exists() else None)


def _line(made: Made, name: str, child: Job) -> Json:
    """Return where one artifact came from: its job, what went in, what came out."""
    inputs = jobs.inputs(made.session, child.team_id, child.id)
    output = made.artifact(name)
    return {
        "name": name,
        "job_id": child.id,
        **_facts(child),
        "seconds": seconds_of(made.session, child),
        "inputs": [{"name": each.name, "artifact_id": each.artifact_id} for each in inputs],
        "artifact": None if output is None else {"id": output.id, "kind": output.kind, "sha256": output.sha256},
    }
