"""The arms of a pipeline: which child jobs it comes to, and in what each arm differs from the others. Torch-free, pure.

The 2 x 2 of {selected, random} x {term, no term} tells what the selection did and what the reward term did; the other
arms are controls. Every arm differs from `deft`, or from `no_reward_term`, in one field of its resolved `Arm`.
A start, an adapter that is given or that an SFT stage makes, is common to the scoring, to omega and to every arm.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

from deft.specs import (
    ApartFrom,
    ArmName,
    CheckDataSpec,
    EvaluateSpec,
    MeasureOmegaSpec,
    OperationSpec,
    PipelineSpec,
    RewardTerm,
    Rows,
    ScoreSpec,
    Selection,
    SelectSpec,
    SftMethod,
    SftStage,
    System,
    TrainSpec,
)

Submit = Callable[[str, OperationSpec], str]
"""Creates the child job of that name and returns its id, which later specs then refer to."""

START = "start"
"""Name of the adapter that every arm starts from, as a system of the evaluation."""

FULL_ARM_LIMIT = 20_000
"""Examples up to which training on everything is one of the default arms."""


EQUAL_COST: ArmName = "random_equal_cost"
"""As many random rows as what `deft` costs with its scoring would pay for."""


class Arm(NamedTuple):
    """One variant of a pipeline, resolved: what it trains on and whether the loss has the reward term."""

    name: ArmName
    draw: int
    selection: Selection | None
    """None: everything that was scored."""
    has_term: bool

    @property
    def select_name(self) -> str | None:
        """The name of the child job that makes its subset."""
        if self.selection is None:
            return None
        return f"select:{self.name}" if self.name == EQUAL_COST else select_name(self.selection)

    @property
    def system(self) -> str:
        """The name of this draw in tables: the arm's own, numbered from the second draw on."""
        return self.name if self.draw == 1 else f"{self.name}-{self.draw}"


def arms(spec: PipelineSpec) -> list[Arm]:
    """Return the arms of *spec* in the order asked for, one entry a draw."""
    return [arm for name in spec.arms for arm in _draws(spec, name)]


def _draws(spec: PipelineSpec, name: ArmName) -> list[Arm]:
    if name == "full":
        return [Arm(name, 1, None, has_term=False)]
    has_term = name not in ("no_reward_term", "random", EQUAL_COST)
    draws = spec.random_draws if name in ("random", "random_with_term") else 1
    return [Arm(name, draw, _selection(spec, name, draw), has_term) for draw in range(1, draws + 1)]


def _selection(spec: PipelineSpec, name: ArmName, draw: int) -> Selection:
    asked = spec.selection
    if name in ("random", "random_with_term"):
        return asked.model_copy(update={"end": "random", "seed": asked.seed + draw - 1})
    if name == EQUAL_COST:
        count = spec.equal_cost_count or asked.count
        return asked.model_copy(update={"end": "random", "count": count})
    if name == "length":
        return asked.model_copy(update={"end": "length"})
    if name == "opposite":
        other: Literal["lowest", "highest"] = "highest" if asked.end == "lowest" else "lowest"
        return asked.model_copy(update={"end": other})
    return asked


def scored_rows(spec: PipelineSpec) -> Rows:
    """Return the rows that are scored, which all arms select from."""
    return Rows(split="train", fractions=spec.split, sample=spec.score_sample, seed=spec.seed)


def held_out_rows(spec: PipelineSpec) -> Rows:
    """Return the rows that the evaluation sees and nothing else does."""
    if spec.evaluation_dataset is not None:
        return Rows(split="all", seed=spec.seed)
    return Rows(split="evaluation", fractions=spec.split, seed=spec.seed)


def trained_rows(spec: PipelineSpec) -> Rows:
    """Return the rows that anything is learnt from: Q_diff is counted on all of them, also where a sample is scored."""
    return Rows(split="train", fractions=spec.split)


def sft_rows(spec: PipelineSpec, stage: SftStage) -> Rows:
    """Return the rows that the SFT *stage* trains on."""
    return Rows(split="train", fractions=spec.split, sample=stage.sample, seed=spec.seed)


def submit_children(spec: PipelineSpec, submit: Submit) -> None:
    """Submit the child jobs of *spec* in an order in which every input is submitted before its users."""
    submit("check_data", _check_data(spec))
    start = spec.adapter if spec.sft is None else submit("sft", _sft(spec, spec.sft))
    scoring = submit("score", _score(spec, start))
    subsets: dict[str, str] = {}

    def subset(name: str, selection: Selection) -> str:
        if name not in subsets:
            subsets[name] = submit(name, SelectSpec(scoring=scoring, selection=selection))
        return subsets[name]

    resolved = arms(spec)
    term = spec.deft
    if term.omega == "auto" and any(arm.has_term for arm in resolved):
        measured = submit("measure_omega", _measure(spec, subset(select_name(spec.selection), spec.selection), start))
        term = RewardTerm(omega="auto", omega_from=measured)
    systems = [] if start is None else [System(name=START, arm=START, adapter=start)]
    for arm in resolved:
        name, selection = arm.select_name, arm.selection
        data = spec.dataset if name is None or selection is None else subset(name, selection)
        adapter = submit(f"train:{arm.system}", _train(spec, arm, data, term, start))
        systems.append(System(name=arm.system, arm=arm.name, adapter=adapter))
    submit("evaluate", _evaluate(spec, scoring, systems))


def select_name(selection: Selection) -> str:
    """Return the name of the child job that makes *selection*."""
    return f"select:random-{selection.seed}" if selection.end == "random" else f"select:{selection.end}"


def _check_data(spec: PipelineSpec) -> CheckDataSpec:
    return CheckDataSpec(dataset=spec.dataset, evaluation_dataset=spec.evaluation_dataset, split=spec.split)


def _sft(spec: PipelineSpec, stage: SftStage) -> TrainSpec:
    return TrainSpec(
        data=spec.dataset,
        rows=sft_rows(spec, stage),
        model=spec.model,
        method=SftMethod(),
        deft=None,
        lora=spec.lora,
        optimisation=stage.optimisation or spec.optimisation,
        drift=stage.drift,
        report_to=spec.report_to,
        tokens=spec.tokens,
    )


def _score(spec: PipelineSpec, start: str | None) -> ScoreSpec:
    return ScoreSpec(
        dataset=spec.dataset,
        model=spec.model,
        adapter=start,
        count_rows=trained_rows(spec),
        rows=scored_rows(spec),
        tokens=spec.tokens,
        precision=spec.optimisation.precision,
        quantisation=spec.optimisation.quantisation,
        aspects=spec.aspects,
        gate=spec.gate,
    )


def _measure(spec: PipelineSpec, data: str, start: str | None) -> MeasureOmegaSpec:
    return MeasureOmegaSpec(
        data=data,
        model=spec.model,
        adapter=start,
        method=spec.method,
        lora=spec.lora,
        optimisation=spec.optimisation,
        tokens=spec.tokens,
    )


def _train(spec: PipelineSpec, arm: Arm, data: str, term: RewardTerm, start: str | None) -> TrainSpec:
    return TrainSpec(
        data=data,
        rows=scored_rows(spec) if arm.selection is None else Rows(),
        model=spec.model,
        adapter=start,
        method=spec.method,
        deft=term if arm.has_term else None,
        lora=spec.lora,
        optimisation=spec.optimisation,
        drift=spec.drift,
        report_to=spec.report_to,
        tokens=spec.tokens,
    )


def _evaluate(spec: PipelineSpec, scoring: str, systems: list[System]) -> EvaluateSpec:
    return EvaluateSpec(
        model=spec.model,
        systems=systems,
        dataset=spec.evaluation_dataset or spec.dataset,
        rows=held_out_rows(spec),
        apart_from=ApartFrom(dataset=spec.dataset, rows=trained_rows(spec)),
        scoring=scoring,
        tokens=spec.tokens,
        quantisation=spec.optimisation.quantisation,
        options=spec.evaluation,
        reward_models=spec.reward_models,
        training_reward_models=spec.training_reward_models,
        bartscore_model=spec.bartscore_model,
        general_dataset=spec.general_dataset,
        general_rows=spec.general_rows,
        lm_eval=spec.lm_eval,
        prompt_sets=spec.prompt_sets,
        focus="deft" if "deft" in spec.arms else spec.arms[0],
    )
