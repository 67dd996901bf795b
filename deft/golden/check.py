"""This package against the golden vectors: every section computed by the public and inner functions, in float32.

Knows the document as JSON and torch; it must not know how the document was made.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from transformers import LlamaForCausalLM

import deft
from deft.distribution import Counts, count, difference, mixture
from deft.examples import Example
from deft.golden.layout import Json
from deft.golden.models import base_model, policy_model, tensors_of, tokenizer_of
from deft.losses import with_reward_term
from deft.reports import Silent
from deft.reward import Direction, Head, direction_of, head_of, response_rewards, reward_from_logits
from deft.scoring.scorer import score_examples
from deft.selection import ScoredRow, kept_count, select
from deft.specs import DpoMethod, ProMethod, Selection, SftMethod, TokenOptions
from deft.tokens import TokenizedExample, encode_examples
from deft.training.batches import with_responses
from deft.training.methods import AnyMethod, criterion_of
from deft.training.objective import Objective, reference_logps
from deft.training.omega import measure_omega

CPU = torch.device("cpu")


def differences(document: Json) -> dict[str, float]:
    """Return the largest absolute difference between this package and *document*, by section.

    Token ids, counts, ranks and kept rows must be equal: a section that differs in them gives infinity.
    """
    return {
        "examples": _tokens(document),
        "distribution": _distribution(document),
        "scores": _scores(document),
        "heads": _heads(document),
        "selection": _selection(document),
        "aspects": _aspects(document),
        "losses": _losses(document),
        "omega": _omega(document),
    }


def tolerance(document: Json, section: str) -> float:
    """Return the largest difference that *section* allows in float32."""
    return float(document[section].get("tolerance", {"float32": 0.0})["float32"])


def _largest(pairs: Iterable[tuple[Any, Any]]) -> float:
    """Return the largest difference between two arrays or numbers of *pairs*; NaN counts as infinity."""
    found = [float(np.max(np.abs(np.asarray(ours) - np.asarray(theirs)))) for ours, theirs in pairs]
    return max(float("inf") if math.isnan(value) else value for value in found)


def _exactly(ours: object, theirs: object) -> float:
    return 0.0 if ours == theirs else float("inf")


def _options(document: Json) -> TokenOptions:
    return TokenOptions(**document["examples"]["tokens"])


def _rows(document: Json) -> list[Json]:
    """Return the examples as rows of a data set."""
    return [{"prompt": row["prompt"], "responses": row["responses"]} for row in document["examples"]["rows"]]


def _tokenized(document: Json) -> list[TokenizedExample]:
    rows = document["examples"]["rows"]
    return [TokenizedExample(row["prompt_ids"], row["response_ids"], row["is_cut"]) for row in rows]


def _tokens(document: Json) -> float:
    examples = [Example(row["prompt"], tuple(row["responses"])) for row in document["examples"]["rows"]]
    return _exactly(encode_examples(examples, tokenizer_of(document), _options(document)), _tokenized(document))


def _distribution(document: Json) -> float:
    values, size = document["distribution"]["values"], len(document["tokenizer"]["vocabulary"])
    ours = deft.count_distribution(_rows(document), tokenizer_of(document), tokens=_options(document))
    equal = [
        _exactly(ours.counts.chosen.tolist(), values["count_chosen"][:size]),
        _exactly(ours.counts.rejected.tolist(), values["count_rejected"][:size]),
    ]
    return max(*equal, _largest([(ours.q_diff, values["q_diff"][:size]), (ours.l1, values["l1"])]))


def _q_diff(document: Json) -> NDArray[np.float64]:
    return np.array(document["distribution"]["values"]["q_diff"])


def _direction(document: Json, head: Head) -> Direction:
    return direction_of(head, _q_diff(document))


def _scores(document: Json) -> float:
    """R_d by the public function, by both layouts, and by full logits; u and the mean hidden states."""
    values, model = document["scores"]["values"], base_model(document)
    expected = [(entry["r_d"], entry["mean_hidden"]) for entry in values["responses"]]
    direction = _direction(document, head_of(model))
    pairs: list[tuple[Any, Any]] = [(direction.u.numpy(), values["u"])]
    for is_shared in (True, False):
        found = score_examples(model, _tokenized(document), direction, share=is_shared)
        pairs += [(found.r_d, [r_d for r_d, _ in expected]), (found.hidden, [hidden for _, hidden in expected])]
    pairs += zip(_by_full_logits(document, model), (r_d for r_d, _ in expected), strict=True)
    return max(_largest(pairs), _scores_of_the_library(document, model))


@torch.no_grad()
def _by_full_logits(document: Json, model: LlamaForCausalLM) -> list[float]:
    q_diff, found = _q_diff(document), []
    for example in _tokenized(document):
        for ids in example.response_ids:
            logits = model(input_ids=torch.tensor([example.prompt_ids + ids])).logits[0]
            found.append(reward_from_logits(logits[len(example.prompt_ids) - 1 : -1], q_diff).item())
    return found


def _scores_of_the_library(document: Json, model: LlamaForCausalLM) -> float:
    tokenizer, rows, options = tokenizer_of(document), _rows(document), _options(document)
    distribution = deft.count_distribution(rows, tokenizer, tokens=options)
    scores = deft.score(model, tokenizer, rows, distribution, tokens=options)
    expected = _scored_rows(document)
    return _largest(
        ((ours.chosen, ours.rejected, ours.chosen_tokens), (theirs.chosen, theirs.rejected, theirs.chosen_tokens))
        for ours, theirs in zip(scores, expected, strict=True)
    )


def _scored_rows(document: Json) -> list[ScoredRow]:
    """Return the scores of *document* as rows to select from."""
    by_row: dict[int, list[Json]] = {}
    for entry in document["scores"]["values"]["responses"]:
        by_row.setdefault(entry["row"], []).append(entry)
    return [
        ScoredRow(row, first["r_d"], float(np.mean([entry["r_d"] for entry in others])), first["tokens"])
        for row, (first, *others) in by_row.items()
    ]


def _heads(document: Json) -> float:
    """R_d and its gradient by given hidden states, for every kind of head."""
    values = document["heads"]["values"]
    given = tensors_of([values["hidden"], values["bias"]])
    weight = base_model(document).lm_head.weight
    pairs: list[tuple[Any, Any]] = []
    for kind in values["kinds"]:
        bias = given["bias"] if kind["has_bias"] else None
        head = Head(weight, bias, kind.get("scale", 1.0), kind.get("softcap"))
        hidden = given["hidden"].clone().requires_grad_()
        r_d = response_rewards(hidden, torch.zeros(3, dtype=torch.int64), 1, _direction(document, head))
        (gradient,) = torch.autograd.grad(r_d.sum(), hidden)
        pairs += [(r_d.detach().numpy()[0], kind["r_d"]), (gradient.numpy(), kind["gradient"])]
    return _largest(pairs)


def _selection(document: Json) -> float:
    values, rows = document["selection"]["values"], _scored_rows(document)
    worst = 0.0
    for entry in values["selections"]:
        asked = Selection(**{name: entry[name] for name in ("keep", "end", "by", "seed")})
        found = select(rows, asked)
        kept = [row for row, is_kept in enumerate(found.kept) if is_kept]
        worst = max(worst, _exactly((found.ranks, kept), (entry["ranks"], entry["kept_rows"])))
    counts = [(kept_count(entry["keep"], entry["examples"]), entry["kept"]) for entry in values["kept_counts"]]
    return max(worst, _exactly([ours for ours, _ in counts], [theirs for _, theirs in counts]))


def _aspects(document: Json) -> float:
    """Q_diff mixed from the counts of each aspect, and R_d by it."""
    values, model = document["aspects"]["values"], base_model(document)
    names = [row["aspect"] for row in document["examples"]["rows"]]
    counts = {aspect: _counts_of(document, names, aspect) for aspect in values["weights"]}
    mixed = mixture(counts, values["weights"])
    pairs: list[tuple[Any, Any]] = [(difference(counts[name]), values["q_diff"][name]) for name in counts]
    found = score_examples(model, _tokenized(document), direction_of(head_of(model), mixed))
    return _largest([*pairs, (mixed, values["mixed"]), (found.r_d, values["r_d"])])


def _counts_of(document: Json, names: Sequence[str], aspect: str) -> Counts:
    rows = [row for row, name in zip(_tokenized(document), names, strict=True) if name == aspect]
    size, specials = document["model"]["config"]["vocab_size"], range(len(document["tokenizer"]["specials"]))
    return count(rows, size, specials)


def _objective(document: Json, model: PeftModel, method: AnyMethod, size: int) -> Objective:
    picks = criterion_of(method).picks
    examples = [with_responses(each, picks(method, len(each.response_ids))) for each in _tokenized(document)]
    head, end = head_of(model), document["model"]["config"]["eos_token_id"]
    objective = Objective(method, examples, end, method.type != "sft", size, head, _direction(document, head))
    if criterion_of(method).has_rewards:
        objective.rewards = [row["rewards"] for row in document["losses"]["values"]["rows"]]
    return objective


def _losses(document: Json) -> float:
    values, model = document["losses"]["values"], policy_model(document)
    every = list(range(len(values["rows"])))
    methods: list[AnyMethod] = [DpoMethod(beta=values["beta"]), SftMethod(), ProMethod(sft_weight=values["pro_weight"])]
    dpo, sft, pro = (_objective(document, model, method, 3) for method in methods)
    dpo.reference = reference_logps(dpo, model, [every], reference=model.disable_adapter, after_each=lambda _: None)
    pairs: list[tuple[Any, Any]] = [(dpo.reference.numpy(), [_ends(row["reference_logps"]) for row in values["rows"]])]
    for objective in (dpo, sft, pro):
        pairs += _step(objective, model, every, values, "step")
        objective.weights = values["row_weights"]
        pairs += _step(objective, model, every, values, "weighted_step")
        objective.weights = None
    return _largest(pairs + _row_facts(dpo, model, values["rows"]) + _row_facts(pro, model, values["rows"]))


def _step(
    objective: Objective, model: PeftModel, rows: Sequence[int], values: Json, name: str
) -> list[tuple[float, float]]:
    """Return a step's loss, without and with the term, as added up over micro-batches, and what it should be."""
    size, base, both = objective.size_of(rows), 0.0, 0.0
    for indices in objective.micro_batches(rows):
        parts = objective.parts(model, indices, size)
        base += parts.base.item()
        total = with_reward_term(
            parts.base, parts.r_d, values["omega"], examples_in_step=size.examples, weights=parts.weights
        )
        both += total.item()
    loss = objective.method.type
    return [(base, values[name][loss]), (both, values[name][f"{loss}_with_term"])]


def _row_facts(objective: Objective, model: PeftModel, rows: Sequence[Json]) -> list[tuple[Any, Any]]:
    """Return loss, R_d and log-probability of each row by itself, and what they should be."""
    pairs: list[tuple[Any, Any]] = []
    for index, row in enumerate(rows):
        parts = objective.parts(model, [index], objective.size_of([index]))
        pairs += [(parts.base.item(), row[objective.method.type]), (parts.facts["deft/r_d"].item(), row["r_d"])]
        pairs.append((parts.facts["logps/chosen"].item(), row["logps"][0]))
    return pairs


def _ends(values: Sequence[float]) -> list[float]:
    return [values[0], values[-1]]


def _omega(document: Json) -> float:
    values = document["omega"]["values"]
    model = policy_model(document, has_zero_b=True)
    objective = _objective(document, model, DpoMethod(beta=document["losses"]["values"]["beta"]), 1)
    found = measure_omega(model, objective, values["batches"], report=Silent())
    names = ("omega", "base_gradient_norm", "term_gradient_norm")
    return _largest((getattr(found, name), values[name]) for name in names)
