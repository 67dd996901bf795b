"""One model at work on tokenised examples: R_d (M4-M5) and the mean hidden state of every response.

The model runs without its head; an example's responses share their prompt in one pass where the model can do that.
Knows no file and no data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from deft.budgets import SCORING_TOKENS
from deft.errors import ModelNotUsable, OutOfMemory
from deft.failures import is_out_of_memory
from deft.lanes import in_lanes
from deft.losses import mean_by_sequence
from deft.memory import in_halves, noted
from deft.models.loading import causal_model
from deft.models.rope import switching_tokens
from deft.packing import Pack, longest_row, plan, row_length, separate, shared, shares_prompts
from deft.reports import Report, Silent, stop_if_asked
from deft.reward import Direction, distribution_reward, response_rewards
from deft.tokens import TokenizedExample

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class Scores:
    """Of S responses, in order of example, then response (best first).

    *r_d* float64 [S]; *hidden* float32 [S, D], the mean of the final hidden states over the positions that predict the
    response (None under a soft-capped head); *tokens* int32 [S], T of each.
    """

    r_d: NDArray[np.float64]
    hidden: NDArray[np.float32] | None
    tokens: NDArray[np.int32]


def score_examples(
    model: nn.Module,
    tokenized: Sequence[TokenizedExample],
    direction: Direction,
    *,
    tokens_per_pass: int | None = None,
    share: bool | None = None,
    report: Report | None = None,
) -> Scores:
    """Return R_d (M4-M5) of every response of *tokenized*.

    The result does not depend on the order of the examples or on how they are packed, up to rounding.

    Args:
        model: a causal language model, base or with adapters.
        tokenized: the examples.
        direction: Q_diff under this model's head (`reward.head_direction`).
        tokens_per_pass: padded tokens of one forward pass; None decides by device. Halved when memory runs out.
        share: whether an example's responses share their prompt; None tries out whether the model can.
        report: told the progress, in examples; may ask to stop.

    Raises:
        ModelNotUsable: the model gives NaN, or a sequence is longer than the tokens at which LongRoPE changes the
            numbers of a whole pass (`deft.models.rope`).
        OutOfMemory: a single example does not fit.
        Interrupted: the report asked to stop.
    """
    scorer = Scorer(model, direction, tokens_per_pass, share, report or Silent())
    scorer.total = len(tokenized)
    return scorer.score(tokenized)


class Scorer:
    """One model at work: what is decided once (layout, budget) and what is counted on the way."""

    def __init__(
        self, model: nn.Module, direction: Direction, tokens_per_pass: int | None, share: bool | None, report: Report
    ) -> None:
        weight = next(p for p in model.parameters() if p.is_floating_point())
        self.model, self.direction, self.report, self.share = model, direction, report, share
        self.dtype, self.device = weight.dtype, weight.device
        self.budget = tokens_per_pass or SCORING_TOKENS.get(self.device.type, SCORING_TOKENS["cpu"])
        self.done = self.total = self.halvings = 0
        self.is_shared = False
        self._lock = Lock()

    def score(self, tokenized: Sequence[TokenizedExample]) -> Scores:
        """Return the scores of *tokenized*; `total` is set by the caller, `done` counts on from call to call."""
        self._refuse_switch(tokenized)
        starts = np.cumsum([0, *(len(example.response_ids) for example in tokenized)])
        scores = self._empty(tokenized, int(starts[-1]))
        self.is_shared = self._is_shared(tokenized)
        lengths = [self._length(example, self.is_shared) for example in tokenized]
        groups = plan(lengths, self.budget)

        def score_group(group: Sequence[int]) -> None:
            self._score_group(tokenized, group, starts, scores)

        stop_if_asked(self.report)
        with closing(in_lanes(score_group, groups, self.device)) as finished:
            for group, _ in zip(groups, finished, strict=True):
                self.done += len(group)
                self.report.progress(self.done, self.total, "examples")
                stop_if_asked(self.report)
        return scores

    def _empty(self, tokenized: Sequence[TokenizedExample], responses: int) -> Scores:
        tokens = np.array([len(ids) for example in tokenized for ids in example.response_ids], np.int32)
        width = self.direction.u.shape[0]
        hidden = np.empty((responses, width), np.float32) if self.direction.is_linear else None
        return Scores(np.empty(responses, np.float64), hidden, tokens)

    def _is_shared(self, tokenized: Sequence[TokenizedExample]) -> bool:
        if self.share is not None:
            return self.share
        return shares_prompts(self.model, longest_row(tokenized))

    def _refuse_switch(self, tokenized: Sequence[TokenizedExample]) -> None:
        """Refuse sequences beside which shorter ones of a pass would get other rotary factors."""
        most = switching_tokens(causal_model(self.model).config.get_text_config().to_dict())
        longest = max((len(e.prompt_ids) + len(ids) for e in tokenized for ids in e.response_ids), default=0)
        if most is not None and longest > most:
            raise ModelNotUsable(
                f"found a sequence of {longest} tokens, expected at most {most}: LongRoPE changes the numbers "
                "of a whole pass beyond that; cut the examples (max_total_tokens)"
            )

    @staticmethod
    def _length(example: TokenizedExample, is_shared: bool) -> int:
        if is_shared:
            return row_length(example)
        longest = max(len(ids) for ids in example.response_ids)
        return len(example.response_ids) * (len(example.prompt_ids) + longest - 1)

    def _score_group(
        self, tokenized: Sequence[TokenizedExample], group: Sequence[int], starts: NDArray[np.int64], scores: Scores
    ) -> None:
        """Score the examples *group* of *tokenized* into their places; in halves when memory runs out."""

        def work(part: Sequence[int]) -> None:
            examples = [tokenized[index] for index in part]
            at = np.concatenate([np.arange(starts[index], starts[index + 1]) for index in part])
            pack = shared(examples, self.dtype, self.device) if self.is_shared else separate(examples, self.device)
            self._score_pack(pack, scores, at)

        try:
            in_halves(group, work, self._halve)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise OutOfMemory("one example does not fit into memory") from error

    def _halve(self, examples: int) -> None:
        """Note that so many *examples* did not fit; windows to come are packed by half the budget."""
        with self._lock:  # lanes halve side by side
            self.halvings += 1
            self.budget = max(self.budget // 2, 1)
            noted(self.report)(examples)

    @torch.inference_mode()
    def _score_pack(self, pack: Pack, scores: Scores, at: NDArray[np.int64]) -> None:
        hidden = pack.hidden(self.model)
        if self.direction.is_linear:
            mean = mean_by_sequence(hidden, pack.sequence, pack.responses)
            r_d = distribution_reward(mean.double(), self.direction)
            assert scores.hidden is not None  # noqa: S101 -- made so by _empty
            scores.hidden[at] = mean.cpu().numpy()
        else:
            r_d = response_rewards(hidden, pack.sequence, pack.responses, self.direction)
        scores.r_d[at] = r_d.double().cpu().numpy()
        if not np.isfinite(scores.r_d[at]).all():
            raise ModelNotUsable(f"the model gives NaN or infinite states in {self.dtype}: score it in fp32 or bf16")
