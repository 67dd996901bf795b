"""Whether a tokenizer and token limits fit a model, and whether an evaluation measures anything. Torch-free.

The same checks are made when a job is posted (`deft.planning`) and when its model has been loaded
(`deft.models.loading`).
"""

from collections.abc import Sequence

from deft.errors import Finding, InvalidInput, ModelNotUsable
from deft.specs import ALL_METRICS, EvaluateSpec, Metric, TokenOptions

GENERATED_METRICS: frozenset[Metric] = frozenset(
    {
        *("kl", "length", "entropy", "bleu", "bleu_char_pro", "bartscore"),
        *("distinct_1", "distinct_2", "repeated", "silent", "reward", "reward_logit"),
    }
)
"""Metrics of generated answers."""

TEXT_METRICS: frozenset[Metric] = frozenset({"perplexity"})
"""Metrics of a general text; all others but `GENERATED_METRICS` judge pairs by their likelihood."""

REFERENCE_METRICS: tuple[Metric, ...] = ("bleu", "bleu_char_pro", "bartscore")
"""Metrics that set an answer beside the chosen response to its prompt."""

OF_PROMPT_SETS: tuple[Metric, ...] = ("length",)
"""Metrics of answers to prompt sets too."""

RELATIVE_METRICS: frozenset[Metric] = frozenset({"margin", "ranking_accuracy", "chosen_logp_change", "kl"})
"""Metrics that the base has by definition: measured of other systems alone (the preference accuracy also of the
length baseline)."""

NEEDED_FIELDS: dict[Metric, tuple[str, ...]] = {
    "r_d_accuracy": ("scoring",),
    "bartscore": ("bartscore_model",),
    "reward": ("reward_models", "training_reward_models"),
    "reward_logit": ("reward_models", "training_reward_models"),
    "perplexity": ("general_dataset",),
}
"""Metrics that are left out unless one of these fields of the evaluation is given."""


FEW_IDS, FEW_OF_ALL = 64, 0.01
"""Most ids that a tokenizer may have beyond the vocabulary, and as a share of it: markers that no text holds, as Gemma
3's `<image_soft_token>`. A row that does hold one is refused when it is encoded (`deft.tokens`)."""


def check_fit(
    options: TokenOptions,
    *,
    tokenizer_tokens: int | None,
    vocabulary_size: int | None,
    context_tokens: int | None,
    switching_tokens: int | None = None,
) -> None:
    """Check that a tokenizer of *tokenizer_tokens* ids and the caps of *options* fit a model; None is not known.

    *switching_tokens* are those beyond which a pass gets other rotary factors (`deft.models.rope`).

    Raises:
        ModelNotUsable: the tokenizer has more than a few ids beyond the vocabulary or fewer than a quarter as many, or
            max_total_tokens does not fit into the model's context or exceeds *switching_tokens*.
    """
    if tokenizer_tokens is not None and vocabulary_size is not None:
        _check_vocabulary(tokenizer_tokens, vocabulary_size)
    if context_tokens is not None and options.max_total_tokens > context_tokens:
        finding = Finding(
            code="context_too_short",
            pointer="/tokens/max_total_tokens",
            found=str(options.max_total_tokens),
            expected=f"at most {context_tokens}: the model's context (the appended end token is predicted, not read)",
            fix="lower max_total_tokens (and max_prompt_tokens below it)",
        )
        raise ModelNotUsable(
            f"max_total_tokens is {options.max_total_tokens}, the model's context is {context_tokens}",
            findings=[finding],
        )
    if switching_tokens is not None and options.max_total_tokens > switching_tokens:
        finding = Finding(
            code="rotary_factors_change",
            pointer="/tokens/max_total_tokens",
            found=str(options.max_total_tokens),
            expected=_up_to_switch(switching_tokens),
            fix=f"lower max_total_tokens to {switching_tokens} (and max_prompt_tokens below it)",
        )
        told = f"max_total_tokens is {options.max_total_tokens}, expected {finding.expected}; {finding.fix}"
        raise ModelNotUsable(told, findings=[finding])


def _up_to_switch(tokens: int) -> str:
    return f"at most {tokens}: a longer sequence would change the rotary factors (longrope) of all others in its pass"


def _check_vocabulary(tokens: int, rows: int) -> None:
    few = min(FEW_IDS, int(FEW_OF_ALL * rows))
    if rows <= 4 * tokens and tokens <= rows + few:  # vocabularies are padded by some per cent, not many times over
        return
    finding = Finding(
        code="tokenizer_of_another_model",
        pointer="/model",
        found=f"a tokenizer of {tokens:,} tokens",
        expected=f"one of at most {rows:,}, the model's vocabulary, and {few} beyond it, and at least a quarter",
        fix="put the tokenizer that the model was trained with beside its weights",
    )
    raise ModelNotUsable(
        f"the tokenizer has {tokens} tokens, the model {rows}: they do not belong together",
        findings=[finding],
    )


def check_answers_fit(
    *,
    longest_prompt_tokens: int,
    max_new_tokens: int,
    context_tokens: int | None,
    switching_tokens: int | None = None,
    pointer: str,
) -> None:
    """Check that the longest prompt and its answer fit into the context; *pointer* is that of max_new_tokens.

    Nor may they exceed *switching_tokens*, as in `check_fit`.

    Raises:
        InvalidInput: they do not fit.
    """
    together = longest_prompt_tokens + max_new_tokens
    if context_tokens is not None and together > context_tokens:
        code, expected = "context_too_short", f"together at most {context_tokens}, the model's context"
    elif switching_tokens is not None and together > switching_tokens:
        code, expected = "rotary_factors_change", f"together {_up_to_switch(switching_tokens)}"
    else:
        return
    finding = Finding(
        code=code,
        pointer=pointer,
        found=f"{longest_prompt_tokens} prompt tokens and {max_new_tokens} new ones",
        expected=expected,
        fix="lower tokens.max_prompt_tokens or max_new_tokens",
    )
    raise InvalidInput(f"prompts and answers do not fit: expected {expected}", code=code, findings=[finding])


def measurable(spec: EvaluateSpec) -> set[Metric]:
    """Return those of the metrics asked for that the other settings leave."""
    missing = {m for m, fields in NEEDED_FIELDS.items() if not any(getattr(spec, field) for field in fields)}
    left = set(spec.options.metrics) - missing
    return left if spec.options.prompts else left - GENERATED_METRICS


def judges_pairs(spec: EvaluateSpec) -> bool:
    """Return whether *spec* asks for a metric of held-out pairs."""
    return bool(measurable(spec) - GENERATED_METRICS - TEXT_METRICS)


def answers_prompts(spec: EvaluateSpec) -> bool:
    """Return whether *spec* asks for a metric of answers."""
    return bool(measurable(spec) & GENERATED_METRICS)


def chosen_metrics(spec: EvaluateSpec) -> list[Metric]:
    """Return the metrics that were chosen: none where all are asked for, which is the default and leaves out unsaid.

    Specs on record may hold the default from before there was `silent`, and from before there was `repeated`.
    """
    asked = spec.options.metrics
    return [] if {*asked, "repeated", "silent"} == set(ALL_METRICS) else list(asked)


def check_measurable(spec: EvaluateSpec, *, pointer: str) -> None:
    """Check that the other settings leave every metric that was chosen; *pointer* is that of the metrics.

    What a metric needs of the rows is checked where they are known (`require_lists`, `deft.evaluation.held_out`).

    Raises:
        InvalidInput: they leave some of them nothing to measure; or no held-out prompt is answered whose chosen
            response is a reference. One finding a metric.
    """
    lacking = {metric: _lacking(spec, metric) for metric in chosen_metrics(spec)}
    findings = [
        Finding(code, found, expected, f"{fix}, or leave {metric} out", pointer=f"{pointer}/{place}")
        for place, (metric, told) in enumerate(lacking.items())
        if told is not None
        for code, found, expected, fix in [told]
    ]
    if findings:
        names = ", ".join(metric for metric, told in lacking.items() if told is not None)
        codes = {finding.code for finding in findings}
        code = codes.pop() if len(codes) == 1 else "nothing_to_measure"
        raise InvalidInput(f"nothing would be measured of {names}", code=code, findings=findings)


def require_lists(metrics: Sequence[Metric], *, has_lists: bool, pointer: str) -> None:
    """Check that rows *has_lists* of three responses or more where the ranking accuracy is among chosen *metrics*.

    Raises:
        InvalidInput: they have none: each ranking is of two, which the preference accuracy judges.
    """
    if has_lists or "ranking_accuracy" not in metrics:
        return
    finding = Finding(
        code="nothing_to_measure",
        pointer=f"{pointer}/{list(metrics).index('ranking_accuracy')}",
        found="held-out rows of two responses at most",
        expected="ranked lists: some held-out row with three responses or more",
        fix="ask for preference_accuracy, which is the same of pairs, or evaluate on ranked lists",
    )
    message = "nothing would be measured of ranking_accuracy"
    raise InvalidInput(message, code="nothing_to_measure", findings=[finding])


def _lacking(spec: EvaluateSpec, metric: Metric) -> tuple[str, str, str, str] | None:
    """Return why nothing would be measured of *metric* (code, found, expected, fix), None where something would."""
    if metric in GENERATED_METRICS and not spec.options.prompts and not (metric in OF_PROMPT_SETS and spec.prompt_sets):
        beside = ", and prompt sets are measured by length and ended answers alone" if spec.prompt_sets else ""
        if metric in REFERENCE_METRICS:
            expected = "answers to held-out prompts, whose chosen responses are the references"
            return "missing_references", f"{metric} with prompts 0{beside}", expected, "ask for prompts above 0"
        expected = "answers to held-out prompts"
        return "nothing_to_measure", f"{metric} with prompts 0{beside}", expected, "ask for prompts above 0"
    fields = NEEDED_FIELDS.get(metric, ())
    if fields and not any(getattr(spec, field) for field in fields):
        named = " or ".join(fields)
        return "nothing_to_measure", f"{metric} without {named}", f"{named}, which it is measured with", f"name {named}"
    if metric in RELATIVE_METRICS and not spec.systems:
        expected = "systems: it sets each beside the base"
        return "nothing_to_measure", f"{metric} without systems", expected, "name a system"
    return None
