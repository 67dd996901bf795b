"""Whether a tokenizer and token limits fit a model, and whether an evaluation measures anything. Torch-free.

The same checks are made when a job is posted (`deft.planning`) and when its model has been loaded
(`deft.models.loading`).
"""

from deft.errors import Finding, InvalidInput, ModelNotUsable
from deft.specs import ALL_METRICS, EvaluateSpec, Metric, TokenOptions

GENERATED_METRICS: frozenset[Metric] = frozenset(
    {
        *("kl", "length", "entropy", "bleu", "bleu_char_pro", "bartscore"),
        *("distinct_1", "distinct_2", "reward", "reward_logit"),
    }
)
"""Metrics of generated answers."""

TEXT_METRICS: frozenset[Metric] = frozenset({"perplexity"})
"""Metrics of a general text; all others but `GENERATED_METRICS` judge pairs by their likelihood."""

REFERENCE_METRICS: tuple[Metric, ...] = ("bleu", "bleu_char_pro", "bartscore")
"""Metrics that set an answer beside the chosen response to its prompt."""

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


def check_measurable(spec: EvaluateSpec, *, pointer: str) -> None:
    """Check that the other settings leave something of the metrics asked for; *pointer* is that of the metrics.

    Prompt sets are measured whatever the metrics, by length and ended answers: a metric that sets answers beside
    references is of held-out prompts alone.

    Raises:
        InvalidInput: they leave nothing; or a metric that was chosen needs references, and no held-out prompt is
            answered.
    """
    if measurable(spec) or spec.prompt_sets:
        _require_answers_beside_references(spec, pointer)
        return
    needed = ", ".join(f"{metric} {' or '.join(fields)}" for metric, fields in NEEDED_FIELDS.items())
    finding = Finding(
        code="nothing_to_measure",
        pointer=pointer,
        found=", ".join(spec.options.metrics),
        expected=f"a metric that can be measured: metrics of answers need prompts, {needed}",
        fix="ask for prompts above 0, name what the metric needs, or ask for another metric",
    )
    raise InvalidInput("none of the metrics can be measured", code="nothing_to_measure", findings=[finding])


def _require_answers_beside_references(spec: EvaluateSpec, pointer: str) -> None:
    """Refuse metrics beside references that were chosen, and that no answer to a held-out prompt serves."""
    asked = spec.options.metrics
    chosen = [metric for metric in REFERENCE_METRICS if metric in asked]
    if spec.options.prompts or not chosen or set(asked) == set(ALL_METRICS):  # the default leaves out what it cannot
        return
    findings = [
        Finding(
            code="missing_references",
            pointer=f"{pointer}/{asked.index(metric)}",
            found=f"{metric} with prompts 0, and prompt sets are not set beside references",
            expected="answers to held-out prompts, whose chosen responses are the references",
            fix=f"ask for prompts above 0, or leave {metric} out",
        )
        for metric in chosen
    ]
    message = f"nothing is answered that has references for {', '.join(chosen)}"
    raise InvalidInput(message, code="missing_references", findings=findings)
