"""The operation against a scripted judge behind real HTTP: each property with a known answer."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from deft.data.datasets import import_files
from deft.endpoints import Endpoint
from deft.errors import InvalidInput, Unavailable
from deft.evaluation.asked import Asked, write_asked
from deft.judges.journal import MOST_CHARACTERS, Reply
from deft.judges.run import context_of, run_judge
from deft.judges.templates import Question
from deft.reports import Silent
from deft.specs import JudgeSpec
from tests.judge_server import Scripted, always_first, best, garbage, judge_server, longer_wins, rating

SECRET = "sk-never-shown"  # noqa: S105 - what must be shown nowhere
PRIVATE = "xylophone"


def evaluation(folder: Path, own: Sequence[str], base: Sequence[str], *, further: Sequence[str] = ()) -> Path:
    """Write an evaluation with one prompt for each pair of answers, and for `further` turns the same answer again."""
    folder.mkdir()
    prompts = [
        Asked("held_out" if i % 2 else "ds_set", i, f"Question {i}, {PRIVATE}?", i / 1000, tuple(further), f"c{i % 2}")
        for i in range(len(own))
    ]
    write_asked(prompts, folder / "prompts.jsonl")
    lines = [
        {"set": asked.set, "row": asked.row, "sample": 0, "turn": turn, "system": system, "text": texts[asked.row]}
        for system, texts in (("base", base), ("deft", own))
        for asked in prompts
        for turn in range(1, 2 + len(further))
    ]
    (folder / "generations.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "metrics.json").write_text(json.dumps([{"system": "deft", "arm": "deft_arm"}]))
    return folder


def labels(folder: Path, rows: int, *, longer: int = 0) -> Path:
    """Write *rows* pairs of which people preferred the one of higher quality; of *longer* rows it is the longer one."""
    folder.mkdir()
    lines = [
        {
            "prompt": f"Labelled {i}?",
            "chosen": f"quality=9 {i}" + " and so on" * (i < longer),
            "rejected": f"quality=1 {i}" + " and so forth" * (i >= longer),
        }
        for i in range(rows)
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    import_files([folder / "pairs.jsonl"], folder / "dataset")
    return folder / "dataset"


def spec_of(**changes: Any) -> JudgeSpec:
    judge = {"endpoint": "scripted", "model": "judge-1", "retries": 2, **changes.pop("judge", {})}
    return JudgeSpec.model_validate({"evaluation": "ev_1", "judge": judge, "bootstrap": 200, **changes})


def judge(
    spec: JudgeSpec, inputs: dict[str, Path], out: Path, script: Scripted, cache: Path | None = None
) -> dict[str, Any]:
    out.mkdir()
    endpoint = Endpoint(script.url, SECRET)
    summary = run_judge(spec, inputs=inputs, out=out, checkpoints=None, report=Silent(), cache=cache, endpoint=endpoint)
    rows = json.loads((out / "metrics.json").read_text())
    assert summary["results"] == [row for row in rows if row["slice"] == "all"]
    return {**summary, "results": rows}


def value(summary: dict[str, Any], metric: str = "judge_win_rate", part: str = "all", system: str = "deft") -> float:
    return next(
        row["value"]
        for row in summary["results"]
        if (row["metric"], row["slice"], row["system"]) == (metric, part, system)
    )


def better_in(share: float, n: int = 40) -> tuple[list[str], list[str]]:
    """Answers of which the system's is the better one in a share of prompts; all lengths alike."""
    own = [f"quality={9 if i < share * n else 1} own" for i in range(n)]
    return own, ["quality=5 not"] * n


@pytest.fixture
def pairs(tmp_path: Path) -> dict[str, Path]:
    return {"evaluation": evaluation(tmp_path / "evaluation", *better_in(0.75))}


def test_a_judge_of_quality_gives_the_known_win_rate(pairs: dict[str, Path], tmp_path: Path) -> None:
    with judge_server(Scripted(best)) as script:
        summary = judge(spec_of(), pairs, tmp_path / "out", script)
    assert value(summary) == 0.75
    assert value(summary, "judge_win_rate_length_controlled") == pytest.approx(0.75, abs=0.02)
    assert (summary["items"], summary["asked"], summary["parse_failures"]) == (40, 80, 0)
    assert (summary["prompt_tokens"], summary["completion_tokens"]) == (560, 240)
    assert summary["consistency"] == 1
    assert summary["position_bias"]["value"] == 0.5
    row = summary["results"][0]
    assert row["low"] < 0.75 < row["high"]
    assert row["arm"] == "deft_arm"
    assert {row["slice"] for row in summary["results"]} == {
        *("all", "set:ds_set", "set:held_out", "category:c0", "category:c1")
    }


def test_a_judge_that_always_takes_the_first_ties_everything(pairs: dict[str, Path], tmp_path: Path) -> None:
    with judge_server(Scripted(always_first)) as script:
        summary = judge(spec_of(), pairs, tmp_path / "out", script)
    assert value(summary) == 0.5
    assert summary["position_bias"]["value"] == 1
    assert summary["consistency"] == 0
    rows = pl.read_parquet(tmp_path / "out" / "judgements.parquet")
    assert set(rows["outcome"]) == {0.5}


def test_a_judge_of_length_is_seen_through_by_length_control(tmp_path: Path) -> None:
    own = ["quality=1" + " word" * (12 + i % 7 if i % 5 else 2) for i in range(60)]
    base = ["quality=9" + " word" * 8] * 60
    inputs = {"evaluation": evaluation(tmp_path / "evaluation", own, base)}
    with judge_server(Scripted(longer_wins)) as script:
        summary = judge(spec_of(), inputs, tmp_path / "out", script)
    assert value(summary) == 0.8
    assert value(summary, "judge_win_rate_length_controlled") == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize(("shorter", "is_told"), [(0, False), (1, False), (6, True)])
def test_a_length_controlled_rate_of_one_side_is_not_valid(tmp_path: Path, shorter: int, *, is_told: bool) -> None:
    own = ["quality=9" + " word" * (2 if i < shorter else 12 + i % 7) for i in range(40)]
    inputs = {"evaluation": evaluation(tmp_path / "evaluation", own, ["quality=1" + " word" * 8] * 40)}
    inputs["labels"] = labels(tmp_path / "labels", 60, longer=30)
    with judge_server(Scripted(best)) as script:
        summary = judge(spec_of(labels="ds_labels"), inputs, tmp_path / "out", script)
    assert summary["may_decide"]
    rows = {row["metric"]: row for row in summary["results"] if row["slice"] == "all"}
    controlled = rows["judge_win_rate_length_controlled"]
    assert (rows["judge_win_rate"]["is_valid"], rows["judge_win_rate"]["not_valid_because"]) == (True, None)
    assert controlled["is_valid"] is is_told
    told = f"the system is longer in {100 - 2.5 * shorter:g} % of pairs: length and quality cannot be told apart"
    assert (told in (controlled["not_valid_because"] or "")) is not is_told
    assert (f"Nothing is known of equal lengths: {told}" in summary["sentence"]) is not is_told


def test_garbage_is_counted_and_makes_no_outcome(pairs: dict[str, Path], tmp_path: Path) -> None:
    with judge_server(Scripted(garbage)) as script:
        summary = judge(spec_of(), pairs, tmp_path / "out", script)
    assert summary["parse_failures"] == summary["asked"] == 80
    assert summary["results"] == []
    assert summary["may_decide"] is False
    assert pl.read_parquet(tmp_path / "out" / "judgements.parquet")["outcome"].null_count() == 40
    told = "Nothing can be concluded of `deft` beside `base`: 40 of 40 verdicts by judge-1 could not be read."
    assert summary["sentence"].startswith(f"{told} It may decide nothing: 40 of 40 of its verdicts could not be read; ")


@pytest.mark.parametrize(
    ("unreadable", "told"),
    [
        (10, "`deft` wins 0.667 against `base` by judge-1 (95 % interval "),
        (21, "Nothing can be concluded of `deft` beside `base`: 21 of 40 verdicts by judge-1 could not be read."),
    ],
)
def test_the_sentence_says_how_many_verdicts_could_not_be_read(
    pairs: dict[str, Path], tmp_path: Path, unreadable: int, told: str
) -> None:
    numbers = {f"Question {n}, " for n in range(unreadable)}

    def partly(question: str) -> str:
        return garbage(question) if any(number in question for number in numbers) else best(question)

    with judge_server(Scripted(partly)) as script:
        summary = judge(spec_of(), pairs, tmp_path / "out", script)
    assert summary["sentence"].startswith(told)
    is_told = unreadable == 10
    assert ("30 answers; 10 of 40 verdicts could not be read and count nowhere)." in summary["sentence"]) == is_told
    assert ("of its verdicts could not be read" in "; ".join(summary["may_not_decide_because"])) == (not is_told)


@pytest.mark.parametrize("reply", ["Score: 11", "no idea"])
def test_scores_that_cannot_be_read_are_told_too(pairs: dict[str, Path], tmp_path: Path, reply: str) -> None:
    def partly(question: str) -> str:
        return reply if "quality=5 not" in question else rating(question)

    with judge_server(Scripted(partly)) as script:
        summary = judge(spec_of(mode="single"), pairs, tmp_path / "out", script)
    assert "Nothing can be concluded of `base`: 40 of 40 scores by judge-1 could not be read." in summary["sentence"]
    assert "`deft` is scored 7.00 of 10 by judge-1" in summary["sentence"]


def test_a_number_of_which_most_cannot_be_read_is_not_valid(pairs: dict[str, Path], tmp_path: Path) -> None:
    """A judge whom people agree with, who says nothing sure of most answers of the base."""
    sure = {f"Question {n}, " for n in range(10)}

    def partly(question: str) -> str:
        is_sure = "quality=5 not" not in question or any(number in question for number in sure)
        return rating(question) if is_sure else "no idea"

    given = {**pairs, "labels": labels(tmp_path / "labels", 60, longer=30)}
    with judge_server(Scripted(partly)) as script:
        summary = judge(spec_of(mode="single", labels="ds_1"), given, tmp_path / "out", script)
    valid = {each["system"]: each["is_valid"] for each in summary["results"] if each["metric"] == "judge_score"}
    assert (summary["may_decide"], valid) == (True, {"base": False, "deft": True})


def _content(content: Any) -> Callable[[dict[str, Any]], None]:
    return lambda document: document["choices"][0]["message"].update(content=content)


@pytest.mark.parametrize("content", [[{"type": "image"}, "Verdict: A"], "half \ud800", {"a": 1}, 7, None])
def test_a_reply_that_is_no_text_is_a_parse_failure_now_and_from_the_journal(
    pairs: dict[str, Path], tmp_path: Path, content: object
) -> None:
    with judge_server(Scripted(best, change=_content(content))) as script:
        summaries = [judge(spec_of(), pairs, tmp_path / name, script, tmp_path / "cache") for name in ("out", "again")]
    assert [(each["asked"], each["kept"], each["parse_failures"]) for each in summaries] == [(80, 0, 80), (0, 80, 80)]
    replies = [json.loads(line) for line in (tmp_path / "again" / "replies.jsonl").read_text("utf-8").splitlines()]
    assert {each["text"] for each in replies} == {"half \ufffd" if isinstance(content, str) else ""}


@pytest.mark.parametrize("change", [{"choices": []}, {"choices": [{"index": 0, "message": None}]}])
def test_one_question_without_a_choice_costs_that_item_alone(
    pairs: dict[str, Path], tmp_path: Path, change: dict[str, Any]
) -> None:
    """As a server answers that does not let its model see one prompt."""
    left = [change]

    def block_the_first(document: dict[str, Any]) -> None:
        document.update(left.pop() if left else {})

    with judge_server(Scripted(best, change=block_the_first)) as script:
        spec = spec_of(judge={"concurrency": 1})
        summaries = [judge(spec, pairs, tmp_path / name, script, tmp_path / "cache") for name in ("out", "again")]
    assert [(each["asked"], each["kept"], each["parse_failures"]) for each in summaries] == [(80, 0, 1), (0, 80, 1)]
    assert summaries[0]["prompt_tokens"] == 560
    assert pl.read_parquet(tmp_path / "again" / "judgements.parquet")["outcome"].null_count() == 1


@pytest.mark.parametrize(
    "change",
    [
        {"choices": None},
        {"choices": [], "error": {"message": "no", "code": 500}},
        {"choices": [], "object": "error", "message": "no"},
        {
            "choices": [
                {"index": 0, "finish_reason": "error", "message": {"role": "assistant", "content": "Verdict: A"}}
            ]
        },
        {"choices": [{"index": 0, "finish_reason": "abort", "message": {"role": "assistant", "content": ""}}]},
    ],
)
def test_an_outage_that_is_told_with_status_200_is_asked_again(
    pairs: dict[str, Path], tmp_path: Path, change: dict[str, Any]
) -> None:
    cache, spec, is_out = tmp_path / "cache", spec_of(judge={"concurrency": 1}), [True]

    def gateway(document: dict[str, Any]) -> None:
        document.update(change if is_out else {})

    with judge_server(Scripted(best, change=gateway)) as script:
        with pytest.raises(Unavailable, match="not answer as an OpenAI-compatible one does"):
            judge(spec, pairs, tmp_path / "first", script, cache)
        is_out.clear()
        summary = judge(spec, pairs, tmp_path / "second", script, cache)
    assert (summary["kept"], summary["parse_failures"], value(summary)) == (0, 0, 0.75)


@pytest.mark.parametrize(
    "parts_of",
    [
        lambda said: [{"type": "reasoning", "text": "Verdict: B"}, {"type": "text", "text": said}],
        lambda said: [{"type": "text", "text": said}, {"type": "text", "text": None}, None],
        lambda said: [{"text": "For reasons.\n"}, {"text": said}],
        lambda said: [{"type": "reasoning_text", "text": "Verdict: B"}, {"type": "output_text", "text": said}],
        lambda said: [{"type": "thinking", "thinking": "Verdict: B", "text": "Verdict: B"}, {"text": said}],
    ],
)
def test_a_reply_in_parts_is_read_without_its_reasoning(
    pairs: dict[str, Path], tmp_path: Path, parts_of: Callable[[str], list[Any]]
) -> None:
    def in_parts(document: dict[str, Any]) -> None:
        message = document["choices"][0]["message"]
        message["content"] = parts_of(message["content"])

    with judge_server(Scripted(best, change=in_parts)) as script:
        summary = judge(spec_of(), pairs, tmp_path / "out", script, tmp_path / "cache")
    assert (summary["parse_failures"], value(summary)) == (0, 0.75)


def test_a_page_in_place_of_a_reply_fails_and_what_was_answered_before_is_kept(
    pairs: dict[str, Path], tmp_path: Path
) -> None:
    cache, spec = tmp_path / "cache", spec_of(judge={"concurrency": 1})
    with judge_server(Scripted(best, page="<html>Sign in</html>", page_after=30)) as script:
        with pytest.raises(Unavailable, match="not answer as an OpenAI-compatible one does; 30 of 80 replies are kept"):
            judge(spec, pairs, tmp_path / "first", script, cache)
        script.page = ""
        summary = judge(spec, pairs, tmp_path / "second", script, cache)
    assert (summary["kept"], summary["asked"], value(summary)) == (30, 50, 0.75)


def test_a_reply_that_is_too_long_is_cut_and_cannot_be_read(tmp_path: Path) -> None:
    inputs = {"evaluation": evaluation(tmp_path / "evaluation", *better_in(0.5, 4))}
    with judge_server(Scripted(lambda _: "Verdict: A\n" + "x" * 2_000_000)) as script:
        summaries = [judge(spec_of(), inputs, tmp_path / name, script, tmp_path / "cache") for name in ("out", "again")]
    assert [(each["asked"], each["kept"], each["parse_failures"]) for each in summaries] == [(8, 0, 8), (0, 8, 8)]
    replies = [json.loads(line) for line in (tmp_path / "again" / "replies.jsonl").read_text("utf-8").splitlines()]
    assert {(len(each["text"]), each["is_cut"]) for each in replies} == {(MOST_CHARACTERS, True)}
    kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert all(path.stat().st_size < 8 * (MOST_CHARACTERS + 1000) for path in kept)


@pytest.mark.parametrize(
    ("mode", "reason", "said"),
    [
        ("pairwise", "length", "On style alone.\nVerdict: A\nOn facts, though, the other is"),
        ("pairwise", "content_filter", "Verdict: A\nThe second answer is"),
        ("pairwise", "MAX_TOKENS", "Verdict: A"),
        ("pairwise", "SAFETY", "Verdict: A"),
        ("single", "length", "Score: 7\nBut for its end, which"),
    ],
)
def test_a_reply_that_the_server_cut_cannot_be_read_now_and_from_the_journal(
    pairs: dict[str, Path], tmp_path: Path, mode: str, reason: str, said: str
) -> None:
    def cut(document: dict[str, Any]) -> None:
        document["choices"][0]["finish_reason"] = reason

    spec = spec_of(mode=mode)
    with judge_server(Scripted(lambda _: said, change=cut)) as script:
        summaries = [judge(spec, pairs, tmp_path / name, script, tmp_path / "cache") for name in ("out", "again")]
    asked = summaries[0]["asked"]
    counts = [(each["asked"], each["kept"], each["parse_failures"]) for each in summaries]
    assert (asked >= 40, counts) == (True, [(asked, 0, asked), (0, asked, asked)])
    assert [row["value"] for each in summaries for row in each["results"]] == []
    replies = [json.loads(line) for line in (tmp_path / "again" / "replies.jsonl").read_text("utf-8").splitlines()]
    assert {(each["text"], each["is_cut"]) for each in replies} == {(said, True)}


def test_the_reply_of_a_judge_that_thought_beside_it_is_read_and_one_cut_while_it_thought_is_not(
    pairs: dict[str, Path], tmp_path: Path
) -> None:
    left = [{"finish_reason": "length", "text": "<think>Verdict: B\nOr is"}]

    def thought(document: dict[str, Any]) -> None:
        choice = document["choices"][0]
        choice["message"]["reasoning_content"] = "Verdict: B"
        if left:
            first = left.pop()
            choice["finish_reason"], choice["message"]["content"] = first["finish_reason"], first["text"]

    with judge_server(Scripted(best, change=thought)) as script:
        summary = judge(spec_of(), pairs, tmp_path / "out", script)
    assert (summary["asked"], summary["parse_failures"]) == (80, 1)
    assert pl.read_parquet(tmp_path / "out" / "judgements.parquet")["outcome"].null_count() == 1


@pytest.mark.parametrize("usage", [{"prompt_tokens": "many", "completion_tokens": None}, [3], "much", None])
def test_a_cost_that_is_no_number_is_not_counted(pairs: dict[str, Path], tmp_path: Path, usage: object) -> None:
    with judge_server(Scripted(best, change=lambda document: document.update(usage=usage))) as script:
        summary = judge(spec_of(), pairs, tmp_path / "out", script)
    assert value(summary) == 0.75
    assert (summary["asked"], summary["prompt_tokens"], summary["completion_tokens"]) == (80, 0, 0)


def test_a_cost_that_no_reply_can_have_is_not_counted(pairs: dict[str, Path], tmp_path: Path) -> None:
    usage = {"prompt_tokens": 10**30, "completion_tokens": -5}
    with judge_server(Scripted(best, change=lambda document: document.update(usage=usage))) as script:
        summaries = [judge(spec_of(), pairs, tmp_path / name, script, tmp_path / "cache") for name in ("out", "again")]
    assert [(each["prompt_tokens"], each["completion_tokens"]) for each in summaries] == [(0, 0), (0, 0)]


def test_429_and_500_are_tried_again_and_counted(pairs: dict[str, Path], tmp_path: Path) -> None:
    with judge_server(Scripted(best, refusals=[429, 500])) as script:
        summary = judge(spec_of(judge={"concurrency": 1}), pairs, tmp_path / "out", script)
    assert value(summary) == 0.75
    assert summary["retries"] == 2
    assert len(script.asked) == 82


def test_a_slow_judge_is_asked_several_at_a_time_and_a_time_out_is_tried_again(tmp_path: Path) -> None:
    inputs = {"evaluation": evaluation(tmp_path / "evaluation", *better_in(0.5, 4))}
    with judge_server(Scripted(best, seconds=0.05)) as script:
        summary = judge(spec_of(judge={"concurrency": 8}), inputs, tmp_path / "out", script)
    assert summary["asked"] == 8
    with judge_server(Scripted(best, seconds=0.3)) as script:
        spec = spec_of(judge={"timeout_seconds": 0.05, "retries": 1})
        with pytest.raises(Unavailable) as failure:
            judge(spec, inputs, tmp_path / "late", script)
    assert failure.value.error_code == "endpoint_unreachable"


def test_a_judge_that_goes_away_fails_clearly_and_the_same_job_asks_nothing_twice(
    pairs: dict[str, Path], tmp_path: Path
) -> None:
    cache, spec = tmp_path / "cache", spec_of(judge={"concurrency": 1, "retries": 0})
    with judge_server(Scripted(best, dies_after=30)) as script:
        with pytest.raises(Unavailable, match="30 of 80 replies are kept") as failure:
            judge(spec, pairs, tmp_path / "first", script, cache)
        assert failure.value.retryable
        assert SECRET not in str(failure.value)
        assert PRIVATE not in str(failure.value)
        script.dies_after = None
        script.asked.clear()
        summary = judge(spec, pairs, tmp_path / "second", script, cache)
    assert len(script.asked) == summary["asked"] == 50
    assert summary["kept"] == 30
    assert value(summary) == 0.75


def test_the_same_judging_twice_at_once_asks_nothing_twice(pairs: dict[str, Path], tmp_path: Path) -> None:
    with judge_server(Scripted(best, seconds=0.01)) as script, ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(judge, spec_of(), pairs, tmp_path / n, script, tmp_path / "cache") for n in ("one", "two")]
        summaries = [job.result() for job in jobs]
    asked = [json.dumps(body["messages"]) for body in script.asked]
    assert len(asked) == len(set(asked)) == 80
    assert {each["asked"] + each["kept"] for each in summaries} == {80}
    assert [value(each) for each in summaries] == [0.75, 0.75]


def test_the_key_is_sent_and_stands_nowhere(pairs: dict[str, Path], tmp_path: Path) -> None:
    with judge_server(Scripted(best)) as script:
        judge(spec_of(), pairs, tmp_path / "out", script, tmp_path / "cache")
    assert script.keys == {f"Bearer {SECRET}"}
    files = [path for folder in ("out", "cache") for path in (tmp_path / folder).rglob("*") if path.is_file()]
    assert files
    assert all(SECRET.encode() not in path.read_bytes() for path in files)
    assert PRIVATE not in (tmp_path / "out" / "judging.json").read_text()


def test_a_key_that_the_endpoint_repeats_is_not_kept(pairs: dict[str, Path], tmp_path: Path) -> None:
    with judge_server(Scripted(lambda _: f"your header was Bearer {SECRET}\nVerdict: A")) as script:
        summary = judge(spec_of(), pairs, tmp_path / "out", script, tmp_path / "cache")
    assert summary["parse_failures"] == 0
    files = [path for folder in ("out", "cache") for path in (tmp_path / folder).rglob("*") if path.is_file()]
    assert all(SECRET.encode() not in path.read_bytes() for path in files)
    assert "your header was Bearer [key]" in (tmp_path / "out" / "replies.jsonl").read_text()


@pytest.mark.parametrize(
    "change",
    [
        {"judge": {"model": "judge-2"}},
        {"judge": {"endpoint": "other"}},
        {"judge": {"temperature": 0.5}},
        {"judge": {"max_tokens": 99}},
        {"seed": 9},
    ],
)
def test_replies_of_another_judge_are_not_taken_for_this_one_s(change: dict[str, Any]) -> None:
    here = Endpoint("http://a/v1", SECRET)
    assert context_of(spec_of(**change), here) != context_of(spec_of(), here)
    assert context_of(spec_of(), Endpoint("http://b/v1", SECRET)) != context_of(spec_of(), here)
    assert context_of(spec_of(), Endpoint("http://a/v1", "another key")) == context_of(spec_of(), here)


def test_replies_that_were_kept_otherwise_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Endpoint("http://a/v1", SECRET)
    now = context_of(spec_of(), here)
    monkeypatch.setattr("deft.judges.run.KEPT_AS", 1)
    assert context_of(spec_of(), here) != now


def test_another_model_at_the_same_endpoint_is_asked_anew(pairs: dict[str, Path], tmp_path: Path) -> None:
    with judge_server(Scripted(best)) as script:
        for model in ("judge-1", "judge-2"):
            judge(spec_of(judge={"model": model}), pairs, tmp_path / model, script, tmp_path / "cache")
    assert [sum(each["model"] == model for each in script.asked) for model in ("judge-1", "judge-2")] == [80, 80]


@pytest.mark.parametrize(("status", "code"), [(401, "endpoint_refused"), (404, "unknown_judge_model")])
def test_a_wrong_key_or_model_is_told(pairs: dict[str, Path], tmp_path: Path, status: int, code: str) -> None:
    with judge_server(Scripted(best, refusals=[status] * 100)) as script, pytest.raises(InvalidInput) as failure:
        judge(spec_of(), pairs, tmp_path / "out", script)
    assert failure.value.error_code == code


def test_a_question_that_is_refused_costs_that_item_alone(pairs: dict[str, Path], tmp_path: Path) -> None:
    with judge_server(Scripted(best, refusals=[400])) as script:
        summary = judge(spec_of(judge={"concurrency": 1}), pairs, tmp_path / "out", script)
    assert summary["refused"] == 1
    assert summary["results"][0]["n"] == 39


def test_without_an_endpoint_the_job_says_what_is_missing(pairs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as failure:
        run_judge(spec_of(), inputs=pairs, out=tmp_path, checkpoints=None, report=Silent())
    assert failure.value.error_code == "unknown_endpoint"
    assert failure.value.findings[0].pointer == "/judge/endpoint"


def test_equal_answers_are_ties_that_nobody_is_asked_for(tmp_path: Path) -> None:
    same = ["quality=3 same"] * 6
    inputs = {"evaluation": evaluation(tmp_path / "evaluation", same, same)}
    with judge_server(Scripted(always_first)) as script:
        summary = judge(spec_of(), inputs, tmp_path / "out", script)
    assert (summary["asked"], summary["equal_answers"], value(summary)) == (0, 6, 0.5)
    assert summary["position_bias"] is None


def test_every_turn_is_judged_with_what_was_said_before(tmp_path: Path) -> None:
    own, base = better_in(0.5, 12)
    inputs = {"evaluation": evaluation(tmp_path / "evaluation", own, base, further=["And then?"])}
    with judge_server(Scripted(best)) as script:
        summary = judge(spec_of(), inputs, tmp_path / "out", script)
    assert summary["items"] == 24
    assert value(summary, part="turn:2") == 0.5
    seconds = [body for body in script.asked if "conversation A" in body["messages"][-1]["content"]]
    assert len(seconds) == 24
    assert all("And then?" in body["messages"][-1]["content"] for body in seconds)


def test_single_answers_are_scored_and_compared(tmp_path: Path) -> None:
    inputs = {"evaluation": evaluation(tmp_path / "evaluation", *better_in(0.75))}
    with judge_server(Scripted(rating)) as script:
        summary = judge(spec_of(mode="single"), inputs, tmp_path / "out", script)
    assert value(summary, "judge_score") == 7
    assert value(summary, "judge_score", system="base") == 5
    assert value(summary, "judge_score_gain") == 2
    assert summary["asked"] == 80  # each answer once, the base's own comparison with itself not again


def test_a_judge_may_decide_only_where_people_agree_with_it(pairs: dict[str, Path], tmp_path: Path) -> None:
    given = {**pairs, "labels": labels(tmp_path / "labels", 60, longer=30)}
    with judge_server(Scripted(best)) as script:
        right = judge(spec_of(labels="ds_1"), given, tmp_path / "right", script)
        few = judge(spec_of(labels="ds_1", label_rows=49), given, tmp_path / "few", script)
    assert (right["agreement"]["value"], right["agreement"]["n"], right["may_decide"]) == (1, 60, True)
    assert [{row["is_valid"] for row in told["results"]} for told in (right, few)] == [{True}, {False}]
    assert few["may_decide"] is False
    assert "only 49" in few["may_not_decide_because"][0]
    with judge_server(Scripted(longer_wins)) as script:
        by_length = judge(spec_of(labels="ds_1"), given, tmp_path / "length", script)
    assert by_length["agreement"]["value"] == by_length["agreement"]["length_baseline"]["preferring_the_longer"] == 0.5
    assert by_length["may_decide"] is False
    with judge_server(Scripted(best)) as script:
        none = judge(spec_of(), pairs, tmp_path / "none", script)
    assert none["may_decide"] is False
    assert "no pair that people have labelled" in none["may_not_decide_because"][0]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"against": "other"}, "unknown_system"),
        ({"systems": ["deft", "other"]}, "unknown_system"),
        ({"prompt_sets": ["ds_other"]}, "unknown_prompt_set"),
    ],
)
def test_what_is_not_in_the_evaluation_is_refused(
    pairs: dict[str, Path], tmp_path: Path, changes: dict[str, Any], code: str
) -> None:
    with pytest.raises(InvalidInput) as failure:
        judge(spec_of(**changes), pairs, tmp_path / "out", Scripted(url="http://127.0.0.1:9/v1"))
    assert failure.value.error_code == code


def test_the_tables_follow_from_the_parquet_file(pairs: dict[str, Path], tmp_path: Path) -> None:
    with judge_server(Scripted(best)) as script:
        summary = judge(spec_of(), pairs, tmp_path / "out", script)
    rows = pl.read_parquet(tmp_path / "out" / "judgements.parquet")
    assert rows["outcome"].mean() == value(summary)
    by_category = rows.group_by("category").agg(pl.col("outcome").mean())
    for category, mean in by_category.rows():
        assert value(summary, part=f"category:{category}") == pytest.approx(mean)
    assert json.loads((tmp_path / "out" / "judging.json").read_text())["results"] == summary["results"]


def test_a_function_can_stand_in_for_the_judge(pairs: dict[str, Path], tmp_path: Path) -> None:
    def ask(question: Question) -> Reply:
        return Reply(best(question.text))

    summary = run_judge(spec_of(), inputs=pairs, out=tmp_path, checkpoints=None, report=Silent(), ask=ask)
    assert value(summary) == 0.75


def test_settings_are_alike_where_judge_prompts_and_opponent_are(tmp_path: Path) -> None:
    """Another system against the same answers has the same settings; other answers to be set against have not."""
    own, base = better_in(0.5, 8)

    def settings_hash(name: str, answers: list[str], against: list[str]) -> str:
        inputs = {"evaluation": evaluation(tmp_path / name, answers, against)}
        (tmp_path / f"{name}-out").mkdir()
        out = tmp_path / f"{name}-out"
        found = run_judge(
            spec_of(),
            inputs=inputs,
            out=out,
            checkpoints=None,
            report=Silent(),
            ask=lambda question: Reply(best(question.text)),
        )
        return str(found["results"][0]["settings_hash"])

    first = settings_hash("first", own, base)
    assert settings_hash("second", ["quality=6 other"] * 8, base) == first
    assert settings_hash("third", own, ["quality=4 other"] * 8) != first
