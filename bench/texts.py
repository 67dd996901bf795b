"""Preference pairs as files of text: those found on this machine over and over, or made up with HH-RLHF's lengths.

Made-up texts are common English words at random. A number in each prompt makes every row another one. What is written
goes to a scratch folder only.
"""

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson

from bench.workload import HH_CHARACTERS, drawn_lengths
from cli.demo.origin import find
from deft.data.datasets import import_files, iterate_examples

WORDS = " ".join(
    [
        "the be to of and a in that have I it for not on with he as you do at this but his by from they we",
        "say her she or an will my one all would there their what so up out if about who get which go me when",
        "make can like time no just him know take people into year your good some could them see other than",
        "then now look only come its over think also back after use two how our work first well way even new",
        "want because any these give day most us sorry please really should question answer help feel",
        "something money friend police dangerous information though probably",
    ]
).split()


def write_pairs(path: Path, count: int, scratch: Path) -> str:
    """Write *count* HH-RLHF transcripts (chosen, rejected) to *path* as JSONL; return where the texts come from."""
    found = real_pairs(scratch)
    rows = itertools.cycle(found) if found else made_up_pairs(count)
    with path.open("wb") as file:
        for number, (prompt, chosen, rejected) in enumerate(itertools.islice(rows, count)):
            head = f"\n\nHuman: {number}. {prompt.removeprefix(chr(10) * 2 + 'Human:').strip()}"
            head = head if head.endswith("\n\nAssistant:") else head + "\n\nAssistant:"
            file.write(orjson.dumps({"chosen": f"{head} {chosen}", "rejected": f"{head} {rejected}"}) + b"\n")
    return f"{len(found)} real pairs repeated" if found else "made-up words"


def real_pairs(scratch: Path) -> list[tuple[str, str, str]]:
    """Return prompt, chosen and rejected of the transcripts found on this machine; none where there are none."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        origin = find(None, Path(folder), fetch=lambda _: False)
        if origin.is_made_up:
            return []
        import_files(origin.files, Path(folder) / "dataset", on_bad_row="skip")
        examples = [example for _, example in iterate_examples(Path(folder) / "dataset")]
    return [(e.prompt, e.responses[0].strip(), e.responses[1].strip()) for e in examples if isinstance(e.prompt, str)]


def made_up_pairs(count: int) -> Iterator[tuple[str, str, str]]:
    """Yield *count* pairs of random words with HH-RLHF's lengths in characters."""
    rng = np.random.default_rng(0)
    long_text = " ".join(rng.choice(WORDS, 40_000))
    for number, row in enumerate(drawn_lengths(HH_CHARACTERS, count)):
        starts = rng.integers(0, len(long_text) - 4000, 3)
        prompt, chosen, rejected = (long_text[at : at + size] for at, size in zip(starts, row, strict=True))
        yield prompt, f"{chosen} yes {number % 97}", f"{rejected} no {number % 89}"
