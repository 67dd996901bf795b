"""Put the answers of an evaluation before a judge: judging.json, metrics.json, judgements.parquet, replies.jsonl.

Every reply is in a journal before it counts, so that a restart, or the same job again after a failure, asks nothing
twice. No text of a row goes into the summary, the log or an error.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from deft.endpoints import Endpoint, no_endpoint
from deft.errors import Finding, InvalidInput
from deft.judges import templates
from deft.judges.answers import Answers, read_answers, read_labelled
from deft.judges.asking import Ask, Pace, Tally, ask_all, key_of
from deft.judges.findings import about_judge, metrics_rows, sentence
from deft.judges.items import Item, items_of, labelled_items
from deft.judges.journal import Journal
from deft.judges.judged import Judged, is_unread, judged, questions_of
from deft.reports import Report
from deft.specs import JudgeSpec


def run_judge(
    spec: JudgeSpec,
    *,
    inputs: Mapping[str, Path],
    out: Path,
    checkpoints: Path | None,
    report: Report,
    cache: Path | None = None,
    endpoint: Endpoint | None = None,
    ask: Ask | None = None,
) -> dict[str, Any]:
    """Judge as *spec* asks, write the judging's files to *out* and return its summary.

    Args:
        spec: what is judged, and by whom.
        inputs: folders of the evaluation and, where there are labels, of their dataset.
        out: an empty folder.
        checkpoints: where the journal lies when there is no *cache*.
        report: listens.
        cache: where the journal lies, so that it outlives the job; None: with the checkpoints, or in memory alone.
        endpoint: where the judge is.
        ask: what answers a question; None: the judge at *endpoint*.

    Raises:
        InvalidInput: there is nothing to judge, no endpoint, or the endpoint refuses the key or the model.
        Unavailable: the endpoint does not answer; what it answered until then is in the journal.
        Interrupted: the report asks to stop.
    """
    report.phase("reading")
    answers = read_answers(inputs["evaluation"], spec)
    items = list(items_of(answers, _systems(spec, answers), spec.against))
    labelled = labelled_items(read_labelled(inputs["labels"], spec)) if "labels" in inputs else []
    if not items:
        raise _nothing(spec)
    asking = ask or _endpoint_judge(spec, endpoint)
    context = context_of(spec, endpoint)
    journal = Journal(_journal_path(cache or checkpoints, context))
    report.phase("asking")
    tally = _ask(spec, [*items, *labelled], asking, journal, context, report)
    report.phase("comparing")

    def read(item: Item) -> Judged:
        return judged(item, spec, lambda question: journal.replies.get(key_of(question, context)))

    found, agreed = [read(item) for item in items], [read(item) for item in labelled]
    keys = {key_of(question, context) for item in [*items, *labelled] for question in questions_of(item, spec)}
    unread = sum(is_unread(journal.replies[key], spec) for key in keys & journal.replies.keys())
    return _write(spec, inputs, answers, (found, agreed), {**asdict(tally), "parse_failures": unread}, out)


def _ask(spec: JudgeSpec, items: Sequence[Item], ask: Ask, journal: Journal, context: str, report: Report) -> Tally:
    return ask_all(
        (question for item in items for question in questions_of(item, spec)),
        ask,
        journal,
        context=context,
        report=report,
        lanes=spec.judge.concurrency,
        pace=Pace(spec.judge.requests_per_minute),
    )


def _systems(spec: JudgeSpec, answers: Answers) -> list[str]:
    wanted = answers.systems if spec.systems is None else spec.systems
    return list(wanted) if spec.mode == "single" else [name for name in wanted if name != spec.against]


def _endpoint_judge(spec: JudgeSpec, endpoint: Endpoint | None) -> Ask:
    from deft.judges.client import EndpointJudge  # the package openai is the worker's

    if endpoint is None:
        raise no_endpoint(spec.judge.endpoint, "/judge/endpoint")
    return EndpointJudge(endpoint, spec.judge)


def context_of(spec: JudgeSpec, endpoint: Endpoint | None) -> str:
    """Return the SHA-256, in hex, of all that a reply depends on beside its question; the key is no part of it."""
    judge = spec.judge
    own = [judge.endpoint, endpoint.url if endpoint else "", judge.model, judge.temperature, judge.max_tokens]
    return hashlib.sha256(json.dumps([*own, spec.seed]).encode()).hexdigest()


def _journal_path(folder: Path | None, context: str) -> Path | None:
    return None if folder is None else folder / "judge_replies" / f"{context}.jsonl"


def _write(
    spec: JudgeSpec,
    inputs: Mapping[str, Path],
    answers: Answers,
    judged_items: tuple[list[Judged], list[Judged]],
    counts: dict[str, int],
    out: Path,
) -> dict[str, Any]:
    found, agreed = judged_items
    settings = settings_of(spec, inputs["evaluation"], answers)
    about = about_judge(found, agreed, spec)
    settings_hash = _hash(settings)
    rows = [
        {**row, "is_valid": row["is_valid"] and about["may_decide"], "settings_hash": settings_hash}
        for row in metrics_rows(found, spec, _arms(inputs["evaluation"]))
    ]
    summary = {
        "sentence": sentence(found, rows, about, spec),
        "mode": spec.mode,
        "against": spec.against,
        "judge": spec.judge.model,
        "items": len(found),
        "equal_answers": sum(not each.is_asked for each in found),
        **counts,
        **about,
        "results": [row for row in rows if row["slice"] == "all"],
    }
    _write_json(out / "metrics.json", rows)
    _write_json(out / "judging.json", {**summary, "results": rows, "settings": settings})
    pq.write_table(pa.Table.from_pylist([each.columns() for each in [*found, *agreed]]), out / "judgements.parquet")
    _write_replies([*found, *agreed], out / "replies.jsonl")
    return summary


def settings_of(spec: JudgeSpec, evaluation: Path, answers: Answers) -> dict[str, Any]:
    """Return everything that the numbers depend on but the systems themselves."""
    prompts = [[a.set, a.row, a.text, a.further] for a in answers.prompts.values()]
    return {
        "judge": spec.judge.model_dump(mode="json", include={"endpoint", "model", "temperature", "max_tokens"}),
        "mode": spec.mode,
        "against": spec.against,
        "against_answers": _hash([[*place, own.get(spec.against)] for place, own in answers.texts.items()]),
        "templates": {"version": templates.VERSION, "sha256": templates.fingerprint()},
        "prompts": _hash(prompts),
        "answers": _read_json(evaluation / "evaluation.json", {}).get("settings", {}).get("length"),
        "bootstrap": spec.bootstrap,
        "seed": spec.seed,
    }


def _hash(value: Any) -> str:  # noqa: ANN401 -- any JSON
    """Return the SHA-256, in hex, of the sorted JSON of *value*."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _arms(evaluation: Path) -> dict[str, str]:
    return {row["system"]: row["arm"] for row in _read_json(evaluation / "metrics.json", [])}


def _write_replies(items: Sequence[Judged], path: Path) -> None:
    """Write one line a reply: what it was about, in which order, and what was said."""
    with path.open("w", encoding="utf-8") as file:
        for each in items:
            for order, reply in enumerate(each.replies, start=1):
                if reply is not None:
                    place = each.item.place._asdict()
                    own = {"turn": each.item.turn, "system": each.item.system, "against": each.item.against}
                    file.write(json.dumps({**place, **own, "order": order, **asdict(reply)}, ensure_ascii=False) + "\n")


def _read_json(path: Path, default: Any) -> Any:  # noqa: ANN401 -- any JSON
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else default


def _write_json(path: Path, value: Any) -> None:  # noqa: ANN401 -- any JSON
    path.write_text(json.dumps(value, indent=1, allow_nan=False), encoding="utf-8")


def _nothing(spec: JudgeSpec) -> InvalidInput:
    expected = f"prompts that a system and `{spec.against}` both answered"
    finding = Finding("nothing_to_judge", "none", expected, "judge other systems or sets", pointer="/systems")
    return InvalidInput("there is nothing to judge", code="nothing_to_judge", findings=[finding])
