"""What is known of a judge counts each labelled pair once."""

from deft.judges.answers import Labelled
from deft.judges.findings import about_judge
from deft.judges.items import labelled_items
from deft.judges.judged import Judged
from deft.specs import JudgeSpec

SPEC = JudgeSpec.model_validate({"evaluation": "ev_1", "judge": {"endpoint": "e", "model": "m"}, "bootstrap": 200})


def _agreeing(distinct: int, times: int) -> list[Judged]:
    """Return *distinct* labelled pairs, *times* over, on all of which the judge agrees, length telling nothing."""
    texts = [("a", "b!!") if n % 2 else ("a!!", "b") for n in range(distinct)]
    rows = [
        Labelled(n + distinct * again, f"Prompt {n}?", better, worse, float(n + distinct * again))
        for again in range(times)
        for n, (better, worse) in enumerate(texts)
    ]
    return [Judged(item, (None, None), 1.0, ("A", "B")) for item in labelled_items(rows)]


def test_labelled_pairs_that_are_repeated_count_once() -> None:
    assert about_judge([], _agreeing(52, 1), SPEC)["may_decide"]
    found = about_judge([], _agreeing(4, 13), SPEC)
    assert not found["may_decide"]
    assert (found["agreement"]["n"], found["agreement"]["asked"]) == (4, 4)
    assert "only 4 labelled pairs were judged, 50 are needed, repeats counted once" in found["may_not_decide_because"]
