"""Evaluations whose answers have a known quality, and judgings of them by the operation, with a function as judge."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deft.data.datasets import import_files
from deft.evaluation.asked import Asked, write_asked
from deft.judges.journal import Reply
from deft.judges.run import run_judge
from deft.reports import Silent
from deft.specs import JudgeSpec, spec_json
from store import scores
from store.artifacts import ArtifactFiles
from store.database import Database
from store.tables import Artifact, JobInput
from tests.evaluations import Evaluated, add_job
from tests.judge_server import Behaviour, best
from tests.safety_judged import labelled_set

Qualities = Mapping[str, Sequence[int]]


def better_in(share: float, prompts: int = 40, shift: int = 0) -> list[int]:
    """Qualities that are above 5 in a share of the prompts, and below it in the others, turned round by *shift*."""
    return [9 if (n + shift) % prompts < share * prompts else 1 for n in range(prompts)]


def answered(qualities: Qualities) -> Callable[[Path], None]:
    """Return what writes answers of these qualities, by system, to an evaluation's folder; all are equally long."""

    def write(folder: Path) -> None:
        prompts = len(next(iter(qualities.values())))
        asked = [Asked("held_out", row, f"Question {row}?", row / 1000) for row in range(prompts)]
        write_asked(asked, folder / "prompts.jsonl")
        place = {"set": "held_out", "sample": 0, "turn": 1}
        lines = [
            {**place, "row": row, "system": system, "text": f"quality={quality} from {row:03}"}
            for system, own in qualities.items()
            for row, quality in enumerate(own)
        ]
        (folder / "generations.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    return write


def all_of(*writers: Callable[[Path], None]) -> Callable[[Path], None]:
    """Return what writes with all of *writers*, in order."""

    def write(folder: Path) -> None:
        for each in writers:
            each(folder)

    return write


def labels(folder: Path, rows: int) -> Path:
    """Write *rows* pairs of which people preferred the one of higher quality, each other one being longer."""
    folder.mkdir()
    lines = [
        {
            "prompt": f"Labelled {n}?",
            "chosen": f"quality=9 {n}" + " and so on" * (n % 2),
            "rejected": f"quality=1 {n}" + " and so on" * (1 - n % 2),
        }
        for n in range(rows)
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    import_files([folder / "pairs.jsonl"], folder / "dataset")
    return folder / "dataset"


def publish_judging(
    database: Database,
    files: ArtifactFiles,
    team_id: str,
    evaluated: Evaluated,
    *,
    labelled: int = 60,
    behave: Behaviour = best,
    **changes: Any,
) -> str:
    """Judge the answers of an evaluation as a judge job does, agreeing with so many *labelled* pairs; return the id."""
    judge = {"endpoint": "scripted", "model": "judge-1", **changes.pop("judge", {})}
    spec = JudgeSpec.model_validate({"evaluation": evaluated.id, "judge": judge, "bootstrap": 200, **changes})
    with database.read() as session:
        inputs = {"evaluation": files.folder(session.get_one(Artifact, evaluated.id))}
    if labelled and spec.mode == "safety":
        people = [("compliance", "refusal", "partial")[n % 3] for n in range(labelled)]
        inputs["labels"] = labelled_set(files.stage("upload") / "labels", people)
    elif labelled:
        inputs["labels"] = labels(files.stage("upload") / "labels", labelled)
    staged = files.stage("judging")

    def ask(question: Any) -> Reply:
        return Reply(behave(question.text), prompt_tokens=7, completion_tokens=3)

    summary = run_judge(spec, inputs=inputs, out=staged, checkpoints=None, report=Silent(), ask=ask)
    with database.write() as session:
        job = add_job(session, team_id, "judge", spec_json(spec))
        named = {"name": "evaluation", "pointer": "/evaluation", "reference": evaluated.id}
        session.add(JobInput(job_id=job, team_id=team_id, artifact_id=evaluated.id, **named))
        row = files.publish(session, team_id, "judging", staged, summary, job=job)
        scores.record(session, row, files.folder(row))
    return row.id
