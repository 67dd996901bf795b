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
from deft.judges.answers import Answers, read_answers, read_labelled
from deft.judges.asking import Ask, Interview
from deft.judges.files import arms_of, hash_of, nothing_to_judge, settings_of, write_json
from deft.judges.findings import about_judge, metrics_rows, sentence
from deft.judges.items import items_of, labelled_items
from deft.judges.journal import Journal
from deft.judges.judged import Judged, is_unread, judged, questions_of
from deft.judges.kinds import judge_kinds
from deft.reports import Report
from deft.specs import JudgeSpec

KEPT_AS = 2
"""How replies are kept: 1 did not know which of them the server had cut."""


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
    context = context_of(spec, endpoint)
    interview = Interview(
        ask=ask or _endpoint_judge(spec, endpoint),
        journal=Journal(_journal_path(cache or checkpoints, context)),
        context=context,
        report=report,
        lanes=spec.judge.concurrency,
        per_minute=spec.judge.requests_per_minute,
    )
    judge = judge_kinds if spec.mode == "safety" else _judge_answers
    return judge(spec, inputs, answers, interview, out)


def _judge_answers(
    spec: JudgeSpec, inputs: Mapping[str, Path], answers: Answers, interview: Interview, out: Path
) -> dict[str, Any]:
    """Have answers compared, or scored."""
    items = list(items_of(answers, _systems(spec, answers), spec.against))
    labelled = labelled_items(read_labelled(inputs["labels"], spec)) if "labels" in inputs else []
    if not items:
        raise nothing_to_judge(f"prompts that a system and `{spec.against}` both answered")
    questions = [question for item in [*items, *labelled] for question in questions_of(item, spec)]
    interview.report.phase("asking")
    tally = interview.put(questions)
    interview.report.phase("comparing")
    found, agreed = ([judged(item, spec, interview.reply_to) for item in own] for own in (items, labelled))
    unread = interview.unread(questions, lambda reply: is_unread(reply, spec))
    return _write(spec, inputs, answers, (found, agreed), {**asdict(tally), "parse_failures": unread}, out)


def _systems(spec: JudgeSpec, answers: Answers) -> list[str]:
    wanted = answers.systems if spec.systems is None else spec.systems
    return list(wanted) if spec.mode == "single" else [name for name in wanted if name != spec.against]


def _endpoint_judge(spec: JudgeSpec, endpoint: Endpoint | None) -> Ask:
    from deft.judges.client import EndpointJudge  # the package openai is the worker's

    if endpoint is None:
        raise no_endpoint(spec.judge.endpoint, "/judge/endpoint")
    return EndpointJudge(endpoint, spec.judge)


def context_of(spec: JudgeSpec, endpoint: Endpoint | None) -> str:
    """Return the SHA-256, in hex, of all that a reply depends on beside its question; the key is no part of it.

    `KEPT_AS` is in it, so that no reply is believed that was kept when less was known of it.
    """
    judge = spec.judge
    own = [judge.endpoint, endpoint.url if endpoint else "", judge.model, judge.temperature, judge.max_tokens]
    return hashlib.sha256(json.dumps([*own, spec.seed, KEPT_AS]).encode()).hexdigest()


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
    settings_hash = hash_of(settings)
    rows = [
        {**row, "is_valid": row["is_valid"] and about["may_decide"], "settings_hash": settings_hash}
        for row in metrics_rows(found, spec, arms_of(inputs["evaluation"]))
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
    write_json(out / "metrics.json", rows)
    write_json(out / "judging.json", {**summary, "results": rows, "settings": settings})
    pq.write_table(pa.Table.from_pylist([each.columns() for each in [*found, *agreed]]), out / "judgements.parquet")
    _write_replies([*found, *agreed], out / "replies.jsonl")
    return summary


def _write_replies(items: Sequence[Judged], path: Path) -> None:
    """Write one line a reply: what it was about, in which order, and what was said."""
    with path.open("w", encoding="utf-8") as file:
        for each in items:
            for order, reply in enumerate(each.replies, start=1):
                if reply is not None:
                    place = each.item.place._asdict()
                    own = {"turn": each.item.turn, "system": each.item.system, "against": each.item.against}
                    file.write(json.dumps({**place, **own, "order": order, **asdict(reply)}, ensure_ascii=False) + "\n")
