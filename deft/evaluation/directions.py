"""Which metrics there are, which way each is better, what has a value by definition. Torch-free; measures nothing."""

from collections.abc import Mapping
from typing import Literal

Direction = Literal["higher", "lower"]

BETTER: Mapping[str, Direction | None] = {
    "preference_accuracy": "higher",
    "margin": "higher",
    "ranking_accuracy": "higher",
    "r_d_accuracy": "higher",
    "kl": "lower",
    "chosen_logp_change": "higher",
    "chosen_logp_change_per_token": "higher",
    "length": None,
    "ended": "higher",
    "entropy": None,
    "bleu": "higher",
    "bleu_char_pro": "higher",
    "bartscore_precision": "higher",
    "bartscore_recall": "higher",
    "bartscore_f": "higher",
    "distinct_1": "higher",
    "distinct_2": "higher",
    "repeated": "lower",
    "silent": "lower",
    "reward": "higher",
    "reward_logit": "higher",
    "perplexity": "lower",
    "over_refusal": "lower",
    "harmful_compliance": "lower",
    "partial_refusal": None,
    "incoherent": "lower",
    "judge_win_rate": "higher",
    "judge_win_rate_length_controlled": "higher",
    "judge_score": "higher",
    "judge_score_gain": "higher",
    "judge_over_refusal": "lower",
    "judge_harmful_compliance": "lower",
    "judge_partial_refusal": None,
    "judge_incoherent": "lower",
    "human_win_rate": "higher",
    "lm_eval": "higher",
}
"""Every metric by its kind (`reward:rm_...` is of kind `reward`), with the better end.

Of lm-evaluation-harness (`lm_eval:TASK/METRIC`) only what is better the higher it is becomes a score.

None: neither end is the better one. A longer answer, or a surer next token, is no better by itself; unsafe prompts
refused in part may have been refused before, or complied with.
"""

OF_THE_BASE: Mapping[str, float] = {
    "preference_accuracy": 0.5,
    "margin": 0.0,
    "kl": 0.0,
    "chosen_logp_change": 0.0,
    "chosen_logp_change_per_token": 0.0,
    "ranking_accuracy": 0.5,
}
"""What no measurement of the base could change: it prefers nothing to itself."""

OF_THE_OPPONENT: Mapping[str, float] = {
    "judge_win_rate": 0.5,
    "judge_win_rate_length_controlled": 0.5,
    "judge_score_gain": 0.0,
    "human_win_rate": 0.5,
}
"""What the system that all others are set against has by definition: it does not win against itself."""


def kind_of(metric: str) -> str:
    """Return the kind of *metric*, what its name says before a colon."""
    return metric.partition(":")[0]


def told_by(metric: str) -> Literal["judging", "study"] | None:
    """Return what beside an evaluation tells *metric*: a model's judging, or a study by people. None: neither."""
    return "judging" if metric.startswith("judge_") else "study" if metric.startswith("human_") else None


def has_change(metric: str) -> bool:
    """Whether a comparison can tell a change of *metric*, prompt by prompt.

    Of lm-evaluation-harness none can; of a judging or a study it goes by the bare name, and is told which one apart.
    """
    return kind_of(metric) != "lm_eval" and (told_by(metric) is None or metric == kind_of(metric))


def is_known(metric: str) -> bool:
    """Whether there is such a metric."""
    return kind_of(metric) in BETTER


def better_of(metric: str) -> Direction | None:
    """Return which end of *metric* is the better one; None: neither is, or there is no such metric."""
    return BETTER.get(kind_of(metric))


def is_lower_better(metric: str) -> bool:
    """Whether a smaller value of *metric* is the better one."""
    return better_of(metric) == "lower"
