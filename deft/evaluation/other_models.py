"""What models beside the base say of stored answers: reward models and an encoder-decoder, one in memory at a time.

Knows the run; how each of them judges is in `reward_judges` and `bartscore`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deft.errors import InvalidInput
from deft.evaluation.bartscore import load_bart
from deft.evaluation.metrics import Measurement, measure_mean
from deft.evaluation.reward_judges import document_of, measure_rewards, rewards_of, sentence_of, validated
from deft.evaluation.state import Answered, Run, who_is
from deft.failures import failure_of
from deft.memory import noted
from deft.models.fit import measurable
from deft.reports import stop_if_asked
from deft.reward_models.model import load_reward_model


@dataclass(frozen=True, slots=True)
class Judged:
    """What other models said of the answers: numbers, what is on record of each reward model, and remarks."""

    measurements: list[Measurement] = field(default_factory=list)
    reward_models: list[dict[str, Any]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def judge_answers(run: Run, answers: Sequence[Answered]) -> Judged:
    """Let reward models and the encoder-decoder judge *answers*.

    One that turns out not to be usable is on record with its error, and the rest is kept.
    """
    found = Judged()
    if answers and measurable(run.spec) & {"reward", "reward_logit"}:
        run.report.phase("rewards")
        for index in range(len(run.judges)):
            _add_rewards(run, index, answers, found)
    if answers and run.bart is not None and "bartscore" in measurable(run.spec):
        run.report.phase("bartscore")
        try:
            found.measurements.extend(_bartscore(run, run.bart.folder, answers))
        except InvalidInput as error:
            found.remarks.append(f"BARTScore was not measured: {error.message}.")
    return found


def _add_rewards(run: Run, index: int, answers: Sequence[Answered], found: Judged) -> None:
    judge = run.judges[index]
    try:
        measured, document = _judged(run, index, answers)
    except InvalidInput as error:
        run.report.note(f"reward model {judge.name} cannot judge: {error.message}")
        document = {"id": judge.name, "weights_hash": judge.weights_hash, "failure": failure_of(error)}
        found.remarks.append(f"Reward model `{judge.name}` could not judge: {error.message}.")
    else:
        found.measurements.extend(measured)
        found.remarks.append(sentence_of(document))
    found.reward_models.append(document)


def _judged(run: Run, index: int, answers: Sequence[Answered]) -> tuple[list[Measurement], dict[str, Any]]:
    """Let one reward model judge all answers; it is gone when this returns."""
    judge, options = run.judges[index], run.spec.options
    model = load_reward_model(judge.folder, judge.pointer, on_halving=noted(run.report))
    accuracy = validated(judge, model, run.pairs.examples, run.pairs.clusters, options.seed, options.bootstrap)
    document = document_of(judge, accuracy, run.prompts.clusters)
    found: list[Measurement] = []
    for done, (adapter, own) in enumerate(zip(run.systems, answers, strict=True)):
        _tell(run, index * len(answers) + done, len(run.judges) * len(answers))
        logits = rewards_of(model, run.prompts.examples, [answer.text for answer in own.answers])
        who, is_valid = who_is(adapter), document["is_valid"]
        found += measure_rewards(judge, who, logits, run.prompts.clusters, is_valid=is_valid)
    return found, document


def _bartscore(run: Run, folder: Path, answers: Sequence[Answered]) -> list[Measurement]:
    """Return BARTScore of *answers* in its three directions, against the chosen responses."""
    scorer = load_bart(folder, noted(run.report))
    references = [example.responses[0] for example in run.prompts.examples]
    found = []
    for done, (adapter, own) in enumerate(zip(run.systems, answers, strict=True)):
        _tell(run, done, len(answers))
        texts = [answer.text for answer in own.answers]
        precision = scorer.log_likelihoods(references, texts)
        recall = scorer.log_likelihoods(texts, references)
        values = {"precision": precision, "recall": recall, "f": (precision + recall) / 2}
        who, clusters = who_is(adapter), run.prompts.clusters
        found += [measure_mean(f"bartscore_{name}", who, each, clusters) for name, each in values.items()]
    return found


def _tell(run: Run, done: int, total: int) -> None:
    run.report.progress(done, total, "systems")
    stop_if_asked(run.report)
