"""The losses as pure functions of tensors: M7 (DPO), M8 (PRO), SFT, M9 (the DEFT term), log-probabilities in chunks.

Knows no model, batch layout, optimiser or file. Log-probabilities are in nats and float32.
"""

from deft.losses.logps import head_logits, logps_from_logits, response_logps
from deft.losses.objectives import Loss, dpo_loss, mean_over_step, pro_loss, sft_loss, with_reward_term
from deft.losses.sequences import mean_by_sequence, sum_by_sequence

__all__ = [
    "Loss",
    "dpo_loss",
    "head_logits",
    "logps_from_logits",
    "mean_by_sequence",
    "mean_over_step",
    "pro_loss",
    "response_logps",
    "sft_loss",
    "sum_by_sequence",
    "with_reward_term",
]
