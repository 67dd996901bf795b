"""Answers are generated once: by evaluations that share prompts, after a stop, or a server that died."""

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from deft import operations, packing
from deft.budgets import GENERATION_TOKENS
from deft.endpoints import Endpoint
from deft.errors import Interrupted, InvalidInput, Unavailable
from deft.evaluation import answer_journals, conversations, generation
from deft.evaluation.answer_journals import AnswerJournal, AnswerJournals
from deft.evaluation.generation import Answer, Keep, Questions
from deft.reports import Silent
from deft.specs import EvaluateSpec, spec_json
from tests.deft.evaluation.test_answer_sets import inputs, spec_of  # noqa: F401 - the fixture
from tests.deft.small_runs import with_other_settings
from tests.judge_server import Scripted, judge_server
from tests.models import byte_tokenizer, save_tiny_llama

Inputs = dict[str, Path]
Change = Callable[[Inputs, Path], tuple[dict[str, Any], Inputs]]
SYSTEMS, TURNS = 2, 3 * 2 + 24
SAMPLING = {"temperature": 1.0, "repeats": 2, "seed": 1}


def without_sets(**options: Any) -> EvaluateSpec:
    document = spec_json(spec_of(**{"prompts": 4, "max_new_tokens": 6, **options})) | {"prompt_sets": []}
    return EvaluateSpec.model_validate(document)


class Record(Silent):
    """Keeps notes; asks to stop once *stop_at* answers are there."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.notes: list[str] = []
        self.done, self.stop_at = 0, stop_at

    def note(self, message: str) -> None:
        self.notes.append(message)

    def progress(self, done: int, total: int, unit: str) -> None:
        self.done = done

    @property
    def is_stopping(self) -> bool:  # type: ignore[override]
        return self.stop_at is not None and self.done >= self.stop_at


def evaluate(
    spec: EvaluateSpec,
    given: Mapping[str, Path],
    out: Path,
    cache: Path | None = None,
    *,
    script: Scripted | None = None,
    report: Silent | None = None,
) -> dict[str, Any]:
    out.mkdir()
    own = {name: given[name] for name in operations.input_names(spec)}
    endpoint = None if script is None else Endpoint(script.url, "k")
    heard = report or Silent()
    return operations.run(spec, inputs=own, out=out, checkpoints=None, report=heard, cache=cache, endpoint=endpoint)


def files_of(out: Path) -> list[bytes]:
    return [(out / name).read_bytes() for name in ("metrics.json", "generations.jsonl", "values.parquet")]


def test_an_evaluation_that_was_made_before_generates_nothing_and_ends_the_same(
    inputs: Inputs,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Held-out prompts sampled and repeated, sets greedily, two turns of them."""
    spec = spec_of(held_out_sampling=SAMPLING, metrics=["length", "kl", "entropy"])
    evaluate(spec, inputs, tmp_path / "alone")
    first = evaluate(spec, inputs, tmp_path / "first", tmp_path / "cache")
    monkeypatch.setattr(conversations, "generate", None)
    record = Record()
    again = evaluate(spec, inputs, tmp_path / "again", tmp_path / "cache", report=record)
    assert files_of(tmp_path / "alone") == files_of(tmp_path / "first") == files_of(tmp_path / "again")
    number = SYSTEMS * (2 * 2 + TURNS)
    assert [first["reused"]["answers"], again["reused"]["answers"]] == [0, number]
    assert record.notes == [f"computed before and taken again: {number} answers"]
    assert again["generated_by"] == first["generated_by"]


def test_more_prompts_and_another_metric_take_what_there_is(
    inputs: Inputs,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root, asked = tmp_path / "cache", list[int]()
    evaluate(without_sets(prompts=2), inputs, tmp_path / "few", root)

    def counted(*given: Any) -> list[Answer]:
        asked.append(len(given[2]))
        return generation.generate(*given)

    monkeypatch.setattr(conversations, "generate", counted)
    more = evaluate(without_sets(prompts=5, metrics=["bleu", "length"]), inputs, tmp_path / "more", root)
    assert (more["reused"]["answers"], asked) == (SYSTEMS * 2, [3] * SYSTEMS)
    monkeypatch.undo()
    evaluate(without_sets(prompts=5, metrics=["bleu", "length"]), inputs, tmp_path / "alone")
    assert files_of(tmp_path / "more") == files_of(tmp_path / "alone")


def test_each_draw_is_taken_by_its_own_seed(inputs: Inputs, tmp_path: Path) -> None:  # noqa: F811
    root = tmp_path / "cache"
    evaluate(without_sets(held_out_sampling=SAMPLING), inputs, tmp_path / "a", root)
    changes: list[dict[str, float]] = [{"repeats": 3}, {"seed": 2}, {"temperature": 0.5}, {"top_p": 0.9}]
    found = [
        evaluate(without_sets(held_out_sampling={**SAMPLING, **change}), inputs, tmp_path / f"b{place}", root)["reused"]
        for place, change in enumerate(changes)
    ]
    assert [each["answers"] for each in found] == [SYSTEMS * 4 * 2, 0, 0, 0]


def test_answers_of_one_engine_are_not_taken_for_those_of_the_other(
    inputs: Inputs,  # noqa: F811
    tmp_path: Path,
) -> None:
    root, engines = tmp_path / "cache", ("continuous_batching", "continuous_batching", "sorted_batches")
    found = [
        evaluate(without_sets(engine=engine), inputs, tmp_path / str(place), root)
        for place, engine in enumerate(engines)
    ]
    assert [each["reused"]["answers"] for each in found] == [0, SYSTEMS * 4, 0]
    assert [each["generated_by"][0]["engine"] for each in found] == list(engines)
    assert files_of(tmp_path / "1") == files_of(tmp_path / "0")


def _more_tokens(given: Inputs, folder: Path) -> tuple[dict[str, Any], Inputs]:
    return {"max_new_tokens": 7}, {}


def _another_base(given: Inputs, folder: Path) -> tuple[dict[str, Any], Inputs]:
    record = json.loads((given["adapter.0"] / "training.json").read_text())
    shutil.copytree(given["adapter.0"], folder / "adapter")
    (folder / "adapter" / "training.json").write_text(json.dumps({**record, "base_weights_hash": None}))
    return {}, {"model": with_other_settings(given["model"], folder / "model")}


def _other_ends(given: Inputs, folder: Path) -> tuple[dict[str, Any], Inputs]:
    shutil.copytree(given["model"], folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 70}))
    return {}, {"model": folder}


def _another_tokenizer(given: Inputs, folder: Path) -> tuple[dict[str, Any], Inputs]:
    shutil.copytree(given["model"], folder)
    (folder / "chat_template.jinja").unlink()
    byte_tokenizer(has_chat_template=False).save_pretrained(folder)
    return {}, {"model": folder}


def _other_texts(given: Inputs, folder: Path) -> tuple[dict[str, Any], Inputs]:
    """The same ids of every prompt and the same end, but answers are decoded otherwise."""
    path = Path(shutil.copytree(given["model"], folder)) / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps(settings | {"clean_up_tokenization_spaces": True}))
    assert not settings.get("clean_up_tokenization_spaces")
    return {}, {"model": folder}


@pytest.mark.parametrize("change", [_more_tokens, _another_base, _other_ends, _another_tokenizer, _other_texts])
def test_other_lengths_settings_ends_or_tokens_never_hit(
    change: Change,
    inputs: Inputs,  # noqa: F811
    tmp_path: Path,
) -> None:
    root = tmp_path / "cache"
    evaluate(without_sets(), inputs, tmp_path / "a", root)
    options, changed = change(inputs, tmp_path / "changed")
    summary = evaluate(without_sets(**options), inputs | changed, tmp_path / "b", root)
    assert summary["reused"]["answers"] == 0


def _edited(given: Inputs, folder: Path) -> None:
    path = Path(shutil.copytree(given["adapter.0"], folder)) / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"lora_alpha": 99}))


def _tuned(_: Inputs, folder: Path) -> None:
    save_tiny_llama(folder, seed=9)
    (folder / "training.json").write_text(json.dumps({"omega": 0}))


@pytest.mark.parametrize("make", [_edited, _tuned])
def test_a_system_that_changed_answers_again_and_the_base_does_not(
    make: Callable[[Inputs, Path], None],
    inputs: Inputs,  # noqa: F811
    tmp_path: Path,
) -> None:
    root = tmp_path / "cache"
    evaluate(without_sets(), inputs, tmp_path / "a", root)
    make(inputs, tmp_path / "system")
    summary = evaluate(without_sets(), inputs | {"adapter.0": tmp_path / "system"}, tmp_path / "b", root)
    assert summary["reused"]["answers"] == 4


def test_damaged_lines_and_journals_of_another_system_are_not_believed(
    inputs: Inputs,  # noqa: F811
    tmp_path: Path,
) -> None:
    root = tmp_path / "cache"
    evaluate(without_sets(), inputs, tmp_path / "a", root)
    one, other = sorted((root / "answers").iterdir())
    lines = one.read_text().splitlines(keepends=True)
    assert len(lines) == 4
    shutil.copy(one, other)
    ids = lines[1].index('"ids": [') + len('"ids": [')
    lines[1] = lines[1][:ids] + ("1" if lines[1][ids] != "1" else "2") + lines[1][ids + 1 :]
    one.write_text(lines[0] + lines[1] + "no line\n" + lines[2] + lines[3][:-20])
    summary = evaluate(without_sets(), inputs, tmp_path / "b", root)
    assert summary["reused"]["answers"] == 2
    assert files_of(tmp_path / "b") == files_of(tmp_path / "a")
    again = evaluate(without_sets(), inputs, tmp_path / "c", root)  # what was cut is a line of its own now
    assert again["reused"]["answers"] == SYSTEMS * 4


def test_a_stop_keeps_every_batch_and_what_is_left_falls_into_the_same_batches(
    inputs: Inputs,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(GENERATION_TOKENS, "cpu", 30)
    batches: list[list[int]] = []

    def planned(lengths: list[int], budget: int) -> list[list[int]]:
        found: list[list[int]] = packing.plan(lengths, budget)
        batches.append([len(batch) for batch in found])
        return found

    monkeypatch.setattr(generation, "plan", planned)
    root, spec = tmp_path / "cache", without_sets(prompts=6)
    evaluate(spec, inputs, tmp_path / "whole")
    whole = batches[0]
    assert len(whole) > 2
    with pytest.raises(Interrupted):
        evaluate(spec, inputs, tmp_path / "stopped", root, report=Record(stop_at=1))
    batches.clear()
    summary = evaluate(spec, inputs, tmp_path / "again", root)
    assert (summary["reused"]["answers"], batches[0]) == (whole[0], whole[1:])
    assert files_of(tmp_path / "again") == files_of(tmp_path / "whole")


SERVER = {"endpoint": "vllm", "models": {"base": "b", "deft": "d"}, "concurrency": 1, "retries": 0}


def served(**options: Any) -> EvaluateSpec:
    return without_sets(server=SERVER, max_new_tokens=40, **options)


def test_a_server_that_died_is_asked_for_the_rest_alone(inputs: Inputs, tmp_path: Path) -> None:  # noqa: F811
    root = tmp_path / "cache"
    with judge_server(Scripted(lambda name: f"from {name}", dies_after=3)) as script:
        with pytest.raises(Unavailable, match="3 of 4 answers are kept: ask for the same job again"):
            evaluate(served(), inputs, tmp_path / "dead", root, script=script)
        known = [tuple(body["prompt"]) for body in script.asked[:3]]
        script.asked.clear()
        script.dies_after = 3 + 2  # with the second system under way
        with pytest.raises(Unavailable, match="1 of 4 answers are kept"):
            evaluate(served(), inputs, tmp_path / "dead again", root, script=script)
        script.asked.clear()
        script.dies_after = None
        summary = evaluate(served(), inputs, tmp_path / "again", root, script=script)
    assert len(known) == 3
    assert {body["model"] for body in script.asked} == {"d"}
    assert (len(script.asked), summary["reused"]["answers"]) == (3, 5)


def test_of_a_server_that_dies_every_answer_that_was_sent_is_kept(
    inputs: Inputs,  # noqa: F811
    tmp_path: Path,
) -> None:
    """With several requests open, those that were answered while the first failure was told are there too."""
    spec = EvaluateSpec.model_validate(
        spec_json(served(prompts=6))
        | {"options": spec_json(served(prompts=6))["options"] | {"server": {**SERVER, "concurrency": 4}}}
    )
    scripted = Scripted(lambda name: f"from {name}", dies_after=5)
    with judge_server(scripted) as script, pytest.raises(Unavailable, match="5 of 6 answers are kept"):
        evaluate(spec, inputs, tmp_path / "dead", tmp_path / "cache", script=script)


def test_what_a_server_answered_goes_with_the_end_of_its_job_and_is_no_other_jobs(
    inputs: Inputs,  # noqa: F811
    tmp_path: Path,
) -> None:
    root = tmp_path / "cache"
    with judge_server(Scripted(lambda name: f"from {name}", dies_after=3)) as script:
        with pytest.raises(Unavailable):
            evaluate(served(), inputs, tmp_path / "dead", root, script=script)
        script.dies_after = None
        other = evaluate(served(metrics=["bleu"]), inputs, tmp_path / "other", root, script=script)
        evaluate(served(), inputs, tmp_path / "done", root, script=script)
        script.asked.clear()
        anew = evaluate(served(), inputs, tmp_path / "anew", root, script=script)
    assert [each["reused"]["answers"] for each in (other, anew)] == [0, 0]
    assert len(script.asked) == SYSTEMS * 4
    assert not list((root / "served_answers").iterdir())


def test_another_address_model_or_a_day_later_asks_anew(inputs: Inputs, tmp_path: Path) -> None:  # noqa: F811
    root = tmp_path / "cache"
    with judge_server(Scripted(lambda name: f"from {name}", dies_after=3)) as script, pytest.raises(Unavailable):
        evaluate(served(), inputs, tmp_path / "dead", root, script=script)
    shutil.copytree(root, tmp_path / "old")
    (old,) = (tmp_path / "old" / "served_answers").glob("*/*.jsonl")
    seconds = old.stat().st_mtime - answer_journals.SERVED_SECONDS - 60
    os.utime(old, (seconds, seconds))
    with judge_server(Scripted(lambda name: f"from {name}")) as another:
        summary = evaluate(served(), inputs, tmp_path / "another", root, script=another)
        assert summary["reused"]["answers"] == 0
        script.url, script.dies_after = another.url, None
        assert (
            evaluate(served(), inputs, tmp_path / "later", tmp_path / "old", script=another)["reused"]["answers"] == 0
        )
    assert not old.exists()


def test_prompts_that_a_server_refuses_lose_no_other_and_are_told(inputs: Inputs, tmp_path: Path) -> None:  # noqa: F811
    root = tmp_path / "cache"
    with judge_server(Scripted(lambda name: f"from {name}", refusals=[400, 422])) as script:
        with pytest.raises(InvalidInput) as refusal:
            evaluate(served(), inputs, tmp_path / "refused", root, script=script)
        assert len(script.asked) == 4
        refused = [body["prompt"] for body in script.asked[:2]]
        script.asked.clear()
        summary = evaluate(served(), inputs, tmp_path / "again", root, script=script)
    (finding,) = refusal.value.findings
    row = json.loads((tmp_path / "again" / "generations.jsonl").read_text().splitlines()[0])["row"]
    beginning = f"2 refused, the first of them row {row} of held_out: status 400 for {len(refused[0])} tokens"
    assert finding.found.startswith(beginning)
    assert [body["prompt"] for body in script.asked if body["model"] == "b"] == refused
    assert summary["reused"]["answers"] == 2


def test_a_refused_turn_of_a_set_is_named(inputs: Inputs, tmp_path: Path) -> None:  # noqa: F811
    document = spec_json(spec_of(server=SERVER, max_new_tokens=40)) | {"prompt_sets": ["ds_bench"]}
    document["options"]["prompts"] = 0
    refusals: list[int] = []

    def behave(_: str) -> str:
        if len(script.asked) == 3:
            refusals.append(400)  # the first prompt of the second turn
        return "yes"

    with judge_server(Scripted(behave, refusals=refusals)) as script, pytest.raises(InvalidInput) as refusal:
        evaluate(EvaluateSpec.model_validate(document), inputs, tmp_path / "out", tmp_path / "cache", script=script)
    assert "the first of them turn 2 of row 0 of ds_bench" in refusal.value.findings[0].found


ANSWER = Answer([1, 2], None, "text", "limit")


def _asking(asked: list[list[list[int]]]) -> Callable[..., list[Answer]]:
    def ask(questions: Questions, on_progress: Any, keep: Keep) -> list[Answer]:
        asked.append(questions.prompts)
        keep(dict.fromkeys(range(len(questions)), ANSWER))
        return []

    return ask


def test_equal_prompts_are_asked_once_and_other_cuts_and_seeds_apart() -> None:
    asked: list[list[list[int]]] = []
    done: list[int] = []
    journal = AnswerJournal("c")
    questions = Questions([[1], [2], [1], [1]], [False, False, False, True])
    found = journal.complete(_asking(asked), questions, done.append)
    assert found == [ANSWER] * 4
    assert asked == [[[1], [2], [1]]]
    assert done == [4]
    journal.complete(_asking(asked), Questions([[1], [1]], [False, False], [7, 8]), done.append)
    assert asked[1:] == [[[1], [1]]]
    journal.complete(_asking(asked), Questions([[1], [2]], [False, False]), done.append)
    assert len(asked) == 2


def test_what_is_asked_keeps_its_cuts_and_seeds() -> None:
    asked: list[Questions] = []

    def ask(questions: Questions, on_progress: Any, keep: Keep) -> list[Answer]:
        asked.append(questions)
        keep(dict.fromkeys(range(len(questions)), ANSWER))
        return []

    journal, questions = AnswerJournal("c"), Questions([[1], [2], [3]], [False, True, False], [7, 8, 9])
    journal.complete(ask, questions.take([0]), lambda _: None)
    journal.complete(ask, questions, lambda _: None)
    assert asked == [Questions([[1]], [False], [7]), Questions([[2], [3]], [True, False], [8, 9])]


def test_a_journal_that_cannot_be_written_is_said_once_and_nothing_fails(tmp_path: Path) -> None:
    notes: list[str] = []
    (tmp_path / "answers").write_text("a file where a folder should be")
    journal = AnswerJournals(tmp_path, note=notes.append).open({"system": "s"})
    asked: list[list[list[int]]] = []
    for prompt in ([1], [2]):
        assert journal.complete(_asking(asked), Questions([prompt], [False]), lambda _: None) == [ANSWER]
    assert len(notes) == 1
    assert notes[0].startswith("answers are not kept any more: ")


def _fill(journals: AnswerJournals, is_served: bool) -> int:
    """Fill the journals of three systems, all used long ago; return the bytes of one."""
    size = 0
    for place, system in enumerate(("old", "used", "new")):
        journal = (journals.open_served if is_served else journals.open)({"system": system})
        journal.add({"key": ANSWER})
        assert journal.path is not None
        seconds = time.time() - 3600 + place
        os.utime(journal.path, (seconds, seconds))
        size = journal.path.stat().st_size
    return size


def test_journals_have_a_bound_and_those_used_longest_ago_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journals = AnswerJournals(tmp_path)
    monkeypatch.setattr(answer_journals, "LARGEST_BYTES", 2 * _fill(journals, is_served=False))
    assert journals.open({"system": "used"}).answers == {"key": ANSWER}
    journals.end()
    found = {system: bool(journals.open({"system": system}).answers) for system in ("old", "used", "new")}
    assert found == {"old": False, "used": True, "new": True}


def test_of_servers_journals_those_of_other_jobs_have_a_bound_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = AnswerJournals(tmp_path, job="failed")
    monkeypatch.setattr(answer_journals, "LARGEST_BYTES", 2 * _fill(failed, is_served=True))
    AnswerJournals(tmp_path, job="done").end()
    found = {system: bool(failed.open_served({"system": system}).answers) for system in ("old", "used", "new")}
    assert found == {"old": False, "used": True, "new": True}


@pytest.mark.parametrize("is_served", [False, True])
def test_an_evaluation_under_way_loses_no_journal_of_its_own_to_the_bound(
    is_served: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else those that its next attempt opens first would be the first to go."""
    monkeypatch.setattr(answer_journals, "LARGEST_BYTES", 1)
    journals = AnswerJournals(tmp_path, job="job")
    _fill(journals, is_served)
    again = journals.open_served if is_served else journals.open
    assert all(again({"system": system}).answers for system in ("old", "used", "new"))
