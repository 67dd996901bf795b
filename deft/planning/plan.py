"""A job as the operations that it comes to, one after the other: what each works on, costs and needs.

A pipeline is planned as the child jobs that `deft.arms` makes of it. Knows specs and sources; no database, no queue.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from deft.arms import submit_children
from deft.errors import InvalidInput
from deft.models.fit import check_answers_fit, check_fit, check_measurable, chosen_metrics, measurable, require_lists
from deft.planning import passes, work
from deft.planning.documents import Memory
from deft.planning.judges import reading_flops
from deft.planning.lengths import Sample, capped
from deft.planning.passes import available_cores
from deft.planning.source import DataSource, Examples, ModelSource
from deft.planning.work import Cost, Counter
from deft.selection import resolve_keep
from deft.specs import (
    ApartFrom,
    CheckDataSpec,
    EvaluateSpec,
    JobSpec,
    JudgeSpec,
    Lora,
    MeasureOmegaSpec,
    Method,
    OperationSpec,
    PipelineSpec,
    ProMethod,
    Rows,
    ScoreSpec,
    SelectSpec,
    SftMethod,
    TrainRewardModelSpec,
    TrainSpec,
)
from deft.training.supervision import reward_source

Modelled = ScoreSpec | TrainSpec | MeasureOmegaSpec | EvaluateSpec


@dataclass
class Facts:
    """What became known of the rows on the way; None: no such operation, or not known yet."""

    counted: int | None = None
    scored: Examples | None = None
    kept: int | None = None
    keep_reason: str | None = None
    trained: Examples | None = None
    held_out: Examples | None = None


@dataclass
class Planner:
    """Walks over operations in the order of their inputs, and keeps what each gives to those behind it.

    *data* holds a source for each dataset or subset that a spec names, by the id in the spec; *outputs* what is known
    of the rows that come out of other artifacts and jobs.
    """

    model: ModelSource | None
    data: dict[str, DataSource]
    lora: Lora | None = None
    is_full: bool = False
    """Whether the spec asks for all weights to be tuned."""
    may_quantise: bool = True
    """Whether the spec takes an NF4 base: not where all weights are tuned, nor beside a harness that loads its own."""
    outputs: dict[str, Examples] = field(default_factory=dict)
    reward_models: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """The config.json of reward models by the ids in the spec, as far as they are known."""
    uncounted: list[str] = field(default_factory=list)
    """Reward models whose work is not counted."""
    costs: list[Cost] = field(default_factory=list)
    memory: dict[str, Memory] = field(default_factory=dict)
    cpu_training_bytes: int | None = None
    cores: int = field(default_factory=available_cores)
    """Of the CPU that a training would run on; by default those that this process may use."""
    facts: Facts = field(default_factory=Facts)

    def plan(self, spec: JobSpec) -> None:
        """Plan *spec*, a pipeline as its children; what came of it is in the attributes.

        Raises:
            InvalidInput: what a worker would refuse later: rows, tokens, settings that do not fit each other.
            ModelNotUsable: the model, its head, its tokenizer or its context.
        """
        self.lora = getattr(spec, "lora", None)
        self.is_full = self.lora is None and hasattr(spec, "lora")
        self.may_quantise = not self.is_full and getattr(spec, "lm_eval", None) is None
        if not isinstance(spec, PipelineSpec):
            self._add(spec.kind, spec)
            return
        try:
            submit_children(spec, self._add)
        except InvalidInput as error:
            raise _of_pipeline(error) from error

    def learn(self, key: str, spec: JobSpec) -> None:
        """Learn which rows will come out of a job that is still to run, whose inputs are known already."""
        if isinstance(spec, ScoreSpec):
            self.outputs[key] = self._rows(spec.dataset, spec)
        elif isinstance(spec, SelectSpec):
            self.outputs[key] = self._selected(spec)[0]

    def _add(self, name: str, spec: OperationSpec) -> str:
        """Plan one operation and return the id under which its output is known."""
        key = f"planned-{len(self.costs)}-{len(self.outputs)}"
        if isinstance(spec, CheckDataSpec):
            found = self._check_data(name, spec)
        elif isinstance(spec, SelectSpec):
            found = self._select(name, spec)
        elif isinstance(spec, ScoreSpec):
            found = self._score(name, spec)
        elif isinstance(spec, TrainRewardModelSpec):
            found = self._train_reward_model(name, spec)
        elif isinstance(spec, EvaluateSpec):
            found = self._evaluate(name, spec)
        elif isinstance(spec, JudgeSpec):
            found = self._judge(name)
        else:
            found = self._train(name, spec)
        self.outputs[key] = found
        return key

    def _check_data(self, name: str, spec: CheckDataSpec) -> Examples:
        source = self.data.get(spec.dataset)
        found = self._unknown() if source is None else source.examples(Rows())
        self.costs.append(work.without_model("check_data", found.rows, name))
        return found

    def _score(self, name: str, spec: ScoreSpec) -> Examples:
        found = self.facts.scored = self._rows(spec.dataset, spec)
        source = self.data.get(spec.dataset)
        self.facts.counted = None if source is None else source.examples(spec.count_rows).rows
        counter = self._counter(spec)
        if counter is not None and found.rows is not None:
            self.costs.append(work.scoring(counter, found.sample, found.rows, name))
            self._note(passes.scoring_memory(counter, found.sample, found.rows, spec, self._parameters))
        return found

    def _select(self, name: str, spec: SelectSpec) -> Examples:
        found, reason = self._selected(spec)
        if self.facts.kept is None:
            self.facts.kept, self.facts.keep_reason = found.rows, reason
        self.costs.append(work.without_model("select", found.rows, name))
        return found

    def _selected(self, spec: SelectSpec) -> tuple[Examples, str | None]:
        scored = self.outputs.get(spec.scoring)
        if scored is None or scored.rows is None:
            return self._unknown(), None
        selection = spec.selection
        count, reason = resolve_keep(selection.keep, scored.rows)
        if selection.count is not None:
            count, reason = min(selection.count, scored.rows), f"a count of {selection.count:,} was asked for"
        is_longest = selection.end == "length"
        sample = scored.sample.longest_chosen(count / scored.rows) if is_longest else scored.sample
        return Examples(count, sample), reason

    def _train(self, name: str, spec: TrainSpec | MeasureOmegaSpec) -> Examples:
        found = self.facts.trained = self._rows(spec.data, spec)
        source = self.data.get(spec.data)
        if isinstance(spec.method, ProMethod) and spec.method.rewards == "scores" and source is not None:
            reward_source(spec.method, has_scores=source.has_scores(spec.rows))
        counter = self._counter(spec, spec.method)
        if counter is not None and found.rows is not None:
            self.costs.append(self._training_cost(counter, found, spec, name))
            sample = found.sample.picked(spec.method)
            self._note(
                passes.training_memory(counter, sample, found.rows, spec.lora, spec.optimisation, self._parameters)
            )
            on_cpu = passes.cpu_training_bytes(
                counter, sample, found.rows, spec.lora, spec.optimisation, self._parameters, cores=self.cores
            )
            self.cpu_training_bytes = max(on_cpu, self.cpu_training_bytes or 0)
        return found

    @staticmethod
    def _training_cost(counter: Counter, found: Examples, spec: TrainSpec | MeasureOmegaSpec, name: str) -> Cost:
        method, optimisation, rows = spec.method, spec.optimisation, found.rows or 0
        if isinstance(spec, MeasureOmegaSpec):
            return work.calibration(counter, found.sample, rows, method, optimisation, name)
        return work.training(counter, found.sample, rows, method, optimisation, drift=spec.drift, name=name)

    def _train_reward_model(self, name: str, spec: TrainRewardModelSpec) -> Examples:
        """Count the rows and check the context; tokens and FLOPs of a classifier are not counted."""
        source, sample = self.data.get(spec.dataset), capped(spec.tokens)
        found = Examples(None if source is None else len(source.numbers(spec.rows)), sample)
        if self.model is not None:
            context = self.model.size("max_position_embeddings")
            check_fit(spec.tokens, tokenizer_tokens=None, vocabulary_size=None, context_tokens=context)
        self.costs.append(work.without_model("train_reward_model", found.rows, name))
        return found

    def _evaluate(self, name: str, spec: EvaluateSpec) -> Examples:
        options = spec.options
        check_measurable(spec, pointer="/options/metrics")
        found = self.facts.held_out = self._held_out(spec)
        self._require_lists(spec)
        counter = self._counter(spec)
        is_counted = bool(options.prompts) and found.sample.basis == "counted"
        if self.model is not None and (is_counted or spec.prompt_sets):
            longest = found.sample.largest(lambda sizes: sizes.prompt) if is_counted else 0
            check_answers_fit(
                longest_prompt_tokens=spec.tokens.max_prompt_tokens if spec.prompt_sets else longest,
                max_new_tokens=options.max_new_tokens,
                context_tokens=self.model.size("max_position_embeddings"),
                switching_tokens=self.model.switching_tokens,
                pointer="/options/max_new_tokens",
            )
        if counter is not None and found.rows is not None:
            pairs = min(found.rows, options.pairs or found.rows)
            held_out = min(options.prompts, found.prompts or found.rows) * options.answers_each
            prompts = held_out + self._answers_to_sets(spec)
            sample = found.sample
            cost = work.evaluation(counter, sample, pairs, prompts, spec, name)
            self.costs.append(self._with_reward_models(cost, spec, sample, held_out))
            self._note(passes.evaluation_memory(counter, sample, pairs, prompts, spec, self._parameters))
        return found

    def _with_reward_models(self, cost: Cost, spec: EvaluateSpec, sample: Sample, answers: int) -> Cost:
        """Return *cost* with the reading of *answers* a system, each as long as it may be, by every reward model.

        The rows on which one without a record is tried are left out.
        """
        if not measurable(spec) & {"reward", "reward_logit"} or not answers:
            return cost
        tokens = sample.mean(lambda sizes: sizes.prompt) + spec.options.max_new_tokens
        read = answers * (len(spec.systems) + 1)
        for name in [*spec.reward_models, *spec.training_reward_models]:
            each = reading_flops(self.reward_models.get(name, {}), tokens)
            if each is None:
                self.uncounted.append(name)
            else:
                cost = work.with_reading(cost, read * tokens, read * each)
        return cost

    def _answers_to_sets(self, spec: EvaluateSpec) -> int:
        """Return how many answers each system gives to prompt sets, as far as they are known."""
        known = [self.outputs[name].rows or 0 for name in spec.prompt_sets if name in self.outputs]
        return sum(known) * (1 if spec.options.sampling is None else spec.options.sampling.repeats)

    def _judge(self, name: str) -> Examples:
        self.costs.append(work.without_model("judge", None, name))
        return self._unknown()

    def _held_out(self, spec: EvaluateSpec) -> Examples:
        source = self.data.get(spec.dataset)
        if source is None:
            return self._unknown()
        return source.examples(spec.rows, self._apart(spec))

    def _require_lists(self, spec: EvaluateSpec) -> None:
        source, chosen = self.data.get(spec.dataset), chosen_metrics(spec)
        if source is not None and "ranking_accuracy" in chosen:
            has_lists = source.has_lists(spec.rows, self._apart(spec))
            require_lists(chosen, has_lists=has_lists, pointer="/options/metrics")

    def _apart(self, spec: EvaluateSpec) -> tuple[Path, ApartFrom] | None:
        trained = None if spec.apart_from is None else self.data.get(spec.apart_from.dataset)
        return None if spec.apart_from is None or trained is None else (trained.folder, spec.apart_from)

    def _rows(self, name: str, spec: ScoreSpec | TrainSpec | MeasureOmegaSpec) -> Examples:
        """Return what is known of the rows of *name*: another operation's output, or those that the spec asks for."""
        if name in self.outputs:
            return self.outputs[name]
        source = self.data.get(name)
        return replace(self._unknown(), sample=capped(spec.tokens)) if source is None else source.examples(spec.rows)

    @staticmethod
    def _unknown() -> Examples:
        return Examples(None, capped(ScoreSpec(dataset="unknown", model="unknown").tokens))

    def _counter(self, spec: Modelled, method: Method | None = None) -> Counter | None:
        """Check the model against *spec* and return what counts its FLOPs, None where its shape is not known."""
        if self.model is None:
            return None
        self.model.check(spec.tokens, self.lora)
        shape = self.model.shape
        if shape is None:
            return None
        longest = spec.tokens.max_total_tokens + (not isinstance(spec, ScoreSpec))
        fits_window = shape.window_tokens is None or longest <= shape.window_tokens
        trained = 0 if self.lora is None else shape.lora_parameters(self.lora)
        is_shared = fits_window and not isinstance(method, SftMethod)
        return Counter(shape, trained, is_shared, is_full=self.is_full, may_quantise=self.may_quantise)

    @property
    def _parameters(self) -> int:
        found = None if self.model is None else self.model.parameters
        return found or 0

    def _note(self, found: Memory) -> None:
        """Keep the largest need of each operation."""
        known = self.memory.get(found.operation)
        if known is None or known.peak_bytes < found.peak_bytes:
            self.memory[found.operation] = found


PIPELINE_POINTERS = {"/options": "/evaluation", "/rows": "/split"}
"""Where a pipeline has what its child jobs have elsewhere."""


def _of_pipeline(error: InvalidInput) -> InvalidInput:
    """Return *error* of a child job with the pointers of the pipeline's own fields."""
    findings = []
    for finding in error.findings:
        own = finding.pointer or ""
        old = next((old for old in PIPELINE_POINTERS if own.startswith(old)), "")
        changed = PIPELINE_POINTERS.get(old, "") + own.removeprefix(old)
        findings.append(replace(finding, pointer=changed or finding.pointer))
    return type(error)(error.message, code=error.error_code, findings=findings)
