"""What a job of each kind asks for: the request body, the row's JSON and the argument of the method.

Formula numbers M1..M12 are those of `docs/method.md`. Knows nothing of where a job runs or what becomes of it.
"""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from deft.specs.base import Id, Quantisation, Seed, Spec
from deft.specs.data import AspectWeights, Gate, Rows, Selection, SplitFractions, TokenOptions
from deft.specs.evaluation import ApartFrom, EvaluationOptions, MeasuredWith, PromptSets, System
from deft.specs.judging import JudgeSpec
from deft.specs.rewards import TrainRewardModelSpec
from deft.specs.training import (
    DpoMethod,
    Drift,
    Lora,
    LoraOrNull,
    Method,
    Optimisation,
    RewardTerm,
    SftStage,
    Tracker,
)


class CheckDataSpec(Spec):
    """A report on a dataset: duplicates, near duplicates, contradictions, length bias, overlap, cuts. No GPU."""

    kind: Literal["check_data"] = "check_data"
    name: str | None = Field(None, max_length=200)
    dataset: Id
    evaluation_dataset: Id | None = Field(None, description="Rows that should not overlap with those of `dataset`.")
    split: SplitFractions = Field(SplitFractions(), description="Splits between which near duplicates are looked for.")
    model: Id | None = Field(None, description="Whose tokenizer counts what `tokens` cuts off; null: not counted.")
    tokens: TokenOptions = TokenOptions()


class ScoreSpec(Spec):
    """A dataset scored under one model: Q_diff (M1-M3), R_d (M4-M5) and mean hidden states."""

    kind: Literal["score"] = "score"
    name: str | None = Field(None, max_length=200)
    dataset: Id
    model: Id
    adapter: Id | None = Field(
        None, description="Score under the model with this adapter, for a training that starts from it; null: the base."
    )
    count_rows: Rows = Field(Rows(), description="The rows over which Q+ and Q- are counted.")
    rows: Rows = Field(Rows(), description="The rows that are scored.")
    tokens: TokenOptions = TokenOptions()
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    quantisation: Quantisation = "none"
    aspects: AspectWeights | None = Field(None, description="null: one Q_diff over all rows, whatever their aspect.")
    gate: Gate = "warn"
    extends: Id | None = Field(
        None,
        description="An earlier scoring with the same model, adapter, precision, quantisation and token options: rows "
        "with the content of rows that it has scored take over their hidden states, and only the others are run.",
    )


class SelectSpec(Spec):
    """A selection over a scoring (M6), by its own Q_diff or another; loads no model."""

    kind: Literal["select"] = "select"
    name: str | None = Field(None, max_length=200)
    scoring: Id
    distribution: Id | None = Field(
        None, description="Another scoring under the same head: its Q_diff ranks the examples. null: the scoring's own."
    )
    aspects: AspectWeights | None = Field(
        None, description="Weights for the aspects of that Q_diff. null: as it was counted."
    )
    selection: Selection = Selection()


def _without_start(value: Lora | None, info: ValidationInfo) -> Lora | None:
    """Return *value*, the field `lora`, unless it is null beside an adapter to start from."""
    if value is None and info.data.get("adapter") is not None:
        raise ValueError(
            "LoRA settings, or no `adapter`: with null all weights are tuned, and an adapter to start from would have "
            "to be merged into them first (train it with `merge`, register its merged/ as a model)"
        )
    return value


def _of_whole_weights(value: Optimisation, info: ValidationInfo) -> Optimisation:
    """Return *value*, the field `optimisation`, unless all weights are tuned of a base in four bits."""
    if value.quantisation != "none" and info.data.get("lora", Lora()) is None:
        raise ValueError("quantisation none, since `lora` is null: weights that are tuned cannot be in four bits")
    return value


class TrainSpec(Spec):
    """Fine-tune a model on a dataset or subset, with or without the DEFT term."""

    kind: Literal["train"] = "train"
    name: str | None = Field(None, max_length=200)
    data: Id = Field(description="A dataset or a subset.")
    rows: Rows = Field(Rows(), description="Rows of a dataset; a subset is used whole.")
    model: Id
    adapter: Id | None = Field(
        None, description="Start from this adapter; it is part of the reference, and keeps its LoRA settings."
    )
    scoring: Id | None = Field(None, description="Where Q_diff comes from when `data` is a dataset.")
    method: Method = DpoMethod()
    deft: RewardTerm | None = RewardTerm()
    lora: LoraOrNull = Lora()
    optimisation: Optimisation = Optimisation()
    drift: Drift | None = Field(Drift(), description="Null: drift is not looked at.")
    report_to: list[Tracker] = Field(
        default_factory=list,
        description="Experiment trackers that get the metrics too; their packages and credentials are the operator's.",
    )
    tokens: TokenOptions = TokenOptions()
    merge: bool = Field(
        False, description="Write the base with the adapter merged into its weights as well, to `merged/`."
    )

    @field_validator("lora")
    @classmethod
    def _starts_from_no_adapter(cls, value: Lora | None, info: ValidationInfo) -> Lora | None:
        return _without_start(value, info)

    @field_validator("merge")
    @classmethod
    def _has_something_to_merge(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("lora", Lora()) is None:
            raise ValueError("false, since `lora` is null: the output is a whole model already")
        return value

    @field_validator("optimisation")
    @classmethod
    def _tunes_whole_weights(cls, value: Optimisation, info: ValidationInfo) -> Optimisation:
        return _of_whole_weights(value, info)

    @model_validator(mode="after")
    def _merges_into_whole_weights(self) -> "TrainSpec":
        if self.merge and self.optimisation.quantisation != "none":
            raise ValueError("merge needs the base's own weights: set merge to false, or optimisation.quantisation")
        return self


class MeasureOmegaSpec(Spec):
    """M10: the omega at which the term's mean gradient has 10 % of the norm of the base loss's, at step 0.

    Fields mean what they mean in `TrainSpec`; a pipeline makes this job so that all arms share one value.
    """

    kind: Literal["measure_omega"] = "measure_omega"
    name: str | None = Field(None, max_length=200)
    data: Id
    rows: Rows = Rows()
    model: Id
    adapter: Id | None = None
    scoring: Id | None = None
    method: Method = DpoMethod()
    lora: LoraOrNull = Lora()
    optimisation: Optimisation = Optimisation()
    tokens: TokenOptions = TokenOptions()

    @field_validator("lora")
    @classmethod
    def _starts_from_no_adapter(cls, value: Lora | None, info: ValidationInfo) -> Lora | None:
        return _without_start(value, info)

    @field_validator("optimisation")
    @classmethod
    def _tunes_whole_weights(cls, value: Optimisation, info: ValidationInfo) -> Optimisation:
        return _of_whole_weights(value, info)


class EvaluateSpec(MeasuredWith):
    """One base and any number of adapters on held-out rows, with the comparison between them."""

    kind: Literal["evaluate"] = "evaluate"
    name: str | None = Field(None, max_length=200)
    model: Id
    systems: list[System] = Field(default_factory=list, max_length=64)
    dataset: Id
    rows: Rows = Rows(split="evaluation")
    apart_from: ApartFrom | None = None
    scoring: Id | None = Field(
        None, description="Where Q_diff for r_d_accuracy comes from; without it that metric is left out."
    )
    prompt_sets: PromptSets = Field(default_factory=list)
    tokens: TokenOptions = TokenOptions()
    quantisation: Quantisation = "none"
    options: EvaluationOptions = EvaluationOptions()
    focus: str | None = Field(None, max_length=80, description="The arm that the others are compared with.")

    @field_validator("focus")
    @classmethod
    def _is_an_arm(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and value not in {system.arm for system in info.data.get("systems", [])}:
            raise ValueError("the arm of one of the systems")
        return value

    @field_validator("quantisation")
    @classmethod
    def _is_whole_for_the_harness(cls, value: str, info: ValidationInfo) -> str:
        if value != "none" and info.data.get("lm_eval") is not None:
            raise ValueError("none beside `lm_eval`: it loads the base by itself, whole")
        return value

    @model_validator(mode="after")
    def _names_are_unique(self) -> "EvaluateSpec":
        names = [system.name for system in self.systems]
        if len(set(names)) != len(names) or "base" in names:
            at = {"at": ["systems"]}
            raise PydanticCustomError("invalid_names", "unique names, none of them base, which is the model itself", at)
        server = self.options.server
        if server is not None and set(server.models) != {"base", *names}:
            context = {"names": ", ".join(["base", *names]), "at": ["options", "server", "models"]}
            wanted = "a served model for each of {names}, and for nothing else"
            raise PydanticCustomError("invalid_names", wanted, context)
        return self


ArmName = Literal[
    "deft", "no_reward_term", "random_with_term", "random", "random_equal_cost", "opposite", "length", "full"
]
DEFAULT_ARMS: list[ArmName] = ["deft", "no_reward_term", "random_with_term", "random", "opposite", "length", "full"]


class PipelineSpec(MeasuredWith):
    """The whole of DEFT with its controls: score once, per arm select and train, evaluate all together."""

    kind: Literal["pipeline"] = "pipeline"
    name: str | None = Field(None, max_length=200)
    dataset: Id
    evaluation_dataset: Id | None = Field(
        None,
        description="Held-out rows; null: the evaluation split of `dataset`. Rows that share their first user turn "
        "with a row of the train split are left out, and counted.",
    )
    model: Id
    adapter: Id | None = Field(
        None,
        description="Start from this adapter: it scores, every arm goes on from it with its LoRA settings, the "
        "reference is the base with it, and it is evaluated beside the arms, as `start`.",
    )
    split: SplitFractions = SplitFractions()
    score_sample: int | None = Field(
        None, ge=1, description="Score a seeded sample of the train split; null: all of it."
    )
    seed: Seed = 0
    tokens: TokenOptions = TokenOptions()
    aspects: AspectWeights | None = Field(None, description="null: one Q_diff over all rows, whatever their aspect.")
    gate: Gate = "warn"
    selection: Selection = Selection()
    method: Method = DpoMethod()
    deft: RewardTerm = RewardTerm()
    lora: LoraOrNull = Lora()
    optimisation: Optimisation = Optimisation()
    drift: Drift | None = Field(Drift(), description="Of every arm; null: drift is not looked at.")
    report_to: list[Tracker] = Field(default_factory=list, description="Of every arm, as in a train job.")
    arms: list[ArmName] = Field(
        default_factory=lambda: list(DEFAULT_ARMS),
        min_length=1,
        description="`full` is left out of the default where train has more than 20,000 examples.",
    )
    sft: SftStage | None = Field(
        None, description="First train an adapter by supervised fine-tuning, and start from that; null: no such stage."
    )
    random_draws: int = Field(3, ge=1, le=10)
    equal_cost_count: int | None = Field(
        None,
        ge=1,
        description="Rows of the arm `random_equal_cost`; null: as many as cost to train on what scoring, omega and "
        "training of `deft` cost together, in calculated FLOPs, and at most all that are scored.",
    )
    evaluation: EvaluationOptions = EvaluationOptions()
    prompt_sets: PromptSets = Field(default_factory=list)

    @field_validator("evaluation")
    @classmethod
    def _generates_by_itself(cls, value: EvaluationOptions) -> EvaluationOptions:
        if value.server is not None:
            raise ValueError("`server` null: no server has the adapters that the pipeline is about to train")
        return value

    @field_validator("evaluation_dataset")
    @classmethod
    def _is_not_trained_on(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and value == info.data.get("dataset"):
            raise ValueError("a dataset that is not trained on; null holds out a split of `dataset` itself")
        return value

    @field_validator("lora")
    @classmethod
    def _starts_from_no_adapter(cls, value: Lora | None, info: ValidationInfo) -> Lora | None:
        return _without_start(value, info)

    @field_validator("optimisation")
    @classmethod
    def _tunes_whole_weights(cls, value: Optimisation, info: ValidationInfo) -> Optimisation:
        return _of_whole_weights(value, info)

    @field_validator("sft")
    @classmethod
    def _is_the_one_start(cls, value: SftStage | None, info: ValidationInfo) -> SftStage | None:
        if value is None:
            return None
        if info.data.get("adapter") is not None:
            raise ValueError("null beside `adapter`: a pipeline has one start")
        if info.data.get("lora", Lora()) is None:
            raise ValueError("null beside `lora` null: all weights are tuned, and an adapter is no start for that")
        own, arms = value.optimisation, info.data.get("optimisation")
        if own is not None and arms is not None:
            for name in ("precision", "quantisation"):
                if getattr(own, name) != getattr(arms, name):
                    raise ValueError(f"an optimisation.{name} that is the arms' own, {getattr(arms, name)}")
        return value

    @model_validator(mode="after")
    def _can_be_compared(self) -> "PipelineSpec":
        if len(set(self.arms)) != len(self.arms):
            raise ValueError("an arm can be asked for once; random_draws repeats the random ones")
        if self.equal_cost_count is not None and "random_equal_cost" not in self.arms:
            raise ValueError("equal_cost_count is of the arm random_equal_cost, which is not asked for")
        if self.selection.end in ("random", "length"):
            raise ValueError(
                "selection.end of a pipeline is lowest or highest; random and length are arms of their own"
            )
        if self.deft.omega_from is not None:
            raise ValueError("omega_from is set by the pipeline itself")
        if self.lm_eval is not None and self.optimisation.quantisation != "none":
            raise ValueError("optimisation.quantisation none beside lm_eval: it loads the base by itself, whole")
        return self


JobSpec = Annotated[
    CheckDataSpec
    | ScoreSpec
    | SelectSpec
    | TrainSpec
    | MeasureOmegaSpec
    | TrainRewardModelSpec
    | EvaluateSpec
    | JudgeSpec
    | PipelineSpec,
    Field(discriminator="kind"),
]
OperationSpec = (
    CheckDataSpec
    | ScoreSpec
    | SelectSpec
    | TrainSpec
    | MeasureOmegaSpec
    | TrainRewardModelSpec
    | EvaluateSpec
    | JudgeSpec
)
job_spec: TypeAdapter[JobSpec] = TypeAdapter(JobSpec)
