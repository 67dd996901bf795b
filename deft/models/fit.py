"""Whether a tokenizer and token limits fit a model, and whether an evaluation measures anything. Torch-free.

The same checks are made when a job is posted (`deft.planning`) and when its model has been loaded
(`deft.models.loading`).
"""

from deft.errors import Finding, InvalidInput, ModelNotUsable
from deft.specs import EvaluationOptions, Metric, TokenOptions

GENERATED_METRICS: frozenset[Metric] = frozenset({"kl", "length", "bleu"})
"""Metrics of generated answers; the others judge pairs by their likelihood."""


FEW_IDS, FEW_OF_ALL = 64, 0.01
"""Most ids that a tokenizer may have beyond the vocabulary, and as a share of it: markers that no text holds, as Gemma
3's `<image_soft_token>`. A row that does hold one is refused when it is encoded (`deft.tokens`)."""


def check_fit(
    options: TokenOptions, *, tokenizer_tokens: int | None, vocabulary_size: int | None, context_tokens: int | None
) -> None:
    """Check that a tokenizer of *tokenizer_tokens* ids and the caps of *options* fit a model; None is not known.

    Raises:
        ModelNotUsable: the tokenizer has more than a few ids beyond the vocabulary or fewer than a quarter as many, or
            max_total_tokens does not fit into the model's context.
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
    *, longest_prompt_tokens: int, max_new_tokens: int, context_tokens: int | None, pointer: str
) -> None:
    """Check that the longest prompt and its answer fit into the context; *pointer* is that of max_new_tokens.

    Raises:
        InvalidInput: they do not.
    """
    if context_tokens is None or longest_prompt_tokens + max_new_tokens <= context_tokens:
        return
    finding = Finding(
        code="context_too_short",
        pointer=pointer,
        found=f"{longest_prompt_tokens} prompt tokens and {max_new_tokens} new ones",
        expected=f"together at most {context_tokens}, the model's context",
        fix="lower tokens.max_prompt_tokens or max_new_tokens",
    )
    raise InvalidInput("prompts and answers do not fit the context", code=finding.code, findings=[finding])


def check_measurable(options: EvaluationOptions, *, has_scoring: bool, pointer: str) -> None:
    """Check that the other settings leave something of the metrics asked for; *pointer* is that of the metrics.

    Raises:
        InvalidInput: they leave nothing.
    """
    left = set(options.metrics)
    if options.prompts == 0:
        left -= GENERATED_METRICS
    if not has_scoring:
        left -= {"r_d_accuracy"}
    if left:
        return
    finding = Finding(
        code="nothing_to_measure",
        pointer=pointer,
        found=", ".join(options.metrics),
        expected="a metric that can be measured: kl, length and bleu need prompts, r_d_accuracy needs a scoring",
        fix="ask for prompts above 0, name a scoring, or ask for another metric",
    )
    raise InvalidInput("none of the metrics can be measured", code="nothing_to_measure", findings=[finding])
