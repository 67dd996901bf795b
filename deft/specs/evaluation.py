"""Specs of an evaluation: what is measured, which adapters stand in it, and which rows are left out.

Knows nothing of how a metric is counted.
"""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from deft.specs.base import EachOnce, Id, Seed, Spec
from deft.specs.data import Rows

Metric = Literal[
    "preference_accuracy",
    "margin",
    "ranking_accuracy",
    "r_d_accuracy",
    "kl",
    "chosen_logp_change",
    "length",
    "entropy",
    "bleu",
    "bleu_char_pro",
    "bartscore",
    "distinct_1",
    "distinct_2",
    "repeated",
    "silent",
    "reward",
    "reward_logit",
    "perplexity",
]
ALL_METRICS: list[Metric] = [
    "preference_accuracy",
    "margin",
    "ranking_accuracy",
    "r_d_accuracy",
    "kl",
    "chosen_logp_change",
    "length",
    "entropy",
    "bleu",
    "bleu_char_pro",
    "bartscore",
    "distinct_1",
    "distinct_2",
    "repeated",
    "silent",
    "reward",
    "reward_logit",
    "perplexity",
]
"""The default. Of all together, a metric whose field is not given (r_d_accuracy: scoring) is left out."""


RewardModels = Annotated[list[Id], EachOnce, Field(max_length=8)]
"""Ids of reward models and of jobs that make them, and ids or names of registered models."""


Task = Annotated[str, Field(max_length=100, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.\-]*$")]


class LmEval(Spec):
    """What lm-evaluation-harness measures beside: the worker's own program `lm-eval`, as a subprocess."""

    tasks: Annotated[list[Task], EachOnce] = Field(min_length=1, max_length=50, description="By the harness's names.")
    limit: int | None = Field(None, ge=1, description="At most so many documents of each task; null: all.")
    num_fewshot: int | None = Field(None, ge=0, le=100, description="null: as each task says.")
    batch_size: int = Field(8, ge=1, le=1024)
    timeout_seconds: float = Field(
        43_200,
        gt=0,
        le=604_800,
        description="One system takes at most so long: the program is ended, the system fails.",
    )


class MeasuredWith(Spec):
    """What an evaluation measures with beside its own model: reward models, a BART, a general text."""

    reward_models: RewardModels = Field(
        default_factory=list,
        description="Reward models that judge the answers (reward, reward_logit): ids of reward models (`rm_`), or "
        "registered models with one label. They share neither weights nor rows with `training_reward_models`.",
    )
    training_reward_models: RewardModels = Field(
        default_factory=list,
        description="Reward models whose rewards a training used (the scores of PRO): they judge too, marked as "
        "trained on, and take no part in a verdict.",
    )
    bartscore_model: Id | None = Field(
        None, description="A registered BART, or other encoder-decoder, for BARTScore; without it that is left out."
    )
    general_dataset: Id | None = Field(
        None,
        description="A dataset, or a prompt set, of general text unlike the training data: perplexity on it tells "
        "forgetting. A row's text is its prompt, with its best response if it has one; null: perplexity is left out.",
    )
    general_rows: Rows = Field(
        Rows(sample=200), description="Rows of `general_dataset`; of a prompt set `sample` and `seed` alone count."
    )

    lm_eval: LmEval | None = Field(
        None,
        description="Tasks of lm-evaluation-harness for every system: its JSON is kept whole, numbers that are better "
        "the higher they are become scores (`lm_eval:TASK/METRIC`). The operator installs it; a worker without it "
        "refuses the job. One that fails leaves the rest of the evaluation as it is.",
    )

    @field_validator("training_reward_models")
    @classmethod
    def _are_apart(cls, value: list[str], info: ValidationInfo) -> list[str]:
        both = sorted(set(value) & set(info.data.get("reward_models", [])))
        if both:
            raise ValueError(f"no model of reward_models; {both[0]} is one: what was trained on cannot evaluate")
        return value


PromptSets = Annotated[
    list[Id], EachOnce, Field(max_length=16, description="Prompt sets that every system answers too, turn by turn.")
]


class Sampling(Spec):
    """Sampled answers; each draw depends on its prompt, its number and the seed alone."""

    temperature: float = Field(1.0, gt=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1, description="Of the likeliest tokens, those that hold this share together.")
    repeats: int = Field(1, ge=1, le=20, description="Answers to each prompt.")
    seed: Seed = 0


class Server(Spec):
    """An OpenAI-compatible server (vLLM) that has the systems loaded, and generates in this process's place."""

    endpoint: Id = Field(description="Name of an endpoint that the operator has set; its address and key stay there.")
    models: dict[Annotated[str, Field(max_length=80)], Annotated[str, Field(min_length=1, max_length=200)]] = Field(
        min_length=1, max_length=65, description="The name that it serves each system by, `base` included."
    )
    concurrency: int = Field(16, ge=1, le=256, description="Requests that are open at a time.")
    timeout_seconds: float = Field(300, gt=0, le=3600)
    retries: int = Field(5, ge=0, le=20)


GenerationEngine = Literal["auto", "continuous_batching", "sorted_batches"]


class EvaluationOptions(Spec):
    """What is measured, and on how much."""

    metrics: Annotated[list[Metric], EachOnce] = Field(
        default_factory=lambda: list(ALL_METRICS),
        min_length=1,
        description="All of them, the default, are measured as far as the other settings and the rows let them be; one "
        "that is chosen and of which nothing would be measured is refused.",
    )
    pairs: int | None = Field(
        None, ge=1, description="Held-out rows judged by likelihood, each with all its responses; null means all."
    )
    prompts: int = Field(64, ge=0, description="Held-out prompts that are answered; 0 switches generation off.")
    max_new_tokens: int = Field(128, ge=1, le=8192)
    sampling: Sampling | None = Field(None, description="How prompt sets are answered; null: once, greedily.")
    held_out_sampling: Sampling | None = Field(
        None,
        description="How held-out prompts are answered; null: once, greedily. Repeated answers of one prompt are "
        "resampled together, and numbers of unlike sampling are not compared.",
    )
    server: Server | None = Field(
        None, description="What generates the answers; null: the worker, with the adapters themselves."
    )
    engine: GenerationEngine = Field(
        "auto",
        description="How the worker generates greedy answers. auto: continuous batching where the model is on a GPU "
        "with flash attention, else sorted batches. Where continuous batching cannot be used sorted batches answer; "
        "the summary says why.",
    )
    beta: float = Field(0.1, gt=0, le=100, description="Of the implicit reward margin.")
    bootstrap: int = Field(2000, ge=100, le=100_000, description="Resamples of every interval.")
    seed: Seed = 0

    @property
    def answers_each(self) -> int:
        """How many answers each held-out prompt gets."""
        return 1 if self.held_out_sampling is None else self.held_out_sampling.repeats


class System(Spec):
    """One adapter, or one tuned model, in an evaluation. Systems that share `arm` are draws of one arm."""

    name: Annotated[str, Field(min_length=1, max_length=80, pattern=r"^[a-z0-9_\-]+$")]
    arm: Annotated[str, Field(min_length=1, max_length=80, pattern=r"^[a-z0-9_\-]+$")]
    adapter: Id = Field(description="An adapter, or a tuned model, that was made from `model`.")


class ApartFrom(Spec):
    """Rows that were trained on: a held-out row with the same normalised first user turn is left out, and counted."""

    dataset: Id
    rows: Rows = Rows()
