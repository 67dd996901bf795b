"""What the steps of one evaluation share: the run and its answers."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from deft.endpoints import Endpoint
from deft.evaluation.answer_journals import AnswerJournals
from deft.evaluation.answers import AnswerFacts
from deft.evaluation.asked import Asked
from deft.evaluation.conversations import Answering, in_memory
from deft.evaluation.engines import Engines
from deft.evaluation.generation import RECIPE as GREEDY
from deft.evaluation.generation import Answer, Decoding
from deft.evaluation.held_out import HeldOut
from deft.evaluation.intervals import Array
from deft.evaluation.kept_likelihoods import KeptLikelihoods
from deft.evaluation.likelihoods import Pass
from deft.evaluation.metrics import BASE, Who
from deft.evaluation.reuse import Reused
from deft.evaluation.reward_judges import RewardJudge
from deft.evaluation.sampling import RECIPE as SAMPLED
from deft.evaluation.served import RECIPE as SERVED
from deft.evaluation.served import by_server
from deft.evaluation.systems import Adapter, Resident
from deft.reports import Report, stop_if_asked
from deft.reward import direction_of, head_of
from deft.specs import EvaluateSpec, EvaluationOptions, Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A model beside the base, by its folder and the hash of its weights."""

    folder: Path
    weights_hash: str


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
    judges: list[RewardJudge] = field(default_factory=list)
    bart: NamedModel | None = None
    texts: HeldOut | None = None
    """A general text, where perplexity is measured."""
    sets: Sequence[Asked] = ()
    """The prompts of the sets."""
    endpoint: Endpoint | None = None
    """Where a server generates."""
    engines: Engines = field(default_factory=Engines)
    config_hash: str = ""
    """Of the base's config.json (`deft.models.files`)."""
    likelihoods: KeptLikelihoods = field(default_factory=KeptLikelihoods)
    """Those of earlier evaluations."""
    journals: AnswerJournals = field(default_factory=AnswerJournals)
    """The answers of earlier evaluations, and of this one as they come."""
    reused: Reused = field(default_factory=Reused)

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

    def answering(self, adapter: Adapter | None, model: nn.Module, sampling: Sampling | None = None) -> Answering:
        """Return what answers as *adapter*'s system: the lent *model*, or the server where the spec names one.

        Raises:
            InvalidInput: there is no endpoint.
        """
        server, system = self.spec.options.server, who_is(adapter).system
        context = self._context_of(adapter, sampling)
        if server is None:
            own = (model, self.tokenizer, self.decoding, sampling, self.engines, system)
            return in_memory(*own, lambda engine: self.journals.open({**context, "engine": engine}))
        self.engines.note(system, "server")
        served = by_server(self.endpoint, server, system, self.tokenizer, self.decoding, sampling)
        whom = {"url": served.endpoint.url, "model": server.models[system]}
        return partial(self.journals.open_served(context | whom).complete, served)

    def _context_of(self, adapter: Adapter | None, sampling: Sampling | None) -> dict[str, str]:
        """Return what answers as *adapter*'s system depend on, but the base and the prompts with their seeds."""
        drawn = {} if sampling is None else sampling.model_dump(mode="json", include={"temperature", "top_p"})
        return {
            "system": "" if adapter is None else adapter.files_hash,
            "decoding": decoding_of(self.spec.options, sampling),
            "sampling": json.dumps(drawn, sort_keys=True),
            "max_new_tokens": str(self.decoding.max_new_tokens),
            "end_ids": json.dumps(sorted(self.decoding.end_ids)),
        }

    def progress(self, system: int, each: int, unit: str) -> Callable[[int], None]:
        """Return what a loop over *each* units of the *system*-th system calls with the number done."""

        def on_progress(done: int) -> None:
            self.report.progress(system * each + done, len(self.systems) * each, unit)
            stop_if_asked(self.report)

        return on_progress


@dataclass(frozen=True, slots=True)
class Answered:
    """The answers of one system, and sums over each: its KL to the base, its entropy.

    None: not asked for, or the KL of the base itself.
    """

    answers: list[Answer]
    divergences: list[float] | None
    entropies: list[float] | None = None

    def facts(self) -> list[AnswerFacts]:
        """Return what metrics count of each answer."""
        nothing: list[float | None] = [None] * len(self.answers)
        columns = (self.divergences or nothing, self.entropies or nothing)
        return [
            AnswerFacts(answer.text, len(answer.ids), answer.is_ended, kl, entropy)
            for answer, kl, entropy in zip(self.answers, *columns, strict=True)
        ]


def who_is(adapter: Adapter | None) -> Who:
    """Return the system of *adapter*; None is the base."""
    if adapter is None:
        return Who(BASE, BASE)
    return Who(adapter.system.name, adapter.system.arm, adapter.has_reward_term)


def decoding_of(options: EvaluationOptions, sampling: Sampling | None) -> str:
    """Return name and version of how prompts are answered that are answered by *sampling*, or greedily."""
    if options.server is not None:
        return f"{SERVED}:{options.server.endpoint}"
    return GREEDY if sampling is None else SAMPLED
