"""Evaluate one base and any number of adapters or tuned models on held-out rows, and compare them.

One base stays in memory, adapters are swapped on it and tuned models loaded beside it; the base's likelihoods are
computed once. The operation turns a spec and input folders into metrics.json, values.parquet, pairs.parquet,
generations.jsonl, comparison.json and evaluation.json. No text of a row goes into the summary or the log.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deft import distribution
from deft.budgets import EVALUATION_TOKENS, GENERATION_TOKENS
from deft.distribution import require_same_tokenizer
from deft.endpoints import Endpoint
from deft.evaluation import harness
from deft.evaluation.answer_journals import AnswerJournals
from deft.evaluation.answer_sets import (
    answer_sets,
    by_slice_or_rate,
    check_sets_fit,
    safety_of_sets,
    settings_of_sets,
    write_sets,
)
from deft.evaluation.answers import measure_against_references, measure_answers
from deft.evaluation.asked import HELD_OUT
from deft.evaluation.conversations import read_sets
from deft.evaluation.engines import Engines
from deft.evaluation.files import write_comparison, write_generations, write_json, write_pairs
from deft.evaluation.general_text import load_texts
from deft.evaluation.generation import Answer, Decoding, Questions, end_ids
from deft.evaluation.held_out import HeldOut, held_out_rows, load_held_out, require_references
from deft.evaluation.intervals import Array
from deft.evaluation.kept_likelihoods import KeptLikelihoods
from deft.evaluation.likelihoods import AnswerSums, Pass, answer_sums
from deft.evaluation.metrics import (
    Measurement,
    PairScores,
    measure_length_baseline,
    measure_pairs,
    wanted,
)
from deft.evaluation.other_models import judge_answers
from deft.evaluation.reward_judges import open_judges
from deft.evaluation.sampling import seed_of
from deft.evaluation.served import rows_named
from deft.evaluation.settings import hash_of, settings_of
from deft.evaluation.state import Answered, NamedModel, Run, who_is
from deft.evaluation.system_checkpoints import SystemCheckpoints, open_checkpoints
from deft.evaluation.system_likelihoods import base_facts, likelihoods, pass_facts, text_measurements
from deft.evaluation.systems import Adapter, Resident, open_adapters
from deft.memory import noted
from deft.models.files import config_hash
from deft.models.fit import (
    REFERENCE_METRICS,
    answers_prompts,
    check_answers_fit,
    check_measurable,
    measurable,
)
from deft.models.loading import check_settings, load_base, load_tokenizer, weights_hash
from deft.models.rope import switching_tokens
from deft.packing import longest_row, shares_prompts
from deft.reports import Report, stop_if_asked
from deft.reward import direction_of, head_of
from deft.reward_models.heads import require_encoder_decoder
from deft.scoring.counting import warnings_in
from deft.specs import EvaluateSpec, Sampling, spec_hash
from deft.tokens import TokenizedExample, end_token_id, tokenizer_hash

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers import PreTrainedTokenizerBase as Tokenizer


def run_evaluate(
    spec: EvaluateSpec,
    *,
    inputs: Mapping[str, Path],
    out: Path,
    checkpoints: Path | None,
    report: Report,
    cache: Path | None = None,
    endpoint: Endpoint | None = None,
) -> dict[str, Any]:
    """Evaluate as *spec* asks, write the evaluation's files to *out* and return its summary.

    In *cache* likelihoods and, prompt by prompt, answers are kept: one that was interrupted goes on with them, and
    others take them for the same systems. Without one, answers are kept in *checkpoints*, as what lm-evaluation-harness
    measured always is.

    Raises:
        InvalidInput: nothing is held out, nothing is left to measure, an adapter is unknown or of another base, or
            prompts and answers do not fit the model's context, or *checkpoints* are of another evaluation.
        ModelNotUsable: the base or an adapter does not load.
        Interrupted: the report asks to stop.
    """
    started = time.monotonic()
    program = harness.program_of(spec)
    report.phase("loading")
    base_hash = weights_hash(inputs["model"])
    run = replace(_prepare(spec, inputs, base_hash, report), sets=read_sets(spec, inputs), endpoint=endpoint)
    run = _with_kept(run, base_hash, cache, checkpoints)
    check_sets_fit(run)
    settings, of_sets = settings_of(run, base_hash), settings_of_sets(run, base_hash)
    own_checkpoints = open_checkpoints(run, hash_of([settings, of_sets]), checkpoints)
    scores = likelihoods(run)
    texts = text_measurements(run)
    answers = _answers(run, own_checkpoints)
    write_generations(run, answers, out / "generations.jsonl")
    answered_sets = answer_sets(run, own_checkpoints)
    judged = judge_answers(run, answers)
    report.phase("comparing")
    parts = [
        (run.pairs, _pair_measurements(run, scores)),
        (run.prompts, [*_answer_measurements(run, answers), *judged.measurements]),
    ]
    parts += texts
    parts = [(rows, wanted(measured, spec.options.metrics)) for rows, measured in parts]
    safety = safety_of_sets(run, answered_sets)
    incoherence = [] if safety is None else safety["differences"]
    summary = write_comparison(run, parts, scores, settings, judged, out, incoherence)
    write_pairs(run, scores, out / "pairs.parquet")
    summary |= write_sets(run, answered_sets, safety, inputs, of_sets, out)
    settings |= by_slice_or_rate(run, of_sets)
    if program is not None:
        measured = _by_harness(run, program, inputs["model"], own_checkpoints)
        told, of_harness = harness.write_results(run, measured, base_hash, out)
        summary, settings = summary | told, settings | of_harness
    summary |= {"generated_by": run.engines.used, "reused": asdict(run.reused)}
    summary |= {"seconds": round(time.monotonic() - started, 1)}
    write_json(out / "evaluation.json", {**summary, "settings": settings})
    _end(run)
    return summary


def _end(run: Run) -> None:
    """Put on record what was reused, and let go of answers that nobody is to take."""
    run.journals.end()
    if run.reused.words():
        run.report.note(run.reused.words())


def _with_kept(run: Run, base_hash: str, cache: Path | None, checkpoints: Path | None) -> Run:
    """Return *run* with what was kept of earlier evaluations, and where it keeps its own."""
    facts = base_facts(run, base_hash)
    likelihoods = KeptLikelihoods(cache, facts | pass_facts(run.how))
    facts_of_answers = facts | {"tokenizer": tokenizer_hash(run.tokenizer)}
    root, job = cache or checkpoints, spec_hash(run.spec)
    journals = AnswerJournals(root, facts_of_answers, job, run.reused, run.report.note)
    return replace(run, likelihoods=likelihoods, journals=journals)


def _prepare(spec: EvaluateSpec, inputs: Mapping[str, Path], base_hash: str, report: Report) -> Run:
    check_measurable(spec, pointer="/options/metrics")
    judges, bart = open_judges(spec, inputs), _bart(inputs.get("bartscore_model"))
    folders = [inputs.get(f"adapter.{index}") for index in range(len(spec.systems))]
    adapters = open_adapters(spec.systems, folders, base_hash)
    tokenizer = load_tokenizer(inputs["model"])
    rows, left_out = held_out_rows(spec, inputs)
    size = check_settings(inputs["model"], tokenizer, spec.tokens)
    end_id = end_token_id(tokenizer, size)
    pairs, prompts = load_held_out(spec, inputs["dataset"], rows, tokenizer, size)
    if answers_prompts(spec):
        asked = [metric for metric in REFERENCE_METRICS if metric in measurable(spec)]
        require_references(prompts.examples, asked, spec.options.metrics)
    prompts = prompts.repeated(spec.options.answers_each)
    texts = load_texts(spec, inputs["general_dataset"], tokenizer) if "general_dataset" in inputs else None
    base = load_base(inputs["model"], quantisation=spec.quantisation)
    _refuse_long_prompts(spec, base, prompts)
    q_diff = _q_diff(spec, tokenizer, inputs.get("scoring"))
    is_shared = shares_prompts(base, longest_row(pairs.tokenized))
    how = _passes(base, end_id, q_diff, report, is_shared=is_shared)
    warnings = warnings_in(inputs["scoring"]) if "scoring" in inputs else []
    together = GENERATION_TOKENS.get(base.device.type, GENERATION_TOKENS["cpu"])
    decoding = Decoding(spec.options.max_new_tokens, end_ids(base, end_id), together, how.on_halving)
    resident = Resident(base, spec.quantisation)
    return Run(
        *(spec, resident, tokenizer, adapters, pairs, prompts, how, decoding, report, left_out, warnings, q_diff),
        judges=judges,
        bart=bart,
        texts=texts,
        engines=Engines(spec.options.engine),
        config_hash=config_hash(inputs["model"]),
    )


def _bart(folder: Path | None) -> NamedModel | None:
    if folder is None:
        return None
    require_encoder_decoder(folder, "/bartscore_model")
    return NamedModel(folder, weights_hash(folder))


def _q_diff(spec: EvaluateSpec, tokenizer: "Tokenizer", scoring: Path | None) -> Array | None:
    """Return the Q_diff of *scoring* where R_d is asked for."""
    if scoring is None or "r_d_accuracy" not in spec.options.metrics:
        return None
    counted = distribution.load(scoring / "distribution.safetensors")
    require_same_tokenizer(counted, tokenizer)
    return counted.q_diff


def _passes(base: "PreTrainedModel", end_id: int, q_diff: Array | None, report: Report, *, is_shared: bool) -> Pass:
    """Return how the forward passes of the base and its adapters are made."""
    head = head_of(base)
    direction = None if q_diff is None else direction_of(head, q_diff)
    budget = EVALUATION_TOKENS.get(head.weight.device.type, EVALUATION_TOKENS["cpu"])
    return Pass(head, end_id, is_shared, budget, direction, noted(report))


def _answers(run: Run, checkpoints: SystemCheckpoints) -> list[Answered]:
    """Let every system answer the prompts, the base first."""
    if not answers_prompts(run.spec):
        return []
    run.report.phase("answers")
    answers = []
    for index in range(len(run.systems)):
        answers.append(_answered(run, index))
        checkpoints.add_answered()
    return answers


def _answered(run: Run, index: int) -> Answered:
    """Let one system answer the prompts; its model is gone when this returns."""
    adapter = run.systems[index]
    on_progress = run.progress(index, len(run.prompts.rows), "answers")
    prompts = [example.prompt_ids for example in run.prompts.tokenized]
    sampling = run.spec.options.held_out_sampling
    questions = Questions(prompts, run.prompts.cut_at_marks, _seeds(run, sampling))
    with run.resident.system(adapter) as model:
        answering = run.answering(adapter, model, sampling)
        with rows_named(lambda place: f"row {run.prompts.rows[place]} of {HELD_OUT}"):
            answers = answering(questions, on_progress)
        has_kl = adapter is not None and "kl" in run.spec.options.metrics
        has_entropy = "entropy" in run.spec.options.metrics
        if not has_kl and not has_entropy:
            return Answered(answers, None)
        sums = _sums(run, adapter, model, answers, has_kl=has_kl)
        return Answered(answers, sums.divergences, sums.entropies if has_entropy else None)


def _by_harness(run: Run, program: str, base: Path, checkpoints: SystemCheckpoints) -> list[dict[str, Any]]:
    """Let lm-evaluation-harness measure every system, or those that it has not yet; the base makes room first."""
    if run.spec.lm_eval is None:
        return []
    run.resident.make_room()
    known, measured = dict(checkpoints.results), []
    for own in harness.measure_systems(run, program, run.spec.lm_eval, base, known):
        measured.append(own)
        if "text" in own and own["text"] != known.get(own["system"]):
            checkpoints.add_results(own["system"], own["text"])
    return measured


def _seeds(run: Run, sampling: Sampling | None) -> list[int] | None:
    """Return the seed of each answer, the same for every system; None: greedy."""
    if sampling is None:
        return None
    places = zip(run.prompts.rows, run.prompts.samples, strict=True)
    return [seed_of(sampling.seed, HELD_OUT, row, sample, 1) for row, sample in places]


def _sums(
    run: Run,
    adapter: Adapter | None,
    model: Any,  # noqa: ANN401 -- base, PEFT or tuned model
    answers: list[Answer],
    *,
    has_kl: bool,
) -> AnswerSums:
    """Return entropy and, with *has_kl*, KL to the base of the active system over each of its own answers."""
    examples = [
        TokenizedExample(example.prompt_ids, [answer.chosen_ids], [True])
        for example, answer in zip(run.prompts.tokenized, answers, strict=True)
    ]

    def base_hidden(pack: Any) -> Any:  # noqa: ANN401 -- as Pack.hidden
        with run.resident.without_adapter():
            return pack.hidden(run.resident.base)

    return answer_sums(
        lambda pack: pack.hidden(model),
        base_hidden if has_kl else None,
        examples,
        run.how_of(adapter, model),
        lambda _: stop_if_asked(run.report),
        base_head=run.how.head,
    )


def _pair_measurements(run: Run, scores: list[PairScores]) -> list[Measurement]:
    found = [measure_length_baseline(scores[0], run.pairs.clusters)] if scores else []
    for adapter, own in zip(run.systems, scores, strict=False):
        found += measure_pairs(who_is(adapter), own, scores[0], run.pairs.clusters, run.spec.options.beta)
    return found


def _answer_measurements(run: Run, answers: list[Answered]) -> list[Measurement]:
    found: list[Measurement] = []
    clusters = run.prompts.clusters
    for adapter, own in zip(run.systems, answers, strict=False):
        who, facts = who_is(adapter), own.facts()
        found += measure_answers(who, facts, clusters, run.decoding.max_new_tokens)
        if {"bleu", "bleu_char_pro"} & set(run.spec.options.metrics):
            references = [example.responses[0] for example in run.prompts.examples]
            found += measure_against_references(who, [fact.text for fact in facts], references, clusters)
    return found


def _refuse_long_prompts(spec: EvaluateSpec, base: "PreTrainedModel", prompts: HeldOut) -> None:
    """Refuse prompts that leave no room for the answer in the model's context."""
    if answers_prompts(spec):
        settings = base.config.get_text_config()
        check_answers_fit(
            longest_prompt_tokens=max((len(example.prompt_ids) for example in prompts.tokenized), default=0),
            max_new_tokens=spec.options.max_new_tokens,
            context_tokens=getattr(settings, "max_position_embeddings", None),
            switching_tokens=switching_tokens(settings.to_dict()),
            pointer="/options/max_new_tokens",
        )
