"""What the steps of one evaluation share: the run, its answers, and the settings that its numbers depend on."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import nn

from deft.evaluation.generation import RECIPE, Answer, Decoding
from deft.evaluation.held_out import HeldOut
from deft.evaluation.intervals import Array
from deft.evaluation.likelihoods import Pass
from deft.evaluation.metrics import BASE, RULES, AnswerFacts, Who, bleu_signature
from deft.evaluation.systems import Adapter, Resident
from deft.models.fit import GENERATED_METRICS
from deft.models.quantisation import numbers_of
from deft.reports import Report, stop_if_asked
from deft.reward import direction_of, head_of
from deft.specs import EvaluateSpec
from deft.tokens import tokenizer_hash

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer


@dataclass(frozen=True, slots=True)
class Run:
    """All that the steps of one evaluation share.

    *left_out* rows had the prompt of a row that was trained on; *warnings* are those of the scoring about its Q_diff.
    """

    spec: EvaluateSpec
    resident: Resident
    tokenizer: "Tokenizer"
    adapters: list[Adapter]
    pairs: HeldOut
    prompts: HeldOut
    how: Pass
    decoding: Decoding
    report: Report
    left_out: int
    warnings: list[str]
    q_diff: Array | None = None
    """Where R_d is measured."""

    @property
    def systems(self) -> list[Adapter | None]:
        """The base, then every adapter."""
        return [None, *self.adapters]

    def how_of(self, adapter: Adapter | None, model: nn.Module) -> Pass:
        """Return how passes of the lent *model* are made: a tuned model is read through a head of its own."""
        if adapter is None or not adapter.is_whole:
            return self.how
        head = head_of(model)
        return replace(self.how, head=head, direction=None if self.q_diff is None else direction_of(head, self.q_diff))

    def progress(self, system: int, each: int, unit: str) -> Callable[[int], None]:
        """Return what a loop over *each* units of the *system*-th system calls with the number done."""

        def on_progress(done: int) -> None:
            self.report.progress(system * each + done, len(self.systems) * each, unit)
            stop_if_asked(self.report)

        return on_progress


@dataclass(frozen=True, slots=True)
class Answered:
    """The answers of one system, and the KL of each to the base (None: not asked for, or the base itself)."""

    answers: list[Answer]
    divergences: list[float] | None

    def facts(self) -> list[AnswerFacts]:
        """Return what metrics count of each answer."""
        kl: list[float | None] = [*self.divergences] if self.divergences else [None] * len(self.answers)
        return [AnswerFacts(a.text, len(a.ids), a.is_ended, d) for a, d in zip(self.answers, kl, strict=True)]


def who_is(adapter: Adapter | None) -> Who:
    """Return the system of *adapter*; None is the base."""
    if adapter is None:
        return Who(BASE, BASE)
    return Who(adapter.system.name, adapter.system.arm, adapter.has_reward_term)


def generates(spec: EvaluateSpec) -> bool:
    """Return whether *spec* asks for answers."""
    return spec.options.prompts > 0 and bool(GENERATED_METRICS & set(spec.options.metrics))


def settings_of(run: Run, base_hash: str) -> dict[str, dict[str, Any]]:
    """Return, for each metric, everything that its number depends on but the system itself.

    Equal settings are what makes numbers of two evaluations comparable; their hash stands beside every number.
    """
    options = run.spec.options
    common = {
        "base_weights": base_hash,
        "tokenizer": tokenizer_hash(run.tokenizer),
        "tokens": run.spec.tokens.model_dump(mode="json"),
        "precision": numbers_of(run.resident.base, run.how.head.weight.dtype),
        "bootstrap": options.bootstrap,
        "seed": options.seed,
    }
    likelihood = {"pairs": run.pairs.fingerprint, "end_id": run.how.end_id}
    generated = {
        "prompts": run.prompts.fingerprint,
        "decoding": RECIPE,
        "max_new_tokens": options.max_new_tokens,
        "end_ids": sorted(run.decoding.end_ids),
    }
    own: dict[str, dict[str, Any]] = {
        "preference_accuracy": {"beta": options.beta},
        "margin": {"beta": options.beta},
        "r_d_accuracy": {"q_diff": _direction_hash(run.how)},
        "bleu": {"signature": bleu_signature()},
    }
    return {
        metric: {"metric": metric, "version": rule.version}
        | common
        | (generated if metric in (*GENERATED_METRICS, "ended") else likelihood)
        | own.get(metric, {})
        for metric, rule in RULES.items()
    }


def _direction_hash(how: Pass) -> str | None:
    if how.direction is None:
        return None
    vector = how.direction.u if how.direction.q_diff is None else how.direction.q_diff
    return hashlib.sha256(vector.float().cpu().numpy().tobytes()).hexdigest()


def hash_of(value: Any) -> str:  # noqa: ANN401 -- any JSON
    """Return the SHA-256, in hex, of the sorted JSON of *value*."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
