"""The folder of a reward model that is handed out: safetensors and JSON, a card, checksums.

Any program that loads sequence classifiers of transformers loads it. Knows files and what it prints of a training; it
must not know how that went.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deft.adapters.bases import BaseModel, duties_of
from deft.adapters.folder import SHARD, write_card, write_sums
from deft.models.loading import weights_hash
from deft.reward_models.model import RECORD

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers import PreTrainedTokenizerBase as Tokenizer


def save_reward_model(model: "PreTrainedModel", tokenizer: "Tokenizer", out: Path) -> str:
    """Write weights, settings and tokenizer to *out*; return the hash of the weights."""
    model.config._name_or_path = ""  # it may be a path of this machine
    model.config.id2label, model.config.label2id = {0: "reward"}, {"reward": 0}
    model.save_pretrained(out, max_shard_size=SHARD)
    tokenizer.save_pretrained(out)
    return weights_hash(out)


def finish(out: Path, base: BaseModel, record: Mapping[str, Any]) -> None:
    """Write the *record*, the card and the checksums of the folder *out*."""
    (out / RECORD).write_text(json.dumps(record, indent=1, sort_keys=True, allow_nan=False), encoding="utf-8")
    write_card(out, base, reward_card(base, record))
    write_sums(out)


def reward_card(base: BaseModel, record: Mapping[str, Any]) -> str:
    """Return the README.md of a reward model."""
    front = {
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "base_model": base.name,
        "license": base.licence or "other",
        "tags": ["deft", "reward-model"],
    }
    duties = duties_of(base)
    lines = "".join(f"{key}: {json.dumps(value)}\n" for key, value in front.items())
    licence = (
        "Its licence is not on record here: look it up before passing this model on."
        if base.licence is None
        else f"Its licence, {base.licence}, applies to this model too."
    )
    text = [
        f"---\n{lines}---\n",
        f"# {duties.prefix if duties else ''}Reward model from {base.name}\n",
        *([duties.built_with + "\n"] if duties else []),
        "A sequence classifier with one label: its logit is the reward of a response to a prompt (Bradley-Terry). "
        f"`{RECORD}` holds the whole spec and all numbers, `rows.parquet` hashes of the rows that it learnt from.\n",
        _numbers(record),
        _reading(record),
        f"Base model: {base.name}. {licence}\n",
    ]
    return "\n".join(text)


def _numbers(record: Mapping[str, Any]) -> str:
    held_out = {"all": record["held_out"], **record["held_out_by_source"]}
    rows = [
        "Held-out accuracy beside the length baseline (the better of preferring the shorter and the longer):\n",
        "| rows | accuracy | 95 % interval | length baseline | pairs |",
        "|---|---|---|---|---|",
    ]
    for name, found in held_out.items():
        ends = "none" if found["low"] is None else f"{found['low']:.3f} to {found['high']:.3f}"
        value, baseline = found["value"], found["length_baseline"]
        rows.append(f"| {name or '(no source)'} | {value:.3f} | {ends} | {baseline:.3f} | {found['pairs']} |")
    if not record["held_out"]["is_valid"]:
        rows.append("\nIts lower end is not above the length baseline: its rewards take no part in a verdict.")
    rows.append(f"\nTrained on {record['rows']} rows in {record['steps']} steps.")
    return "\n".join(rows) + "\n"


def _reading(record: Mapping[str, Any]) -> str:
    if record["layout"] == "pair":
        return "It reads the pair (prompt, response), as its tokenizer lays out two texts.\n"
    return "It reads prompt, response and the end token as one sequence.\n"
