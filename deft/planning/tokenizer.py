"""A model's tokenizer by the `tokenizers` package alone, with the few attributes that `deft.tokens` asks for.

It gives the ids that transformers gives, but for two things: a chat template is not run (it is a program that the
model's folder brings), its size is approximated; and what a slow tokenizer does in Python cannot be done here.
"""

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from deft.examples import Message
from deft.models.files import read_settings, refusal

FILE = "tokenizer.json"
_TURN = "\n{role}\n{content}\n"
"""Stands for one message of a chat template: about four tokens beside the content, as in ChatML and Llama 3."""


class PlanningTokenizer:
    """The tokenizer in tokenizer.json, as far as counting needs it."""

    def __init__(self, core: Tokenizer, chat_template: str | None, largest_added_id: int) -> None:
        core.no_truncation()
        core.no_padding()
        self.backend_tokenizer = core
        self.chat_template = chat_template
        self.largest_added_id = largest_added_id

    def __len__(self) -> int:
        """Number of ids, added tokens included."""
        return max(self.backend_tokenizer.get_vocab_size(with_added_tokens=True), self.largest_added_id + 1)

    def __call__(self, text: str, *, add_special_tokens: bool = True) -> dict[str, list[int]]:
        """Return the ids of *text*."""
        return {"input_ids": self.backend_tokenizer.encode(text, add_special_tokens=add_special_tokens).ids}

    def apply_chat_template(
        self,
        messages: Sequence[Message],
        *,
        tokenize: bool = False,
        add_generation_prompt: bool = True,
        date_string: str = "",
    ) -> str:
        """Return a text of about as many tokens as the chat template would make of *messages*."""
        del tokenize, date_string
        turns = [_TURN.format(role=message["role"], content=message["content"]) for message in messages]
        return "".join([*turns, "\nassistant\n" if add_generation_prompt else ""])


def load_planning_tokenizer(folder: Path) -> PlanningTokenizer | None:
    """Return the tokenizer of the model in *folder*, None where it has no tokenizer.json (a SentencePiece model alone).

    Raises:
        ModelNotUsable: its tokenizer.json is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    facts = [(each.stat().st_mtime_ns, each.stat().st_size) for each in _files(folder)]
    return _load(folder, str(facts))


@lru_cache(maxsize=4)
def _load(folder: Path, facts: str) -> PlanningTokenizer:
    """Load once as long as the files' *facts* stay the same: a large vocabulary takes a second."""
    del facts
    try:
        core = Tokenizer.from_file(str(folder / FILE))
    except Exception as error:
        raise refusal(folder, f"a {FILE} that does not load", "a tokenizer of the tokenizers package") from error
    settings = read_settings(folder, "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    return PlanningTokenizer(core, _chat_template(folder, settings), _largest_added_id(settings))


def _files(folder: Path) -> list[Path]:
    names = (FILE, "tokenizer_config.json", "chat_template.jinja", "chat_template.json")
    return [folder / name for name in names if (folder / name).is_file()]


def _chat_template(folder: Path, settings: dict[str, Any]) -> str | None:
    """Return the chat template, wherever transformers looks for one."""
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8", errors="replace")
    found = settings.get("chat_template")
    if found is None and (folder / "chat_template.json").is_file():
        found = read_settings(folder, "chat_template.json").get("chat_template")
    return None if not found else found if isinstance(found, str) else json.dumps(found)


def _largest_added_id(settings: dict[str, Any]) -> int:
    """Return the largest id that tokenizer_config.json adds, -1 where it adds none."""
    added = settings.get("added_tokens_decoder")
    ids = [int(key) for key in added if str(key).isdigit()] if isinstance(added, dict) else []
    return max(ids, default=-1)
