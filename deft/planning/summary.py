"""A plan as the document that users see: what the planner found, its times, what can be detected, and remarks."""

from collections.abc import Sequence

from deft.arms import arms
from deft.planning.advice import memory_remarks
from deft.planning.documents import DataFacts, Detectable, Plan, Queue, Remark, Speed
from deft.planning.lengths import Sample
from deft.planning.plan import Facts, Planner
from deft.planning.power import detectable, share_standard_error
from deft.planning.speed import DEVICES, Device, speed
from deft.specs import EvaluationOptions, JobSpec, PipelineSpec, ScoreSpec, spec_hash, spec_json

DISAGREEMENT, MOSTLY_AGREEING = 0.5, 0.1
"""Assumed shares of prompts that two arms judge otherwise: coin tosses, and models that hardly differ."""

COARSE = 0.2
"""A smallest detectable difference above which an evaluation is called too small."""


def plan_document(
    spec: JobSpec, planner: Planner, queue: Queue, devices: Sequence[Device] = (), remarks: Sequence[Remark] = ()
) -> Plan:
    """Return the plan of the resolved *spec*; *devices* are known better than by assumption, *remarks* come first."""
    facts = planner.facts
    sample = _sample(facts)
    can_see = _detectable(spec, facts)
    return Plan(
        kind=spec.kind,
        spec=spec_json(spec),
        spec_hash=spec_hash(spec),
        arms=[arm.system for arm in arms(spec)] if isinstance(spec, PipelineSpec) else [],
        model=None if planner.model is None else planner.model.facts(planner.lora, is_full=planner.is_full),
        data=_data(spec, facts),
        lengths=None if sample is None else sample.lengths(),
        work=[cost.work for cost in planner.costs],
        memory=list(planner.memory.values()),
        cpu_training_bytes=planner.cpu_training_bytes,
        speed=_speeds(planner, devices),
        queue=queue,
        detectable=can_see,
        remarks=[
            *remarks,
            *_of_extension(spec),
            *_of_model(spec, planner),
            *_of_quantisation(spec),
            *_of_reward_models(planner),
            *_of_selection(facts),
            *_of_lengths(sample),
            *memory_remarks(spec, list(planner.memory.values())),
            *_of_power(can_see),
        ],
    )


def _sample(facts: Facts) -> Sample | None:
    """Return the sample that the costs come from: of the rows that are scored, else trained on, else held out."""
    found = facts.scored or facts.trained or facts.held_out
    return None if found is None else found.sample


def _options(spec: JobSpec) -> EvaluationOptions | None:
    return spec.evaluation if isinstance(spec, PipelineSpec) else getattr(spec, "options", None)


def _data(spec: JobSpec, facts: Facts) -> DataFacts:
    options, held_out = _options(spec), facts.held_out
    pairs = None if held_out is None or options is None else _pairs(held_out.rows, options)
    prompts = None if held_out is None else held_out.prompts
    return DataFacts(
        rows_counted=facts.counted,
        rows_scored=None if facts.scored is None else facts.scored.rows,
        rows_kept=facts.kept,
        keep_reason=facts.keep_reason,
        rows_trained=None if facts.trained is None or spec.kind == "pipeline" else facts.trained.rows,
        rows_held_out=pairs,
        prompts_held_out=None if prompts is None or pairs is None else min(prompts, pairs),
        prompts_answered=None if prompts is None or options is None else min(options.prompts, prompts),
    )


def _pairs(rows: int | None, options: EvaluationOptions) -> int | None:
    return None if rows is None else min(rows, options.pairs or rows)


def _speeds(planner: Planner, devices: Sequence[Device]) -> list[Speed]:
    if planner.model is None or not planner.memory:
        return []
    return [speed(device, planner.costs, planner.model.parameters or 0) for device in (*devices, *DEVICES)]


def _detectable(spec: JobSpec, facts: Facts) -> Detectable | None:
    options, held_out = _options(spec), facts.held_out
    if options is None or held_out is None or held_out.prompts is None or held_out.rows is None:
        return None
    if "preference_accuracy" not in options.metrics:
        return None
    prompts = min(held_out.prompts, options.pairs or held_out.rows)
    return Detectable(
        basis="assumed",
        prompts=prompts,
        difference=round(detectable(share_standard_error(DISAGREEMENT, prompts)), 4),
        difference_if_arms_mostly_agree=round(detectable(share_standard_error(MOSTLY_AGREEING, prompts)), 4),
    )


def _of_extension(spec: JobSpec) -> list[Remark]:
    if not isinstance(spec, ScoreSpec) or spec.extends is None:
        return []
    message = "rows whose states are in the scoring that is extended are counted here, and will not be scored again"
    return [Remark(code="extension_not_counted", message=message, pointer="/extends")]


def _of_model(spec: JobSpec, planner: Planner) -> list[Remark]:
    model = planner.model
    if model is None:
        message = "the model's files are not on this machine yet: no memory, no time, tokens bounded by their caps"
        is_named = hasattr(spec, "model")
        return [Remark(code="model_not_here", message=message, pointer="/model")] if is_named else []
    found = []
    if model.shape is None:
        family = str(model.config.get("model_type"))[:80]
        message = f"the layers of the family {family} are not known to the planner: no memory, time or LoRA parameters"
        found.append(Remark(code="family_not_known", message=message, pointer="/model"))
    if model.is_quantised:
        message = "the weights on disk are quantised: whether they can be used is seen when they are loaded"
        found.append(Remark(code="quantised_weights", message=message, pointer="/model"))
    if model.tokenizer is None:
        message = "the model has no tokenizer.json: tokens are bounded by the caps of `tokens`, not counted"
        found.append(Remark(code="tokens_not_counted", message=message, pointer="/model"))
    return found


def _of_quantisation(spec: JobSpec) -> list[Remark]:
    optimisation = getattr(spec, "optimisation", None)
    if getattr(optimisation or spec, "quantisation", "none") == "none":
        return []
    message = "an NF4 base needs bitsandbytes on the worker (the extra `nf4`): that is seen when the job starts"
    pointer = "/optimisation/quantisation" if optimisation else "/quantisation"
    return [Remark(code="needs_bitsandbytes", message=message, pointer=pointer)]


def _of_reward_models(planner: Planner) -> list[Remark]:
    return [
        Remark(
            code="reward_model_not_counted",
            message=f"what the reward model {name} computes is left out: its config.json is not here, or its family is "
            "not known to the planner",
        )
        for name in dict.fromkeys(planner.uncounted)
    ]


def _of_lengths(sample: Sample | None) -> list[Remark]:
    if sample is None or sample.basis != "counted":
        return []
    lengths, found = sample.lengths(), []
    if lengths.share_of_prompts_cut:
        message = (
            f"{lengths.share_of_prompts_cut:.1%} of the sampled prompts are longer than max_prompt_tokens: cut left"
        )
        found.append(Remark(code="prompts_cut", message=message, pointer="/tokens/max_prompt_tokens"))
    if lengths.share_of_responses_cut:
        share = f"{lengths.share_of_responses_cut:.1%}"
        message = f"{share} of the sampled responses do not fit beside their prompts: cut right, they do not end"
        found.append(Remark(code="responses_cut", message=message, pointer="/tokens/max_total_tokens"))
    if lengths.is_template_approximate:
        message = "the chat template is not run here: prompts are counted with about four tokens a message for it"
        found.append(Remark(code="template_approximate", message=message, pointer="/tokens/template"))
    return found


def _of_selection(facts: Facts) -> list[Remark]:
    scored = None if facts.scored is None else facts.scored.rows
    if scored is None or facts.kept != scored:
        return []
    message = f"all {scored:,} scored rows are kept, so that arms that differ by selection alone train on the same rows"
    return [Remark(code="keeps_everything", message=message, pointer="/selection/keep")]


def _of_power(can_see: Detectable | None) -> list[Remark]:
    if can_see is None or can_see.difference <= COARSE:
        return []
    message = (
        f"with {can_see.prompts} held-out prompts only differences above about {can_see.difference:.2f} in preference "
        "accuracy can be seen"
    )
    return [Remark(code="evaluation_too_small", message=message)]
