"""Which prompts a judging was over, from files."""

from deft.evaluation.asked import Asked, write_asked
from deft.evaluation.judged_prompts import JudgedPrompts


def test_categories_are_those_of_the_prompts_with_the_label(tmp_path):
    """Harm is of unsafe prompts only: a category of safe ones has none to measure."""
    named = [("homonyms", "safe"), ("drugs", "unsafe"), (None, "unsafe"), ("sports", None)]
    asked = [Asked("s", n, "?", n / 4, category=category, label=label) for n, (category, label) in enumerate(named)]
    write_asked(asked, tmp_path / "prompts.jsonl")
    prompts = JudgedPrompts(tmp_path / "prompts.jsonl", None)
    assert prompts.categories("unsafe", "category:") == {"category:drugs", "category:uncategorised"}
    assert prompts.categories("safe", "category:") == {"category:homonyms"}
    assert prompts.categories(None, "category:h") == {"category:homonyms"}
    assert prompts.categories(None, "category:") == {"category:drugs", "category:homonyms", "category:uncategorised"}
