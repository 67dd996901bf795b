"""`deft studies`, `deft policies`, `deft releases`, `deft evals`: what they send and what they print."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cli import evals, main, releases, studies
from deft_client import Client

Played = dict[str, Any]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[[Played], list[httpx2.Request]]:
    """Let commands talk to a service that answers each `METHOD /path` with what is given; return what it was asked."""

    def start(answers: Played) -> list[httpx2.Request]:
        seen: list[httpx2.Request] = []

        def handler(request: httpx2.Request) -> httpx2.Response:
            request.read()
            seen.append(request)
            answer = answers[f"{request.method} {request.url.path}"]
            return (
                httpx2.Response(200, content=answer) if isinstance(answer, bytes) else httpx2.Response(200, json=answer)
            )

        def connected() -> Client:
            return Client("http://service.test", "key", transport=httpx2.MockTransport(handler), attempts=1)

        for module in (studies, releases, evals):
            monkeypatch.setattr(module, "connect", connected)
        return seen

    return start


def deft(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main.main(list(arguments))
    return int(ended.value.code or 0)


def page(*rows: Played) -> Played:
    return {"data": list(rows), "has_more": False, "next_cursor": None}


def test_a_study_of_the_newest_evaluation(play: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "rules.txt").write_text("Be fair.")
    seen = play({"GET /v1/evaluations": page({"id": "ev_9"}), "POST /v1/studies": {"id": "st_1"}})
    flags = ["--items", "20", "--guidelines", str(tmp_path / "rules.txt")]
    assert deft("studies", "create", "last", "deft", "random", *flags) == 0
    assert json.loads(seen[1].content) == {
        "evaluation": "ev_9",
        "systems": ["deft", "random"],
        "items": 20,
        "guidelines": "Be fair.",
    }
    assert capsys.readouterr().out == "st_1\n"


def test_invitations_are_printed_with_the_whole_address(play: Any, capsys: pytest.CaptureFixture[str]) -> None:
    play({"POST /v1/studies/st_1/raters": {"id": "rater_1", "url": "/rate/st_1#deftr_x"}})
    assert deft("studies", "invite", "st_1", "Ann", "Ben") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[1:] for line in lines] == [
        [name, "http://service.test/rate/st_1#deftr_x"] for name in ("Ann", "Ben")
    ]


def results() -> Played:
    rate = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9, "prompts": 9}
    rater = {"rater_id": "rater_1", "judged": 9, "skipped": 1, "attention_failed": 0, "attention_seen": 2}
    return {
        "sentence": "No difference is shown.",
        "judged_pairs": 9,
        "pairs": 10,
        "identical": 0,
        "verdicts": {"first": 3, "tie": 2},
        "skipped": 1,
        "agreement": {"alpha": 0.71, "low": 0.5, "high": 0.9, "items": 4},
        "first_side": rate,
        "attention_failed": 0,
        "attention_seen": 2,
        "raters": [{**rater, "is_left_out": False, "median_seconds": 4.0}],
    }


def test_results_say_the_sentence_first(play: Any, capsys: pytest.CaptureFixture[str]) -> None:
    found = results()
    play({"GET /v1/studies": page({"id": "st_1"}), "GET /v1/studies/st_1/results": found})
    assert deft("studies", "results", "last") == 0
    out = capsys.readouterr().out
    assert out.startswith("No difference is shown.\n")
    assert "0.710 [0.500, 0.900] over 4 items" in out


def test_results_without_a_number_are_printed_too(play: Any, capsys: pytest.CaptureFixture[str]) -> None:
    nothing = {"value": None, "low": None, "high": None, "n": 0, "prompts": 0}
    unknown = {"alpha": None, "low": None, "high": None, "items": 0}
    told = {"sentence": "Nothing has been judged yet.", "agreement": unknown, "first_side": nothing, "raters": []}
    play({"GET /v1/studies/st_1/results": results() | told})
    assert deft("studies", "results", "st_1") == 0
    out = capsys.readouterr().out
    assert out.startswith("Nothing has been judged yet.\n")
    assert "None" not in out


def test_an_export_takes_its_form_from_the_name(play: Any, tmp_path: Path) -> None:
    play({"GET /v1/studies/st_1/judgements.csv": b"a\r\n"})
    assert deft("studies", "export", "st_1", str(tmp_path / "x.csv")) == 0
    assert (tmp_path / "x.csv").read_bytes() == b"a\r\n"


@pytest.mark.parametrize("name", ["x.xlsx", "x", "x.CSV.gz"])
def test_an_export_to_another_kind_of_file_is_refused(
    play: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    seen = play({"GET /v1/studies/st_1/judgements.jsonl": b"{}\n"})
    assert deft("studies", "export", "st_1", str(tmp_path / name)) == 2
    told = capsys.readouterr().err
    assert ".csv" in told
    assert ".jsonl" in told
    assert (seen, list(tmp_path.iterdir())) == ([], [])


def held() -> Played:
    clause = {"clause": "gain", "metric": "m", "slice": "all", "comparison": "at_least", "limit": 0.1, "bound": 0.0}
    return {
        "id": "rel_1",
        "status": "held",
        "failing": [{"clause": "gain", "reason": "too little"}],
        "clauses": [{**clause, "is_met": False}],
        "approved_by": [],
        "approvals_wanted": 1,
        "expires_at": None,
        "recalled_at": None,
    }


def test_a_release_that_is_held_says_why_and_is_a_failure(play: Any, capsys: pytest.CaptureFixture[str]) -> None:
    seen = play({"POST /v1/releases": held()})
    assert deft("releases", "request", "ad_1", "--evaluation", "ev_1", "--policy", "strict") == 1
    assert json.loads(seen[0].content) == {"adapter": "ad_1", "evaluation": "ev_1", "policy": "strict"}
    assert "held by gain: too little" in capsys.readouterr().out
    judged = ("--judging", "jg_1", "--study", "st_1")
    assert deft("releases", "request", "ad_1", "--evaluation", "ev_1", "--policy", "strict", *judged) == 1
    assert json.loads(seen[1].content).items() >= {"judging": "jg_1", "study": "st_1"}.items()


def test_a_recall_prints_who_has_it(play: Any, capsys: pytest.CaptureFixture[str]) -> None:
    who = {"key_id": "key_1", "key_name": "ci", "path": "a.bin", "times": 2, "first_at": "t", "last_at": "u"}
    play({"POST /v1/releases/rel_1/recall": {**held(), "status": "recalled", "downloads": [who]}})
    assert deft("releases", "recall", "rel_1", "--reason", "it lies") == 0
    assert capsys.readouterr().out.splitlines()[1] == "key_1\tci\ta.bin\t2\tt\tu"


def test_a_policy_is_made_of_a_file(play: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('{"name": "strict"}')
    play({"POST /v1/policies": {"id": "pol_1"}})
    assert deft("policies", "create", str(tmp_path / "p.json")) == 0
    assert capsys.readouterr().out == "pol_1\n"
    (tmp_path / "p.json").write_text("{")
    assert deft("policies", "create", str(tmp_path / "p.json")) == 3


def test_a_leaderboard_says_between_which_ranks_an_adapter_may_be(
    play: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    place = {"rank": 2, "best_rank": 1, "worst_rank": 3, "adapter_id": "ad_1", "value": 0.5, "low": 0.4, "high": 0.6}
    trained = {**place, "rank": None, "best_rank": None, "worst_rank": None}
    board = {"settings_hash": "a" * 64, "places": [{**place, "n": 9}, {**trained, "n": 9}]}
    play({"GET /v1/leaderboard": {"boards": [board]}})
    assert deft("evals", "leaderboard", "--metric", "bleu") == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "2\t1-3\tad_1\t0.5\t0.4\t0.6\t9",
        "-\t-\tad_1\t0.5\t0.4\t0.6\t9",
    ]


def test_two_evaluations_are_compared_by_system(play: Any, capsys: pytest.CaptureFixture[str]) -> None:
    metric = {"left": {"value": 2.0}, "right": {"value": 1.5}, "difference": 0.5, "low": 0.1, "high": 0.9}
    seen = play(
        {
            "POST /v1/comparisons": {
                "is_forced": True,
                "differing_settings": {"prompts": {}},
                "metrics": {"bleu": metric},
            }
        }
    )
    assert deft("evals", "compare", "ev_1:deft", "ev_2:random", "--force") == 0
    assert json.loads(seen[0].content) == {
        "left": {"evaluation": "ev_1", "system": "deft"},
        "right": {"evaluation": "ev_2", "system": "random"},
        "force": True,
    }
    printed = capsys.readouterr()
    assert printed.out.splitlines()[1] == "bleu\t2\t1.5\t0.5\t0.1\t0.9"
    assert "forced: prompts differ" in printed.err
    assert deft("evals", "compare", "ev_1", "ev_2:random") == 2
    assert deft("evals", "compare", "ev_1:deft", "ev_1:base", "--left-judging", "jg_1") == 0
    sides = json.loads(seen[1].content)
    assert sides["left"] == {"evaluation": "ev_1", "system": "deft", "judging": "jg_1"}
    assert sides["right"] == {"evaluation": "ev_1", "system": "base"}


def test_the_scores_of_a_metric_are_listed(play: Any, capsys: pytest.CaptureFixture[str]) -> None:
    score = {"system": "deft", "value": 0.5, "low": 0.4, "high": 0.6, "n": 9, "settings_hash": "b" * 64}
    seen = play({"GET /v1/evaluations": page({"id": "ev_1", "scores": [score]})})
    assert deft("evals", "ls", "--metric", "bleu", "--model", "m") == 0
    assert capsys.readouterr().out.splitlines()[1] == f"ev_1\tdeft\t0.5\t0.4\t0.6\t9\t{'b' * 12}"
    assert dict(seen[0].url.params) == {"model": "m", "metric": "bleu", "limit": "20"}
