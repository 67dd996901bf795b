"""What is looked at before a job is stored, and what a plan is made from: the spec against its model and its rows.

`POST /v1/jobs` and `POST /v1/plans` both come through here, so that a plan promises nothing that a job is then refused.
It reads files; it comes before the transaction that stores, and stores nothing itself.
"""

from typing import NamedTuple

from sqlalchemy.orm import Session

from deft.endpoints import no_endpoint
from deft.planning import equal_cost
from deft.planning.documents import Plan, Remark
from deft.planning.lengths import capped
from deft.planning.plan import Planner
from deft.planning.source import DataSource, Examples, ModelSource, open_model
from deft.planning.speed import given
from deft.planning.summary import plan_document
from deft.specs import JobSpec, PipelineSpec, ScoreSpec, SelectSpec, TokenOptions, endpoint_named, spec_json
from store import evaluations, jobs, models, named_models, on_record, queue_wait, recalls
from store.artifacts import ArtifactFiles
from store.earlier import last_scoring, noise_in, pace_of
from store.expansion import Resolved, resolve
from store.settings import Settings
from store.tables import Artifact, Job, JobInput


class Prepared(NamedTuple):
    """A spec that has been looked at: *resolved* if it is a pipeline, and the planner that has walked over it."""

    spec: JobSpec
    resolved: Resolved | None
    planner: Planner

    @property
    def rows_scored(self) -> int | None:
        """How many rows are scored; None: nothing is, or it is not known."""
        scored = self.planner.facts.scored
        return None if scored is None else scored.rows


def prepare(
    session: Session, files: ArtifactFiles, settings: Settings, team_id: str, spec: JobSpec, *, has_weights: bool
) -> Prepared:
    """Look at everything that can be known of *spec* without torch; *has_weights*: read the weights' headers too.

    Raises:
        NotFound: the model, an artifact or a job that the spec names is not there for this team.
        InvalidInput: what is named has another kind or has failed; no row is left; a row does not become tokens; the
            model is no causal language model or has an unknown head; its tokenizer, its context or its modules do not
            fit what is asked; two systems are one adapter; what is on record of an input shows that the job cannot
            succeed (`store.on_record`).
        Conflict: `adapter_recalled`: it would start from a recalled adapter.
    """
    _require_endpoint(settings, spec)
    resolved = resolve(session, files, team_id, spec) if isinstance(spec, PipelineSpec) else None
    own = spec if resolved is None else resolved.spec
    inputs = jobs.check(session, team_id, own)
    recalls.refuse_as_start(session, inputs)
    evaluations.require_each_adapter_once(inputs)
    named_models.check_heads(session, settings, team_id, own)
    named_models.check_apart(session, files, settings, team_id, own, inputs)
    planner = Planner(_model(session, settings, team_id, own, has_weights=has_weights), {})
    planner.reward_models = named_models.reward_model_configs(session, files, settings, team_id, own, inputs)
    _learn(session, files, team_id, inputs, planner, getattr(own, "tokens", TokenOptions()))
    if resolved is not None and isinstance(own, PipelineSpec):
        own = equal_cost.settled(own, planner)
        more = {} if own.equal_cost_count is None else {"equal_cost_count": own.equal_cost_count}
        resolved = Resolved(own, resolved.summary | more)
    planner.plan(own)
    on_record.check(session, files, settings, team_id, own, inputs)
    if resolved is not None:
        planner.facts.keep_reason = resolved.summary["keep_reason"]
    return Prepared(own, resolved, planner)


def plan(
    session: Session,
    files: ArtifactFiles,
    settings: Settings,
    team_id: str,
    spec: JobSpec,
    *,
    flops_per_second: float | None = None,
) -> Plan:
    """Return the plan of *spec*; *flops_per_second* is the caller's own knowledge of the device.

    Raises:
        NotFound, InvalidInput, Conflict: as `prepare`.
    """
    prepared = prepare(session, files, settings, team_id, spec, has_weights=True)
    known = [] if flops_per_second is None else [given(flops_per_second)]
    remarks: list[Remark] = []
    model = prepared.planner.model
    if model is not None:
        model_id = models.get(session, team_id, getattr(spec, "model", "")).id
        own = None if model.shape is None else pace_of(last_scoring(session, team_id, model_id), model.shape)
        known += [] if own is None else [own]
        if isinstance(spec, ScoreSpec | PipelineSpec):
            remarks = noise_in(last_scoring(session, team_id, model_id, spec.dataset))
    queue = queue_wait.expected(session, jobs.resource_class(prepared.spec.kind) or "gpu")
    return plan_document(prepared.spec, prepared.planner, queue, known, remarks)


def _require_endpoint(settings: Settings, spec: JobSpec) -> None:
    """Refuse the name of an endpoint that is none of ours; where we have none, only the workers know."""
    named = endpoint_named(spec_json(spec))
    if named is not None and settings.endpoints and named not in settings.endpoints:
        raise no_endpoint(named, "/judge/endpoint" if spec.kind == "judge" else "/options/server/endpoint")


def _model(
    session: Session, settings: Settings, team_id: str, spec: JobSpec, *, has_weights: bool
) -> ModelSource | None:
    """Open the model's folder; None: the job loads none, or a worker has still to fetch it from the Hub."""
    named = getattr(spec, "model", None)
    if named is None:
        return None
    row = models.get(session, team_id, named)
    folder = models.folder_of(settings, row)
    return open_model(row.name, folder, has_weights=has_weights) if folder.is_dir() else None


def _learn(
    session: Session,
    files: ArtifactFiles,
    team_id: str,
    inputs: list[JobInput],
    planner: Planner,
    options: TokenOptions,
) -> None:
    """Tell *planner* what stands behind *inputs*, also where that comes out of a job that is still to run."""
    for each in inputs:
        if each.artifact_id is not None:
            _learn_artifact(session, files, planner, each, options)
        elif each.input_job_id is not None and each.reference not in planner.outputs:
            ahead = jobs.spec_of(session.get_one(Job, each.input_job_id))
            if isinstance(ahead, ScoreSpec | SelectSpec):
                _learn(session, files, team_id, jobs.check(session, team_id, ahead), planner, options)
                planner.learn(each.reference, ahead)


def _learn_artifact(
    session: Session, files: ArtifactFiles, planner: Planner, named: JobInput, options: TokenOptions
) -> None:
    row = session.get_one(Artifact, named.artifact_id)
    folder = files.folder(row)
    if row.kind == "scoring" and isinstance(row.summary.get("rows_scored"), int):
        planner.outputs[named.reference] = Examples(row.summary["rows_scored"], capped(options))
    if row.kind == "prompt_set":
        turns = row.summary.get("counts", {}).get("turns", {})
        planner.outputs[named.reference] = Examples(sum(int(n) * of for n, of in turns.items()), capped(options))
    if row.kind in ("dataset", "subset") and (folder / "examples.parquet").is_file():
        tokenizer = None if planner.model is None else planner.model.tokenizer
        planner.data[named.reference] = DataSource(
            folder, tokenizer, options, is_whole=row.kind == "subset", pointer=named.pointer
        )
