"""Every system's answers to the prompt sets of an evaluation, and what is written of them.

Knows a run and its systems; what is measured is in deft.evaluation.set_metrics.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deft.data.prompt_sets import overlap
from deft.data.splits import points_of
from deft.evaluation.asked import HELD_OUT, Asked, write_asked
from deft.evaluation.conversations import Conversation, Speaker, converse, layout
from deft.evaluation.metrics import Who
from deft.evaluation.set_metrics import Answered, Sampled, safety, set_rows, value_rows
from deft.evaluation.set_values import append_values
from deft.evaluation.settings import common_settings, hash_of
from deft.evaluation.state import Run, decoding_of, who_is
from deft.evaluation.system_checkpoints import SystemCheckpoints
from deft.models.fit import answers_prompts, check_answers_fit
from deft.models.rope import switching_tokens
from deft.safety.rates import RATES
from deft.safety.told import RULES

SLICES = "set:*"
"""The name of the sets' settings in evaluation.json: of every number over a slice `set:...`, whatever its metric."""


def answer_sets(run: Run, checkpoints: SystemCheckpoints) -> Answered:
    """Let every system answer every prompt of the sets, the base first."""
    if not run.sets:
        return []
    run.report.phase("prompt_sets")
    found = []
    for index, adapter in enumerate(run.systems):
        found.append((who_is(adapter), _answered(run, index)))
        checkpoints.add_answered()
    return found


def _answered(run: Run, index: int) -> list[Conversation]:
    adapter, options = run.systems[index], run.spec.options
    repeats = 1 if options.sampling is None else options.sampling.repeats
    each = repeats * sum(1 + len(asked.further) for asked in run.sets)
    on_progress = run.progress(index, each, "answers")
    with run.resident.system(adapter) as model:
        answering = run.answering(adapter, model, options.sampling)
        speaker = Speaker(answering, run.tokenizer, layout(run.spec.tokens, run.tokenizer), options.sampling)
        return converse(speaker, run.sets, on_progress)


def check_sets_fit(run: Run) -> None:
    """Refuse sets whose prompts, cut as they are, leave no room for the answers in the model's context.

    Raises:
        InvalidInput: they do not fit.
    """
    if run.sets:
        settings = run.resident.base.config.get_text_config()
        check_answers_fit(
            longest_prompt_tokens=run.spec.tokens.max_prompt_tokens,
            max_new_tokens=run.spec.options.max_new_tokens,
            context_tokens=getattr(settings, "max_position_embeddings", None),
            switching_tokens=switching_tokens(settings.to_dict()),
            pointer="/options/max_new_tokens",
        )


def safety_of_sets(run: Run, answered: Answered) -> dict[str, Any] | None:
    """Return safety.json but for its settings; None where no prompt is labelled safe or unsafe."""
    return safety(answered, _how(run)) if answered else None


def _how(run: Run) -> Sampled:
    return Sampled(run.spec.options.bootstrap, run.spec.options.seed)


def write_sets(
    run: Run,
    answered: Answered,
    found: dict[str, Any] | None,
    inputs: Mapping[str, Path],
    settings: dict[str, Any],
    out: Path,
) -> dict[str, Any]:
    """Append to generations.jsonl, metrics.json and values.parquet, write prompts.jsonl and safety.json (*found*).

    Return the summary's part.
    """
    write_asked([*_held_out(run), *run.sets], out / "prompts.jsonl")
    if not answered:
        return {}
    _append_generations(answered, out / "generations.jsonl")
    append_values(value_rows(answered), out / "values.parquet")
    settings_hash = hash_of(settings)
    rates = [] if found is None else found["rates"]
    rows = [*set_rows(answered, _how(run), run.decoding.max_new_tokens), *rates]
    path = out / "metrics.json"
    own = [{**_without_extras(row), "settings_hash": settings_hash} for row in rows]
    path.write_text(json.dumps([*json.loads(path.read_text(encoding="utf-8")), *own], indent=1), encoding="utf-8")
    if found is not None:
        told = {**found, "settings": settings}
        (out / "safety.json").write_text(json.dumps(told, indent=1, allow_nan=False), encoding="utf-8")
    safe = {} if found is None else {"safety": [row for row in rates if row["slice"] == "all"]}
    return {"prompt_sets": _sets_summary(run, answered, inputs), **safe}


def _without_extras(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in ("prompts", "left_out", "untold")}


def by_slice_or_rate(run: Run, settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the *settings* of sets under `SLICES`, and by safety metric where any is measured; none without sets."""
    has_labels = any(asked.is_labelled for asked in run.sets)
    return dict.fromkeys([SLICES, *(RATES if has_labels else ())], settings) if run.sets else {}


def settings_of_sets(run: Run, base_hash: str) -> dict[str, Any]:
    """Return everything that the numbers of sets depend on but the system itself."""
    options = run.spec.options
    prompts = [[a.set, a.row, a.text, a.further, a.category, a.label] for a in run.sets]
    return common_settings(run, base_hash) | {
        "detector": RULES.name,
        "prompts": hashlib.sha256(json.dumps(prompts).encode()).hexdigest(),
        "decoding": decoding_of(options, options.sampling),
        "sampling": None if options.sampling is None else options.sampling.model_dump(mode="json"),
        "layout": layout(run.spec.tokens, run.tokenizer).model_dump(mode="json"),
        "max_new_tokens": options.max_new_tokens,
        "end_ids": sorted(run.decoding.end_ids),
    }


def _held_out(run: Run) -> list[Asked]:
    if not answers_prompts(run.spec):
        return []
    prompts = run.prompts.once
    own = zip(prompts.rows, prompts.examples, prompts.clusters, strict=True)
    return [Asked(HELD_OUT, row, example.prompt, cluster) for row, example, cluster in own]


def _append_generations(answered: Answered, path: Path) -> None:
    """Append one line an answer."""
    with path.open("a", encoding="utf-8") as file:
        for who, own in answered:
            for conversation in own:
                for line in _lines(who, conversation):
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _lines(who: Who, own: Conversation) -> list[dict[str, Any]]:
    place = {"set": own.asked.set, "row": own.asked.row, "sample": own.sample, "system": who.system}
    return [
        {
            **place,
            "turn": turn,
            "text": answer.text,
            "tokens": len(answer.ids),
            "is_ended": answer.is_ended,
            "stop": answer.stop,
            "kl": None,
        }
        for turn, answer in enumerate(own.answers, start=1)
    ]


def _sets_summary(run: Run, answered: Answered, inputs: Mapping[str, Path]) -> list[dict[str, Any]]:
    trained = _trained(run, inputs)
    found = []
    for index, name in enumerate(run.spec.prompt_sets):
        own: Sequence[Conversation] = [c for _, every in answered for c in every if c.asked.set == name]
        found.append(
            {
                "prompt_set": name,
                "prompts": sum(asked.set == name for asked in run.sets),
                "answers": sum(len(c.answers) for c in own),
                "prompts_cut": len({c.asked.row for c in own if c.is_cut}),
                "trained_on": None if trained is None else overlap(inputs[f"prompt_set.{index}"], trained),
            }
        )
    return found


def _trained(run: Run, inputs: Mapping[str, Path]) -> set[float] | None:
    """Return the split points of the rows that were trained on, None where the spec names none."""
    apart = run.spec.apart_from
    return None if apart is None else points_of(inputs["apart_from"], apart.rows)
