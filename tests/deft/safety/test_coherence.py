"""Collapses of every kind are told from short answers, lists, code, poems and tables. All texts are made up here."""

import numpy as np
import pytest

from deft.safety.coherence import is_incoherent

PARAGRAPH = (
    "Rice is simple to cook when you know how: rinse it, add twice as much water and bring it to a boil. "
    "Cover it, wait for a quarter of an hour, and fluff it up with a fork."
)
SENTENCE = "The lock can be opened with a thin piece of metal."


def _soup(words: str, size: int, seed: int) -> str:
    return " ".join(np.random.default_rng(seed).choice(words.split(), size))


def _noise(characters: str, size: int, seed: int) -> str:
    return "".join(np.random.default_rng(seed).choice(list(characters), size))


COLLAPSED = {
    "empty": "",
    "spaces": " \n\t ",
    "punctuation": "... !!! ???",
    "dashes": "-" * 80,
    "replacement": "\ufffd" * 40,
    "one letter": "a" * 60,
    "one letter, spaced": "a " * 40,
    "zeros": "0" * 400,
    "laughter": "ha" * 20,
    "letters of one word": "wordwordword" * 8,
    "29 words": "word " * 29,
    "9 words": "yes " * 9,
    "12 words with points": "no. " * 12,
    "two words": "the and " * 30,
    "three words": "sorry not I " * 20,
    "few words, shuffled": _soup("kill the process now please", 60, 1),
    "six words, shuffled": _soup("you can open the lock with", 120, 2),
    "ten words, shuffled": _soup("you can open the lock with a key and then", 400, 3),
    "one sentence": f"{SENTENCE} " * 6,
    "one sentence, four times": f"{SENTENCE} " * 4,
    "one sentence on lines": f"{SENTENCE}\n" * 10,
    "a numbered sentence": "\n".join(f"{i}. {SENTENCE}" for i in range(1, 10)),
    "numbered words": "\n".join(f"{i}. Overview" for i in range(1, 15)),
    "a sound start, then a loop": f"To open it, look at the maker first. {'Then turn the key again. ' * 12}",
    "a sound start, then a letter": f"To open it, look at it first. {'e' * 200}",
    "a sound start, then signs": "To open it" + "!" * 200,
    "two sentences in turn": f"{SENTENCE} {'It takes a while, and you should practise.'} " * 8,
    "cut in a loop": (f"{SENTENCE} " * 6)[:-17],
    "upper and lower": "Word word WORD word " * 8,
    "a bracket": "( ( ( ( ( ( ( ( ( ( ( ( ( ( ( (",
    "cells": "| | | | | | | | | | | | | | | | |",
    "symbols": _noise("%$#@!&*()^~{}[]<>/|", 120, 4),
    "symbols with letters": _noise("%$#@!&*()^~{}[]<>/|%$#@!&*()^~{}[]<>/|ab7", 200, 5),
    "consonants": "xkjq wpfv zzghm qwlkt bvcxz hjklm trwqp zxcvb",
    "few letters": _noise("abc", 90, 6),
    "few letters, spaced": _noise("asdfgh ", 200, 7),
    "Chinese": "\u6211\u4e0d\u77e5\u9053" * 20,
    "Arabic": "\u0644\u0627 \u0623\u0639\u0631\u0641 " * 15,
    "Russian": "\u044f \u043d\u0435 \u0437\u043d\u0430\u044e " * 12,
    "an emoji": "\U0001f600" * 30,
    "a tag": "<|end|>" * 20,
    "quotes": '"""""""""""""""""""""""""""""""""',
    "code in a loop": "x = x + 1\n" * 40,
    "new lines": "a\n" * 50,
    "five words": "no no no no no",
    "five words with points": "No. No. No. No. No.",
    "one Chinese letter": "\u7684" * 14,
    "five tags": "</s>" * 5,
    "turns without words": "Human: Assistant: Human: Assistant: Human: Assistant: Human: Assistant:",
    "a paragraph, twice": f"{PARAGRAPH} {PARAGRAPH}",
    "a paragraph, twice, on lines": f"{PARAGRAPH}\n\n{PARAGRAPH}",
}  # fmt: skip

POEM = """The rain came down on the old slate roof,
And I was home, and I was dry.
The wind went round on a horse's hoof,
And I was home, and I was dry.
The lamp was low and the tea was hot,
And I was home, and I was dry,
And what I had I had forgot,
And I was home, and I was dry."""

CODE = """def gcd(a, b):
    while b:
        a, b = b, a % b
    return a


def lcm(a, b):
    return a * b // gcd(a, b)


for a in range(1, 4):
    for b in range(1, 4):
        print(a, b, gcd(a, b), lcm(a, b))
"""

TABLE = """| animal | legs | wings | can swim |
|--------|------|-------|----------|
| horse  | 4    | no    | yes      |
| duck   | 2    | yes   | yes      |
| snake  | 0    | no    | yes      |
| hen    | 2    | yes   | no       |
| bat    | 2    | yes   | no       |"""

SOUND = {
    "one word": "Yes.",
    "a number": "42",
    "a large number": "10000000000000",
    "a no": "No, no, no!",
    "a cry": "Noooooooo! Why would you?",
    "wow": "Wow!!!!!! That is a large fish.",
    "laughs": "Ha ha ha, good one.",
    "a sum": "2 + 2 = 4",
    "a formula": "x^2 + y^2 = z^2",
    "a date": "1969-07-20",
    "a name": "Zbigniew Brzezi\u0144ski",
    "a saying": "A friend in need is a friend indeed.",
    "practice": "Practice, practice, practice!",
    "countries without vowels": "Brno, Krk, Trst.",
    "shouting": "STOP! Do not touch that wire.",
    "a list": "apple, banana, grape, orange",
    "a list of likes": "1. Pastel blue\n2. Pastel green\n3. Pastel yellow\n4. Pastel orange\n5. Pastel pink",
    "counting": ", ".join(str(i) for i in range(1, 60)),
    "days": "Day 1: Rome\nDay 2: Siena\nDay 3: Pisa\nDay 4: Lucca\nDay 5: Rome",
    "times table": "\n".join(f"{i} x 7 = {i * 7}" for i in range(1, 13)),
    "bits": "0110100001100101011011000110110001101111",
    "a poem": POEM,
    "a verse": "Row, row, row your boat, gently down the stream. Merrily, merrily, merrily, life is but a dream.",
    "code": CODE,
    "fenced code": f"Here it is:\n\n```python\n{CODE}```\n",
    "a pattern": "Use `^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$` for it.",
    "a shell line": "ps aux | grep python | awk '{print $2}' | xargs kill",
    "JSON": '{"a": [1, 2, {"b": null}], "c": {"d": "e", "f": [true, false]}}',
    "SQL": "SELECT name, count(*) FROM users WHERE age > 30 GROUP BY name HAVING count(*) > 2;",
    "a table": TABLE,
    "a table of cells": "| 1 | 0 | 0 |\n|---|---|---|\n| 0 | 1 | 0 |\n| 0 | 0 | 1 |",
    "steps": "\n".join(f"{verb} the engine." for verb in ("Stop", "Open", "Cool", "Drain", "Fill", "Shut", "Paint")),
    "a heading": "Summary\n=====================\n\nThe plan works.\n\n---------------------\n\nIt costs little.",
    "gaps": "Name: ______________________\nAge: ______________________",
    "Chinese": "\u6211\u4e0d\u77e5\u9053\u8fd9\u4e2a\u95ee\u9898\u7684\u7b54\u6848\u3002",
    "Japanese": "\u305d\u308c\u306f\u3067\u304d\u307e\u305b\u3093\u3002",
    "German": "Das kann ich dir leider nicht sagen, aber frag doch einmal im Rathaus nach.",
    "Polish": "Przykro mi, ale nie mog\u0119 w tym pom\u00f3c. Spr\u00f3buj zapyta\u0107 w urz\u0119dzie.",
    "emphasis": "It is very, very, very, very important to shut the gas off.",
    "twice": f"{SENTENCE} {SENTENCE}",
    "letters": "TCP, UDP, HTTP, DNS, DHCP and TLS are all of them protocols.",
    "names of protocols alone": "HTTP, HTTPS, SMTP, SSH, XMPP, TLS, GPG, RSTP, VXLAN",
    "four noes": "No, no, no, no!",
    "a refrain": f"{PARAGRAPH} Let it stand for a while.\n\n{PARAGRAPH}",
    "a farewell": "Bye bye",
    "an acrostic": "A\nB\nC\nD\nE\nF\nG\nH",
    "a letter": "Dear Ann,\n\nThank you for the jam. It was very good. We ate it at once.\n\nYours,\nTom",
}  # fmt: skip


@pytest.mark.parametrize("name", COLLAPSED)
def test_a_collapse_is_incoherent(name: str) -> None:
    assert is_incoherent(COLLAPSED[name])


@pytest.mark.parametrize("name", SOUND)
def test_what_makes_sense_is_coherent(name: str) -> None:
    assert not is_incoherent(SOUND[name])
