from deft.studies.judgements import JudgedItem, Judgement
from deft.studies.preferences import Texts, preferences


def texts(*names, prompt="Q?"):
    return {name: Texts(n, prompt, None, (f"{name} of a", f"{name} of b")) for n, name in enumerate(names)}


def says(name, *verdicts, is_swapped=False):
    item = JudgedItem(name, "pair", 0.5, is_swapped, None)
    return [Judgement(item, f"r{n}", verdict, 1.0) for n, verdict in enumerate(verdicts)]


def test_the_answer_that_most_prefer_is_chosen_whatever_side_it_stood_on():
    judged = says("x", "1", "1", "2") + says("y", "1", is_swapped=True)
    rows = preferences(texts("x", "y"), judged, ["a", "b"]).rows
    assert [(row["chosen"], row["rejected"]) for row in rows] == [("x of a", "x of b"), ("y of b", "y of a")]
    assert [(row["chosen_system"], row["judgements"], row["agreeing"]) for row in rows] == [("a", 3, 2), ("b", 1, 1)]


def test_what_says_nothing_is_left_out_and_counted():
    judged = says("tie", "tie") + says("bad", "both_bad") + says("split", "1", "2") + says("skip", "skip")
    found = preferences(texts("tie", "bad", "split", "skip", "unseen"), judged, ["a", "b"])
    assert found.rows == []
    assert found.left_out == {"tie": 1, "both_bad": 1, "no_majority": 1, "not_judged": 2}


def test_few_judgements_may_be_too_few():
    judged = says("x", "1") + says("y", "1", "1")
    found = preferences(texts("x", "y"), judged, ["a", "b"], min_judgements=2)
    assert [row["study_item"] for row in found.rows] == ["y"]
    assert found.left_out == {"too_few_judgements": 1}


def test_a_conversation_keeps_its_turns():
    prompt = [{"role": "user", "content": "Hi"}]
    (row,) = preferences(texts("x", prompt=prompt), says("x", "2"), ["a", "b"]).rows
    assert row["prompt"] == prompt
    assert row["chosen"] == [{"role": "assistant", "content": "x of b"}]
