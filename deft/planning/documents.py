"""What a plan says: the classes are the JSON of `POST /v1/plans` too. Knows no calculation.

Every group of numbers has a *basis*. Units are in the names: `_bytes`, `_tokens`, `_seconds`, `_flops`.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Basis = Literal["calculated", "counted", "measured", "given", "assumed"]
Remedy = Literal["smaller_micro_batch", "checkpointing", "half_precision", "nf4", "half_precision_nf4", "sharding"]
Operation = Literal[
    "check_data", "score", "measure_omega", "train", "train_reward_model", "evaluate", "select", "judge"
]


class Planned(BaseModel):
    """The common rules of all parts of a plan."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelFacts(Planned):
    """What the model is, by its config.json and the headers of its weights."""

    name: str
    family: str | None = Field(description="model_type where its layers are known, so that all below is calculated.")
    basis: Basis = Field(description="Of `parameters`: counted in the weights' headers, else calculated.")
    parameters: int
    trainable_parameters: int | None = Field(
        description="Of the LoRA adapter, exact; where all weights are tuned all of them. null: nothing is trained."
    )
    weights_bytes: int | None = Field(description="Of the files on disk.")
    context_tokens: int | None
    vocabulary_size: int | None
    tokenizer_tokens: int | None = Field(description="Ids that the tokenizer can give; null: it cannot be read.")
    head: str | None = Field(description="plain, scaled, bias or softcap, by config; checked when the model runs.")


class Lengths(Planned):
    """Tokens of one example after cutting, the mean over a seeded sample of the rows unless said otherwise."""

    basis: Basis = Field(description="counted: in a sample; assumed: the caps of `tokens`, an upper bound.")
    rows_sampled: int
    is_template_approximate: bool = Field(description="Whether a chat template was replaced by its approximate size.")
    prompt_tokens: float
    response_tokens: float = Field(description="Of one response.")
    responses: float = Field(description="Responses of an example.")
    longest_prompt_tokens: int
    longest_row_tokens: int = Field(description="The longest example: prompt and all its responses.")
    share_of_prompts_cut: float
    share_of_responses_cut: float


class DataFacts(Planned):
    """How many rows each part of the work sees, counted in the datasets; null: no such part, or not known yet."""

    rows_counted: int | None = Field(None, description="Rows over which Q_diff is counted.")
    rows_scored: int | None = None
    rows_kept: int | None = None
    keep_reason: str | None = Field(None, description="What `selection.keep` came to, and why.")
    rows_trained: int | None = Field(None, description="Of one train job that is asked for by itself.")
    rows_held_out: int | None = Field(None, description="Pairs that the evaluation judges by likelihood.")
    prompts_held_out: int | None = Field(None, description="Distinct first user turns among them.")
    prompts_answered: int | None = None


class Work(Planned):
    """One operation of the job; an arm's training is one of its own."""

    name: str
    operation: Operation
    rows: int | None
    steps: int | None = Field(None, description="Optimiser steps.")
    forward_tokens: int = Field(description="Tokens through the model without gradients, padding left out.")
    trained_tokens: int = Field(0, description="Tokens forward and backward, over all epochs, padding left out.")
    generated_tokens: int = Field(0, description="At most: every answer as long as `max_new_tokens` allows.")
    flops: float = Field(description="Calculated from the tokens.")


class Card(Planned):
    """Whether it fits a GPU of that size, as the code is today."""

    card_gib: int
    usable_bytes: int = Field(description="Assumed: 92 % of the card; the rest is the driver's and fragmentation.")
    fits: bool = Field(description="With the micro-batch as asked, or as the code would choose it.")
    has_checkpointing: bool = Field(description="Whether gradient checkpointing is on there, as asked or by auto.")
    largest_pass_tokens: int = Field(description="Padded tokens of one forward pass that fit; 0: not even the weights.")
    largest_pass_examples: int = Field(description="The same in examples as long as the longest one.")
    remedy: Remedy | None = Field(description="The first of these that would make it fit; null: none needed, or none.")
    remedy_pass_examples: int | None = Field(
        description="With the remedy, the same of it; null: it fits the pass as planned."
    )


class Sharded(Planned):
    """Peak memory of each of several processes, a GPU each, among which a training of all weights is divided."""

    processes: int
    peak_bytes: int
    smallest_card_gib: int | None = Field(description="The smallest of the planned cards that it fits; null: none.")


class Memory(Planned):
    """Peak memory of one operation on a GPU; calculated."""

    operation: Operation
    precision: Literal["fp32", "bf16", "fp16"]
    weights_bytes: int
    adapter_bytes: int = Field(description="LoRA parameters, their gradients and AdamW's two states, in float32.")
    tuned_bytes: int = Field(
        0, description="Where all weights are tuned: their gradients and AdamW's two states, in float32."
    )
    bytes_per_token: int = Field(
        description="What a token keeps for the backward pass without gradient checkpointing; without one, working "
        "space."
    )
    checkpointed_bytes_per_token: int | None = Field(description="With gradient checkpointing; null: no training.")
    pass_tokens: int = Field(description="Padded tokens of the forward pass that is planned.")
    pass_bytes: int = Field(description="Of the forward pass; with checkpointing only where it was asked for.")
    logits_bytes: int = Field(description="Of the positions whose logits exist at one time.")
    cache_bytes: int = Field(0, description="Keys and values of the answers that are generated together.")
    peak_bytes: int
    cards: list[Card]
    sharded: list[Sharded] = Field(
        default_factory=list, description="Where all weights are tuned, with several processes; calculated."
    )


class Speed(Planned):
    """How long it takes on one device, job after job; assumed figures are rough."""

    device: str
    basis: Basis = Field(description="Of the two throughputs.")
    forward_flops_per_second: float
    training_flops_per_second: float
    bytes_per_second: float | None = Field(description="Memory bandwidth, which bounds generation; null: not counted.")
    work_seconds: dict[str, float] = Field(description="By name of the work, start-up included.")
    total_seconds: float


class Queue(Planned):
    """What stands before this job now."""

    basis: Basis
    jobs_running: int
    jobs_queued_before: int
    wait_seconds: float | None = Field(description="null: what runs tells no pace, or none of its kind has ended yet.")


class Detectable(Planned):
    """The smallest difference in preference accuracy between two arms that the evaluation will be able to see.

    As far as prompts go: how far runs of one arm lie apart is known afterwards, and makes it larger.
    """

    basis: Basis = Field(description="assumed: on how many prompts two arms disagree is known afterwards.")
    prompts: int
    difference: float = Field(description="80 % power at 5 %, two-sided, one comparison, if half the prompts disagree.")
    difference_if_arms_mostly_agree: float = Field(description="The same if a tenth of the prompts disagree.")


class Remark(Planned):
    """Something to know before the job is posted; it refuses nothing."""

    code: str
    message: str
    pointer: str | None = None


class Plan(Planned):
    """All that can be said of a job before it exists. Making one has no side effects."""

    kind: str
    spec: dict[str, Any] = Field(description="The spec with every default and choice written in.")
    spec_hash: str
    arms: list[str]
    model: ModelFacts | None = Field(description="null: the job loads no model, or its files are not here yet.")
    data: DataFacts
    lengths: Lengths | None
    work: list[Work]
    memory: list[Memory]
    cpu_training_bytes: int | None = Field(
        description="Peak resident memory of a training on a CPU with as many cores as this machine: float32, a pass "
        "on each core, 8 at most. null: no training."
    )
    speed: list[Speed]
    queue: Queue
    detectable: Detectable | None
    remarks: list[Remark]
