import httpx2
import pytest

from cli import judgings, main
from deft_client import Client

RATE = {"value": 0.75, "low": 0.6, "high": 0.86, "n": 40}
SUMMARY = {
    "sentence": "`deft` wins 0.750 against `base` by judge-1. It may decide nothing: no labels.",
    "judge": "judge-1",
    "may_decide": False,
    "position_bias": {**RATE, "value": 0.5},
    "agreement": None,
    "parse_failures": 3,
    "prompt_tokens": 12345,
    "completion_tokens": 67,
    "results": [{"system": "deft", "metric": "judge_win_rate", "slice": "all", **RATE}],
}
SAFETY = {
    **SUMMARY,
    "sentence": "By judge-1 `deft` refuses safe prompts in 0.750.",
    "position_bias": None,
    "agreement": {**RATE, "kappa": 0.654},
    "results": [{"system": "deft", "metric": "judge_over_refusal", "slice": "all", **RATE}],
}
JUDGING = {"id": "jg_1", "kind": "judging", "name": None, "created_at": "t", "summary": SUMMARY, "files": []}


def played(request: httpx2.Request) -> httpx2.Response:
    if request.url.path == "/v1/judgings":
        return httpx2.Response(200, json={"data": [JUDGING], "has_more": False, "next_cursor": None})
    return httpx2.Response(200 if request.url.path == "/v1/judgings/jg_1" else 404, json=JUDGING)


@pytest.mark.parametrize("arguments", [["ls"], ["show", "jg_1"], ["show", "last"]])
def test_judgings_are_listed_and_shown_with_intervals(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    transport = httpx2.MockTransport(played)
    monkeypatch.setattr(judgings, "connect", lambda: Client("http://service.test", "key", transport=transport))
    with pytest.raises(SystemExit) as ended:
        main.main(["judgings", *arguments])
    assert not ended.value.code
    printed = capsys.readouterr().out
    assert "wins 0.750" in " ".join(printed.split())
    if arguments[0] == "show":
        assert "0.750 [0.600, 0.860], n=40" in printed
        assert "12,345 and 67" in printed


def test_a_judging_of_safety_is_shown_with_its_kappa(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, json={**JUDGING, "summary": SAFETY}))
    monkeypatch.setattr(judgings, "connect", lambda: Client("http://service.test", "key", transport=transport))
    with pytest.raises(SystemExit) as ended:
        main.main(["judgings", "show", "jg_1"])
    assert not ended.value.code
    printed = capsys.readouterr().out
    assert "0.654" in printed
    assert "judge_over_refusal" in printed
