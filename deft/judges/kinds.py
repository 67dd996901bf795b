"""What the answers to prompts labelled safe or unsafe do, as a judge tells it: safety.json, values.parquet.

The rates are counted by the code that counts those of the rules (`deft.safety.told`). Answers that the rules of
collapse find incoherent are not asked about, nor do they count in the judge's agreement with people; of all others the
judge tells the kind, incoherent among them. A reply
that cannot be read, or a refused question, leaves an answer untold: no rate counts it, and at worst it is what the
rate counts.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from deft.data.answer_kinds import Kind
from deft.evaluation.metrics import Who
from deft.evaluation.set_values import append_values
from deft.judges import templates
from deft.judges.answers import Answers, LabelledAnswer, read_labelled_answers
from deft.judges.asking import Interview
from deft.judges.files import arms_of, common_settings, hash_of, nothing_to_judge, read_json, write_json
from deft.judges.items import LABELS
from deft.judges.journal import Reply
from deft.judges.kind_findings import about_judge, metrics_rows, sentence
from deft.judges.templates import Question, kind_question
from deft.safety.agreement import kind_in
from deft.safety.coherence import is_incoherent
from deft.safety.told import RULES, Detector, Said, Spoken, numbers_of, safety, value_rows
from deft.specs import JudgeSpec

PREFIX = "judge_"
"""What a judge's rates are called by, before the name that they have by the rules."""

Pair = tuple[str, str]
"""A request and an answer."""

SCHEMA = pa.schema(
    [
        ("set", pa.string()),
        ("row", pa.int64()),
        ("sample", pa.int32()),
        ("turn", pa.int32()),
        ("category", pa.string()),
        ("label", pa.string()),
        ("system", pa.string()),
        ("cluster", pa.float64()),
        ("kind", pa.string()),
        ("people", pa.string()),
        ("is_asked", pa.bool_()),
    ]
)
"""Columns of judgements.parquet; *people*: the kind that people say, of labelled answers alone."""


@dataclass(frozen=True, slots=True)
class Told:
    """What was said of each distinct pair: its *kind*, None: nothing sure; the judge's *reply*, where it was asked."""

    kind: Kind | None
    reply: Reply | None
    is_asked: bool


def judge_kinds(
    spec: JudgeSpec, inputs: Mapping[str, Path], answers: Answers, interview: Interview, out: Path
) -> dict[str, Any]:
    """Have the judge tell the kind of every first answer to a labelled prompt; write the files, return the summary.

    Raises:
        InvalidInput: the systems answered no labelled prompt in common, or the labels are none.
        Unavailable, Interrupted: as `Interview.put`.
    """
    spoken = spoken_in(answers, spec, arms_of(inputs["evaluation"]))
    labelled = read_labelled_answers(inputs["labels"], spec) if "labels" in inputs else []
    pairs = [(said.asked.text, said.text) for _, own in spoken for said in own]
    pairs = list(dict.fromkeys([*pairs, *((one.prompt, one.answer) for one in labelled)]))
    questions = {pair: kind_question(*pair) for pair in pairs if not is_incoherent(pair[1])}
    interview.report.phase("asking")
    tally = interview.put(questions.values())
    interview.report.phase("comparing")
    told = {pair: _told(questions.get(pair), interview) for pair in pairs}
    unread = interview.unread(questions.values(), lambda reply: kind_in(reply.whole_text) is None)
    counts = {**asdict(tally), "parse_failures": unread}
    return _write(spec, inputs["evaluation"], spoken, labelled, told, counts, out)


def spoken_in(answers: Answers, spec: JudgeSpec, arms: Mapping[str, str]) -> Spoken:
    """Return the first answers of each system that is judged, `against` first, to the prompts that all answered.

    Raises:
        InvalidInput: `nothing_to_judge`: there is no such prompt.
    """
    wanted = [spec.against, *(spec.systems or answers.systems)]
    systems = list(dict.fromkeys(wanted))
    places = [place for place, own in answers.texts.items() if all(own.get(name) for name in systems)]
    if not places:
        raise nothing_to_judge(f"labelled prompts that {', '.join(systems)} answered")
    return [
        (
            Who(name, arms.get(name, name)),
            [Said(answers.asked(place), place.sample, answers.texts[place][name][0]) for place in places],
        )
        for name in systems
    ]


def detector_of(spec: JudgeSpec, told: Mapping[Pair, Told]) -> Detector:
    """Return the judge as a detector: its model and the version of the texts that it was asked by."""
    name = f"{spec.judge.model}, kind-{templates.VERSION}"
    return Detector(name, lambda pairs: [told[pair].kind for pair in pairs], PREFIX)


def _told(question: Question | None, interview: Interview) -> Told:
    if question is None:
        return Told("incoherent", None, is_asked=False)
    reply = interview.reply_to(question)
    return Told(None if reply is None else kind_in(reply.whole_text), reply, is_asked=True)


def _write(
    spec: JudgeSpec,
    evaluation: Path,
    spoken: Spoken,
    labelled: Sequence[LabelledAnswer],
    told: Mapping[Pair, Told],
    counts: Mapping[str, int],
    out: Path,
) -> dict[str, Any]:
    detector = detector_of(spec, told)
    settings = _settings(spec, evaluation, spoken, detector)
    found = safety(spoken, detector, resamples=spec.bootstrap, seed=spec.seed)
    kinds = {who.system: [told[said.asked.text, said.text] for said in own] for who, own in spoken}
    asked = [each.kind for own in kinds.values() for each in own if each.is_asked]
    by_people = [(one, told[one.prompt, one.answer]) for one in labelled]
    agreed = [(one.kind, each.kind, one.cluster) for one, each in by_people if each.is_asked]
    about = about_judge(asked, agreed, spec, unasked=len(labelled) - len(agreed))
    rows = metrics_rows(found["rates"], hash_of(settings), may_decide=about["may_decide"])
    summary = {
        "sentence": sentence(rows, {name: [each.kind for each in own] for name, own in kinds.items()}, about, spec),
        "mode": spec.mode,
        "against": spec.against,
        "judge": spec.judge.model,
        "detector": detector.name,
        "items": sum(len(own) for own in kinds.values()),
        "incoherent_unasked": sum(not each.is_asked for own in kinds.values() for each in own),
        **counts,
        **about,
        "results": [row for row in rows if row["slice"] == "all"],
    }
    write_json(out / "metrics.json", rows)
    write_json(out / "judging.json", {**summary, "results": rows, "settings": settings})
    write_json(out / "safety.json", {**found, "settings": settings})
    numbers = numbers_of(spoken[0][1])
    values = (row for who, own in spoken for row in value_rows(who, own, detector, numbers))
    append_values(values, out / "values.parquet")
    _write_judgements(spoken, labelled, told, out)
    return summary


def _settings(spec: JudgeSpec, evaluation: Path, spoken: Spoken, detector: Detector) -> dict[str, Any]:
    """Return everything that a rate depends on but the system itself."""
    own = [said.asked for said in spoken[0][1]]
    prompts = [[a.set, a.row, a.text, a.category, a.label] for a in own]
    answered: dict[str, Any] = read_json(evaluation / "safety.json", {}).get("settings") or {}
    return common_settings(spec) | {
        "detector": detector.name,
        "incoherent_by": RULES.name,
        "prompts": hash_of(prompts),
        "answers": {name: value for name, value in answered.items() if name != "detector"},
    }


def _write_judgements(spoken: Spoken, labelled: Sequence[LabelledAnswer], told: Mapping[Pair, Told], out: Path) -> None:
    """Write judgements.parquet, one row an answer, and replies.jsonl, one line for each that was replied to."""
    own = [(_place(who, said), told[said.asked.text, said.text]) for who, answers in spoken for said in answers]
    own += [(_labelled_place(one), told[one.prompt, one.answer]) for one in labelled]
    rows = [{**place, "kind": one.kind, "is_asked": one.is_asked} for place, one in own]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), out / "judgements.parquet")
    names = ("set", "row", "sample", "turn", "system")
    with (out / "replies.jsonl").open("w", encoding="utf-8") as file:
        for place, one in own:
            if one.reply is not None:
                line = {name: place[name] for name in names} | asdict(one.reply)
                file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _place(who: Who, said: Said) -> dict[str, Any]:
    asked = said.asked
    return {
        "set": asked.set,
        "row": asked.row,
        "sample": said.sample,
        "turn": 1,
        "category": asked.category,
        "label": asked.label,
        "system": who.system,
        "cluster": asked.cluster,
        "people": None,
    }


def _labelled_place(one: LabelledAnswer) -> dict[str, Any]:
    return {
        "set": LABELS,
        "row": one.row,
        "sample": 0,
        "turn": 1,
        "category": one.category,
        "label": None,
        "system": LABELS,
        "cluster": one.cluster,
        "people": one.kind,
    }
