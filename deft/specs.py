"""What a job asks for: one pydantic class that is the request body, the row's JSON and the argument of the method.

Torch-free. Specs are frozen, refuse unknown fields and take no value of another JSON type. A field that names another
thing holds an id: of an artifact (`ds_`, `sc_`, `sub_`, `cal_`, `ad_`), or of a job (`job_`) whose output will be that
artifact; `references` lists them. Formula numbers M1..M12 are those of `docs/method.md`.
"""

import hashlib
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationInfo, field_validator, model_validator

Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
Id = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$")]
ModuleName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")]
Fraction = Annotated[float, Field(gt=0, le=1)]
SplitName = Literal["train", "reward_model", "evaluation"]
End = Literal["lowest", "highest", "random", "length"]
Tracker = Literal["clearml", "comet_ml", "dvclive", "mlflow", "swanlab", "trackio", "wandb"]
Gate = Annotated[
    Literal["warn", "pause", "off"],
    Field(
        description="M11: where Q_diff may be noise (p > 0.05, split-half correlation below 0.5, fewer than 400 "
        "examples), warn says so in the scoring and in the verdict's first lines; pause also pauses the scoring, "
        "before the model is loaded, until it is resumed; off says nothing."
    ),
]
AspectWeights = Annotated[
    dict[Annotated[str, Field(max_length=200)], Annotated[float, Field(ge=0, le=100)]],
    Field(
        min_length=1,
        max_length=32,
        description="M12: Q_diff = sum_a w_a Q_diff_a, each counted on the rows of that aspect alone (the empty name: "
        "rows without one); an aspect that is not named has weight 0.",
    ),
]


class Spec(BaseModel):
    """The common rules of every spec: frozen, strict, no unknown fields, no NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class TokenOptions(Spec):
    """How an example becomes token ids."""

    max_prompt_tokens: int = Field(384, ge=1, le=1_000_000, description="The prompt is cut on the left to this.")
    max_total_tokens: int = Field(
        512, ge=2, le=1_000_000, description="Prompt and response are cut on the right to this."
    )
    template: Literal["auto", "hh", "chat", "plain"] = Field(
        "auto",
        description="hh: the prompt ends in `Assistant:`, the response gets one leading space; chat: the tokenizer's "
        "chat template; plain: texts as they are; auto: hh or plain for text by its end, chat for messages.",
    )

    @model_validator(mode="after")
    def _leaves_room_for_a_response(self) -> "TokenOptions":
        if self.max_prompt_tokens >= self.max_total_tokens:
            raise ValueError("max_prompt_tokens must be smaller than max_total_tokens, or no response token is left")
        return self


class SplitFractions(Spec):
    """Shares of the splits, by hash of the normalised first user turn; they sum to 1."""

    train: float = Field(0.8, ge=0, le=1)
    reward_model: float = Field(0.1, ge=0, le=1)
    evaluation: float = Field(0.1, ge=0, le=1)

    @model_validator(mode="after")
    def _sum_to_one(self) -> "SplitFractions":
        if abs(self.train + self.reward_model + self.evaluation - 1) > 1e-9:
            raise ValueError("train, reward_model and evaluation must sum to 1")
        return self


class Rows(Spec):
    """Which rows of a dataset an operation works on: one split or all, then a seeded sample."""

    split: SplitName | Literal["all"] = "all"
    fractions: SplitFractions = SplitFractions()
    sample: int | None = Field(None, ge=1, description="At most this many rows, drawn with `seed`; null means all.")
    seed: Seed = 0


Quota = (
    Literal["none", "proportional", "equal"]
    | Annotated[dict[Annotated[str, Field(max_length=200)], Fraction], Field(min_length=1, max_length=256)]
)


class Selection(Spec):
    """M6: which of the scored examples are kept."""

    keep: Fraction | Literal["auto"] = Field(
        "auto", description="A fraction, or auto: the largest of 5 %, 1,000 examples and what 100 optimiser steps need."
    )
    count: int | None = Field(None, ge=1, description="What `auto` came to; takes precedence over `keep` when given.")
    end: End = Field("lowest", description="Which end of R_d is kept; random and length (longest chosen) are controls.")
    by: Literal["chosen", "rejected", "margin", "length_adjusted"] = Field(
        "chosen",
        description="Whose R_d ranks the examples; margin: chosen less rejected; length_adjusted: of the chosen "
        "response, less what a straight line over its number of tokens explains.",
    )
    quota: Quota = Field(
        "none",
        description="How many of the kept examples each source gives: none looks at all together, proportional keeps "
        "the sources' shares, equal gives all the same, or shares by source that sum to 1 (the empty name: rows "
        "without a source). A source with too few rows gives all it has, the others share the rest.",
    )
    seed: Seed = Field(0, description="Of the random end.")

    @field_validator("quota")
    @classmethod
    def _shares_sum_to_one(cls, value: Quota) -> Quota:
        if isinstance(value, dict) and abs(sum(value.values()) - 1) > 1e-9:
            raise ValueError(f"shares that sum to 1, not to {sum(value.values()):g}")
        return value


class SftMethod(Spec):
    """Supervised fine-tuning on the chosen response: the sum over response tokens / their number in the step."""

    type: Literal["sft"] = "sft"


class DpoMethod(Spec):
    """M7: direct preference optimisation (arXiv 2305.18290, eq. 7)."""

    type: Literal["dpo"] = "dpo"
    beta: float = Field(0.1, gt=0, le=100)
    rejected: Literal["last", "second"] = Field(
        "last", description="Which response of a longer list stands against the best; of a pair both are the same."
    )


class ProMethod(Spec):
    """M8: preference ranking optimisation over all responses (arXiv 2306.17492). It needs no reference model."""

    type: Literal["pro"] = "pro"
    sft_weight: float = Field(0.05, ge=0, le=1000, description="w of the term w * (N-1)^2 * NLL(y_1).")
    rewards: Literal["auto", "scores", "ranks"] = Field(
        "auto",
        description="Where r_k comes from. scores: the rows' own; ranks: gaps of 1; auto: scores where every row has "
        "them, else ranks.",
    )


Method = Annotated[SftMethod | DpoMethod | ProMethod, Field(discriminator="type")]


class RewardTerm(Spec):
    """M9 and M10: the distribution reward in the loss, L = L_base - omega * R_d(x, y+)."""

    omega: Annotated[float, Field(ge=0, le=1e6)] | Literal["auto"] = "auto"
    omega_from: Id | None = Field(
        None, description="A calibration (or the job that makes it) that `auto` takes its value from: arms share it."
    )


class Lora(Spec):
    """Settings of the LoRA adapter (arXiv 2106.09685)."""

    r: int = Field(16, ge=1, le=256)
    alpha: float = Field(32.0, gt=0, le=4096)
    dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: Literal["all-linear"] | Annotated[list[ModuleName], Field(min_length=1)] = Field(
        "all-linear", description="Suffixes of module names, for example q_proj; all-linear leaves out the head."
    )


class Optimisation(Spec):
    """The optimiser and its schedule. A step is one optimiser update over `batch_size` examples."""

    learning_rate: float = Field(1e-4, gt=0, le=1)
    epochs: int = Field(1, ge=1, le=1000)
    batch_size: int = Field(8, ge=1, le=65536, description="Examples of one optimiser step.")
    micro_batch_size: int | None = Field(
        None, ge=1, description="Examples of one forward pass; null: decided by memory."
    )
    max_grad_norm: float = Field(1.0, gt=0)
    weight_decay: float = Field(0.0, ge=0, le=1)
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    warmup_fraction: float = Field(0.0, ge=0, lt=1)
    seed: Seed = 0
    checkpoint_steps: int = Field(20, ge=1, description="A resume checkpoint every this many optimiser steps.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    row_weights: bool = Field(
        True,
        description="Weigh every row by its `weight` (1 where it has none): the loss of a step is the weighted mean.",
    )


Limit = Annotated[float, Field(gt=0)] | None


class Drift(Spec):
    """The drift budget: how far from its start a policy may move on a few fixed examples before its job pauses."""

    every: int = Field(10, ge=1, description="Optimiser steps between two looks; the last step is always looked at.")
    examples: int = Field(8, ge=1, le=1024, description="Examples of the training data, drawn with the run's seed.")
    max_kl: Limit | Literal["auto"] = Field(
        "auto",
        description="KL to the reference, nats a token; auto: 1 for DPO, 3 for SFT and PRO, whose likelihood term is "
        "meant to move the policy; null: no limit, here and below.",
    )
    max_entropy_change: Limit = Field(0.5, description="Of the next token's entropy, as a share of that at the start.")
    max_length_change: Limit = Field(0.5, description="Of the expected length, as a share of that at the start.")
    max_r_d_change: Limit = Field(None, description="Of R_d; the reward term is meant to raise it, so none by default.")


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
    count_rows: Rows = Field(Rows(), description="The rows over which Q+ and Q- are counted.")
    rows: Rows = Field(Rows(), description="The rows that are scored.")
    tokens: TokenOptions = TokenOptions()
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    aspects: AspectWeights | None = Field(None, description="null: one Q_diff over all rows, whatever their aspect.")
    gate: Gate = "warn"
    extends: Id | None = Field(
        None,
        description="An earlier scoring with the same model, precision and token options: rows with the content of "
        "rows that it has scored take over their hidden states, and only the others go through the model.",
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
    lora: Lora = Lora()
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
    lora: Lora = Lora()
    optimisation: Optimisation = Optimisation()
    tokens: TokenOptions = TokenOptions()


Metric = Literal[
    "preference_accuracy", "margin", "ranking_accuracy", "r_d_accuracy", "kl", "chosen_logp_change", "length", "bleu"
]
ALL_METRICS: list[Metric] = [
    "preference_accuracy",
    "margin",
    "ranking_accuracy",
    "r_d_accuracy",
    "kl",
    "chosen_logp_change",
    "length",
    "bleu",
]


class EvaluationOptions(Spec):
    """What is measured, and on how much."""

    metrics: list[Metric] = Field(default_factory=lambda: list(ALL_METRICS), min_length=1)
    pairs: int | None = Field(
        None, ge=1, description="Held-out rows judged by likelihood, each with all its responses; null means all."
    )
    prompts: int = Field(64, ge=0, description="Held-out prompts that are answered; 0 switches generation off.")
    max_new_tokens: int = Field(128, ge=1, le=8192)
    beta: float = Field(0.1, gt=0, le=100, description="Of the implicit reward margin.")
    bootstrap: int = Field(2000, ge=100, le=100_000, description="Resamples of every interval.")
    seed: Seed = 0


class System(Spec):
    """One adapter in an evaluation. Systems that share `arm` are draws of one arm."""

    name: Annotated[str, Field(min_length=1, max_length=80, pattern=r"^[a-z0-9_\-]+$")]
    arm: Annotated[str, Field(min_length=1, max_length=80, pattern=r"^[a-z0-9_\-]+$")]
    adapter: Id


class ApartFrom(Spec):
    """Rows that were trained on: a held-out row with the same normalised first user turn is left out, and counted."""

    dataset: Id
    rows: Rows = Rows()


class EvaluateSpec(Spec):
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
    tokens: TokenOptions = TokenOptions()
    options: EvaluationOptions = EvaluationOptions()
    focus: str | None = Field(None, max_length=80, description="The arm that the others are compared with.")

    @model_validator(mode="after")
    def _names_are_unique(self) -> "EvaluateSpec":
        names = [system.name for system in self.systems]
        if len(set(names)) != len(names) or "base" in names:
            raise ValueError("names of systems must be unique, and `base` is taken by the model itself")
        if self.focus is not None and self.focus not in {system.arm for system in self.systems}:
            raise ValueError("focus must be the arm of one of the systems")
        return self


ArmName = Literal["deft", "no_reward_term", "random_with_term", "random", "opposite", "length", "full"]
DEFAULT_ARMS: list[ArmName] = ["deft", "no_reward_term", "random_with_term", "random", "opposite", "length", "full"]


class PipelineSpec(Spec):
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
    lora: Lora = Lora()
    optimisation: Optimisation = Optimisation()
    drift: Drift | None = Field(Drift(), description="Of every arm; null: drift is not looked at.")
    report_to: list[Tracker] = Field(default_factory=list, description="Of every arm, as in a train job.")
    arms: list[ArmName] = Field(
        default_factory=lambda: list(DEFAULT_ARMS),
        min_length=1,
        description="`full` is left out of the default where train has more than 20,000 examples.",
    )
    random_draws: int = Field(3, ge=1, le=10)
    evaluation: EvaluationOptions = EvaluationOptions()

    @field_validator("evaluation_dataset")
    @classmethod
    def _is_not_trained_on(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and value == info.data.get("dataset"):
            raise ValueError("a dataset that is not trained on; null holds out a split of `dataset` itself")
        return value

    @model_validator(mode="after")
    def _can_be_compared(self) -> "PipelineSpec":
        if len(set(self.arms)) != len(self.arms):
            raise ValueError("an arm can be asked for once; random_draws repeats the random ones")
        if self.selection.end in ("random", "length"):
            raise ValueError(
                "selection.end of a pipeline is lowest or highest; random and length are arms of their own"
            )
        if self.deft.omega_from is not None:
            raise ValueError("omega_from is set by the pipeline itself")
        return self


JobSpec = Annotated[
    CheckDataSpec | ScoreSpec | SelectSpec | TrainSpec | MeasureOmegaSpec | EvaluateSpec | PipelineSpec,
    Field(discriminator="kind"),
]
OperationSpec = CheckDataSpec | ScoreSpec | SelectSpec | TrainSpec | MeasureOmegaSpec | EvaluateSpec
job_spec: TypeAdapter[JobSpec] = TypeAdapter(JobSpec)

ArtifactKind = Literal["dataset", "data_report", "scoring", "part", "subset", "calibration", "adapter", "evaluation"]
"""`part`: what a shard of a scoring hands to the merge; nobody can download it, and it goes once that has ended."""

OUTPUT_KIND: dict[str, ArtifactKind] = {
    "check_data": "data_report",
    "score": "scoring",
    "score_count": "part",
    "score_shard": "part",
    "score_merge": "scoring",
    "select": "subset",
    "measure_omega": "calibration",
    "train": "adapter",
    "evaluate": "evaluation",
    "pipeline": "evaluation",
}
ID_PREFIX: dict[ArtifactKind, str] = {
    "dataset": "ds",
    "data_report": "rep",
    "scoring": "sc",
    "part": "part",
    "subset": "sub",
    "calibration": "cal",
    "adapter": "ad",
    "evaluation": "ev",
}


class Reference(NamedTuple):
    """One field of a spec that names an artifact: *name* of the input folder, JSON *pointer*, *id*, kinds accepted."""

    name: str
    pointer: str
    id: str
    kinds: tuple[ArtifactKind, ...]


_REFERENCE_KINDS: dict[str, tuple[ArtifactKind, ...]] = {
    "dataset": ("dataset",),
    "evaluation_dataset": ("dataset",),
    "data": ("dataset", "subset"),
    "scoring": ("scoring",),
    "distribution": ("scoring",),
    "extends": ("scoring",),
    "adapter": ("adapter",),
    "counted": ("part",),
}


def references(spec: Spec) -> Iterator[Reference]:
    """Yield every artifact that *spec* names. Models are not artifacts: see the field `model`."""
    for field, kinds in _REFERENCE_KINDS.items():
        value = getattr(spec, field, None)
        if value is not None:
            yield Reference(field, f"/{field}", value, kinds)
    for index, part in enumerate(getattr(spec, "parts", ())):
        yield Reference(f"part.{index}", f"/parts/{index}", part, ("part",))
    if isinstance(spec, TrainSpec) and spec.deft is not None and spec.deft.omega_from is not None:
        yield Reference("omega_from", "/deft/omega_from", spec.deft.omega_from, ("calibration",))
    if isinstance(spec, EvaluateSpec):
        if spec.apart_from is not None:
            yield Reference("apart_from", "/apart_from/dataset", spec.apart_from.dataset, ("dataset", "subset"))
        for index, system in enumerate(spec.systems):
            yield Reference(f"adapter.{index}", f"/systems/{index}/adapter", system.adapter, ("adapter",))


def spec_json(spec: Spec) -> dict[str, Any]:
    """Return *spec* as JSON with every default written in."""
    return spec.model_dump(mode="json")


def spec_hash(spec: Spec) -> str:
    """Return the SHA-256 of the resolved spec, without its name, in hex."""
    document = spec.model_copy(update={"name": None}).model_dump_json()
    return hashlib.sha256(document.encode()).hexdigest()
