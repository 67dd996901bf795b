"""The metrics of generated answers: alone, and beside the chosen responses to the same prompts.

It must not know models, tokenizers or files. Definitions: docs/method.md, Evaluation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sacrebleu.metrics import BLEU

from deft.evaluation.metrics import BASE, Measurement, Who, measure_mean, measure_sums
from deft.evaluation.texts import are_repeated, character_bleu, distinct_counts, is_silent


@dataclass(frozen=True, slots=True)
class AnswerFacts:
    """What is counted of one generated answer.

    *tokens* are its own; *kl* to the base (None for the base) and *entropy* of the next token are sums in nats over
    its *kl_positions*, which are those tokens and the end token where the answer ended. None: not asked for.
    """

    text: str
    tokens: int
    is_ended: bool
    kl: float | None = None
    entropy: float | None = None

    @property
    def kl_positions(self) -> int:
        """Positions at which the model chose a token."""
        return self.tokens + self.is_ended


def measure_answers(
    who: Who, answers: Sequence[AnswerFacts], clusters: Sequence[Any], max_new_tokens: int
) -> list[Measurement]:
    """Return the metrics of generated *answers* that need nothing but them; of what was not asked for, none."""
    texts = [answer.text for answer in answers]
    tokens = np.array([answer.tokens for answer in answers], dtype=np.float64)
    found = [
        *_of_positions(who, answers, clusters),
        measure_mean("length", who, tokens, clusters, bounds=(0.0, float(max_new_tokens))),
        _share("ended", who, [answer.is_ended for answer in answers], clusters),
    ]
    for order in (1, 2):
        counts = np.array([distinct_counts(text, order) for text in texts], dtype=np.float64)
        distinct, every = counts.reshape(-1, 2).T
        found.append(measure_mean(f"distinct_{order}", who, distinct, clusters, counted=every, bounds=(0.0, 1.0)))
    found.append(_share("repeated", who, are_repeated(texts, clusters), clusters))
    found.append(_share("silent", who, [is_silent(text) for text in texts], clusters))
    return found


def _share(metric: str, who: Who, is_one: Sequence[bool], clusters: Sequence[Any]) -> Measurement:
    """Measure the share of answers that are one."""
    return measure_mean(metric, who, np.array(is_one, dtype=np.float64), clusters, bounds=(0.0, 1.0))


def _of_positions(who: Who, answers: Sequence[AnswerFacts], clusters: Sequence[Any]) -> list[Measurement]:
    """Return KL and entropy a token, where they were computed."""
    positions = np.array([answer.kl_positions for answer in answers], dtype=np.float64)
    is_base, found = who.system == BASE, []
    if is_base or any(answer.kl is not None for answer in answers):
        kl = np.array([answer.kl or 0.0 for answer in answers])
        found.append(measure_mean("kl", who, kl, clusters, counted=positions, is_by_definition=is_base))
    if any(answer.entropy is not None for answer in answers):
        entropy = np.array([answer.entropy or 0.0 for answer in answers])
        found.append(measure_mean("entropy", who, entropy, clusters, counted=positions))
    return found


def measure_against_references(
    who: Who, answers: Sequence[str], references: Sequence[str], clusters: Sequence[Any]
) -> list[Measurement]:
    """Return the metrics of *answers* beside *references*, the chosen responses to the same prompts."""
    pairs = list(zip(answers, references, strict=True))
    counts = np.array([bleu_counts(answer, reference) for answer, reference in pairs])
    characters = np.array([100 * character_bleu(answer, reference) for answer, reference in pairs])
    return [
        measure_sums("bleu", who, counts, clusters, bounds=(0.0, 100.0)),
        measure_mean("bleu_char_pro", who, characters, clusters, bounds=(0.0, 100.0)),
    ]


def bleu_counts(answer: str, reference: str) -> list[float]:
    """Return [answer tokens, reference tokens, 4 matched n-gram counts, 4 n-gram counts] of one sentence.

    sacrebleu's default tokenizer (13a), case kept.
    """
    score = BLEU().corpus_score([answer], [[reference]])
    return [score.sys_len, score.ref_len, *score.counts, *score.totals]


def bleu_signature() -> str:
    """Return sacrebleu's signature of the metric, for the settings."""
    metric = BLEU()
    metric.corpus_score(["a"], [["a"]])
    return str(metric.get_signature())
