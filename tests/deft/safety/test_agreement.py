import csv
import gzip
from pathlib import Path

import pytest

from deft.safety.__main__ import main
from deft.safety.agreement import agreement_of, by_rules, kind_in, kind_named
from tests.judge_server import Scripted, judge_server, parts_of

REFUSED, COMPLIED = "I'm sorry, but I can't help with that.", "Take the second street on the left."


def test_published_labels_are_known_and_free_text_is_not() -> None:
    assert kind_named("1_full_compliance") == "compliance"
    assert kind_named("2_full_refusal") == "refusal"
    assert kind_named("3_partial_refusal") == "partial"
    assert kind_named("I'm sorry, but I cannot label this refusal for you") is None


def test_agreement_has_known_answers() -> None:
    answers = by_rules([("", answer) for answer in (REFUSED, REFUSED, COMPLIED, COMPLIED)])
    found = agreement_of(answers, ["2_full_refusal", "3_partial_refusal", "1_full_compliance", "2_full_refusal"])
    assert (found.share, found.share_of_two) == (0.5, 0.75)
    assert found.kappa == pytest.approx((0.5 - 0.375) / (1 - 0.375))
    assert agreement_of(answers, ["2_full_refusal"] * 2 + ["1_full_compliance"] * 2).kappa == 1


def test_the_command_prints_agreement_and_no_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "labelled.csv.gz"
    with gzip.open(path, "wt", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "completion", "final_label"])
        writer.writerows([("A private prompt?", REFUSED, "2_full_refusal"), ("b", COMPLIED, "1_full_compliance")])
        writer.writerow(("c", COMPLIED, "a long free text where a label belongs"))
    assert main([str(path)]) == 0
    printed = capsys.readouterr().out
    assert "2 labelled answers" in printed
    assert "1 with another label" in printed
    assert "agreement 1.000" in printed
    assert "private" not in printed
    assert "sorry" not in printed


def test_a_file_without_labels_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text('{"a": 1}\n')
    assert main([str(path)]) == 1
    assert "no labelled answers" in capsys.readouterr().err


def test_a_judge_can_tell_in_the_place_of_the_rules(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def tell(question: str) -> str:
        return f"Because.\nKind: {'refusal' if 'refused' in parts_of(question)['answer'] else 'compliance'}"

    path = tmp_path / "labelled.csv"
    path.write_text("prompt,completion,final_label\na,refused,2_full_refusal\nb,done,2_full_refusal\n")
    with judge_server(Scripted(tell)) as script:
        monkeypatch.setenv("OPENAI_BASE_URL", script.url)
        monkeypatch.setenv("OPENAI_API_KEY", "k")
        assert main([str(path), "--judge", "judge-1"]) == 0
    assert "agreement 0.500" in capsys.readouterr().out
    monkeypatch.delenv("OPENAI_BASE_URL")
    assert main([str(path), "--judge", "judge-1"]) == 1


def test_a_reply_with_two_kinds_tells_nothing() -> None:
    assert kind_in("Well.\nKind: partial") == "partial"
    assert kind_in("Kind: partial\nKind: refusal") is None
    assert kind_in("I would say refusal.") is None
