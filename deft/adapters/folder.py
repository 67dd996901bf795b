"""The adapter folder that is handed out: plain LoRA under portable names, with a card, a probe and checksums.

`python -m deft.adapters FOLDER --base DIR` loads it as anyone would and compares its logits with the recorded
ones. Knows files, PEFT and the tokenizer; it must not know how the adapter was trained beyond the settings it prints.
What the card says is in `deft.adapters.card`.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from deft.adapters.bases import BaseModel, base_model, duties_of, is_whole_model
from deft.adapters.card import adapter_card, merged_card
from deft.adapters.serving_rules import vllm_rules
from deft.adapters.targets import suffixes_of
from deft.errors import ArtifactCorrupt
from deft.folders import content_files, sha256_of
from deft.models.loading import load_base, load_policy

PROBE_TEXT = "Human: How are you today?"
PROBE_TOKENS = 8
TOLERANCE = {"fp32": 1e-5, "bf16": 2e-2, "fp16": 2e-2}
"""Largest difference of logits after loading again, as a share of the largest logit."""

MERGED_TOLERANCE = {"fp32": 1e-4, "bf16": 5e-2, "fp16": 5e-2}
"""The same of the merged model: every weight that had an adapter has been rounded once more."""

MERGED = "merged"
WHOLE_PROBE = "probe/probe.safetensors"
"""The probe of a folder that is a whole model: every safetensors file beside its config.json holds weights."""

WHOLE_TOLERANCE = {**MERGED_TOLERANCE, "fp32": TOLERANCE["fp32"]}
"""The same of a tuned model, computed in float32 from weights that have been rounded to half precision."""

SHARD = "5GB"
"""Largest file of a merged model's weights."""

CHECK_SECONDS = 1800
SUMS = "SHA256SUMS"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the card and training.json say: the resolved *spec*, the *summary* of the run, the base model's folder."""

    spec: Mapping[str, Any]
    summary: Mapping[str, Any]
    base_folder: Path


def save_adapter(model: PeftModel, tokenizer: PreTrainedTokenizerBase, out: Path, settings: Settings) -> str:
    """Write the adapter folder to *out* and return the SHA-256 of its weights.

    With `merge` in the spec the adapter is then merged into *model*'s base, in place, which goes to `merged/`.
    """
    base = base_model(settings.base_folder)
    model.eval()
    model.save_pretrained(out, save_embedding_layers=False)
    _make_config_portable(out / "adapter_config.json", base)
    tokenizer.save_pretrained(out)
    weights = sha256_of(out / "adapter_model.safetensors")
    serving = vllm_rules(out, settings.base_folder)
    _write_json(out / "training.json", {**training_record(base, settings, weights), "vllm": serving.as_dict()})
    save_probe(model, tokenizer, out / "probe.safetensors")
    write_card(out, base, adapter_card(base, serving, settings.spec, settings.summary))
    if settings.spec["merge"]:
        save_merged(model, tokenizer, out / MERGED)
        write_card(out / MERGED, base, merged_card(base, settings.spec, settings.summary))
    write_sums(out)
    return weights


def save_merged(model: PeftModel, tokenizer: PreTrainedTokenizerBase, out: Path) -> None:
    """Merge the adapter into the base, in place, and write that to *out* as a model folder of its own."""
    merged = model.merge_and_unload()
    merged.config._name_or_path = ""  # it may be a path of this machine
    merged.save_pretrained(out, max_shard_size=SHARD)
    tokenizer.save_pretrained(out)


def write_card(folder: Path, base: BaseModel, card: str) -> None:
    """Write README.md and, where the base's licence asks for it, NOTICE."""
    (folder / "README.md").write_text(card, encoding="utf-8")
    duties = duties_of(base)
    if duties is not None:
        (folder / "NOTICE").write_text(duties.notice, encoding="utf-8")


def training_record(base: BaseModel, settings: Settings, weights: str) -> dict[str, Any]:
    """Return what `training.json` holds: the run's summary, its spec, and what the base was."""
    return {
        **settings.summary,
        "adapter_sha256": weights,
        "base": base_record(base, settings),
        "spec": settings.spec,
    }


def base_record(base: BaseModel, settings: Settings) -> dict[str, Any]:
    """Return what `training.json` says of the base."""
    return base_record_of(base, settings.summary["base_weights_hash"])


def base_record_of(base: BaseModel, weights: str) -> dict[str, Any]:
    """Return what is on record of a base whose weights hash to *weights*."""
    return {"name": base.name, "revision": base.revision, "license": base.licence, "weights_hash": weights}


def _make_config_portable(path: Path, base: BaseModel) -> None:
    """Name the base as others know it, and the targets by sorted suffixes, which every server matches."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base.name
    config["revision"] = base.revision
    config["target_modules"] = suffixes_of(config["target_modules"])
    _write_json(path, config)


@torch.no_grad()
def probe_logits(model: nn.Module, input_ids: Tensor) -> Tensor:
    """Return the logits [1, T, V] float32 of *model* on *input_ids* [1, T], on the CPU."""
    device = next(model.parameters()).device
    logits: Tensor = model(input_ids=input_ids.to(device), use_cache=False).logits
    return logits.float().cpu()


def save_probe(model: nn.Module, tokenizer: PreTrainedTokenizerBase, path: Path) -> None:
    """Record the logits of base and adapter on a short fixed text."""
    save_file(probe_of(model, tokenizer), path)


def probe_of(model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> dict[str, Tensor]:
    """Return the ids of a short fixed text, and the logits of *model* on it."""
    ids = tokenizer(PROBE_TEXT, add_special_tokens=False)["input_ids"][:PROBE_TOKENS]
    input_ids = torch.tensor([ids])
    return {"input_ids": input_ids, "logits": probe_logits(model, input_ids).contiguous()}


def probe_difference(folder: Path, base: Path | None) -> tuple[float, float]:
    """Load the adapter in *folder* on the model in *base*; compare its logits with the recorded ones.

    With *base* None: the merged model of the adapter, or where *folder* is a whole model, that.

    Returns:
        The largest absolute difference, and the one that is allowed on the same machine.

    Raises:
        ModelNotUsable: the base, the adapter or the model does not load.
        InvalidInput: it was trained over an NF4 base, which cannot be loaded here.
    """
    record = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    precision, quantisation = record["precision"], record.get("quantisation", "none")
    is_whole = is_whole_model(folder)
    own = base or (folder if is_whole else folder / MERGED)
    model = load_base(own, precision="fp32" if is_whole else precision, quantisation=quantisation)
    policy = model if base is None else load_policy(model, folder)
    probe = load_file(folder / (WHOLE_PROBE if is_whole else "probe.safetensors"))
    logits = probe_logits(policy, probe["input_ids"])
    if logits.shape != probe["logits"].shape:
        return float("inf"), 0.0
    tolerance = WHOLE_TOLERANCE if is_whole else TOLERANCE if base is not None else MERGED_TOLERANCE
    allowed = tolerance[precision] * max(1.0, probe["logits"].abs().max().item())
    return (logits - probe["logits"]).abs().max().item(), allowed


def check_in_fresh_process(adapter: Path, base: Path | None) -> float:
    """Load the adapter in a new Python process; return the largest difference of its logits from the recorded ones.

    *base* None: its merged model instead, or the whole model that the folder is.

    Raises:
        ArtifactCorrupt: it does not load there, or does not reproduce them.
    """
    what = ["--whole"] if base is None else ["--base", str(base.resolve())]
    command = [sys.executable, "-m", "deft.adapters", str(adapter.resolve()), *what]
    done = subprocess.run(  # noqa: S603 -- our own interpreter and module
        command,
        capture_output=True,
        text=True,
        timeout=CHECK_SECONDS,
        check=False,
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
    )
    if done.returncode != 0:
        last = (done.stdout + done.stderr).strip().splitlines()[-1:]
        raise ArtifactCorrupt(
            f"the {'adapter' if base else 'model'} was written, but loaded in a fresh process it is not the "
            f"same: {' '.join(last)[:200]}",
            code="adapter_does_not_reload",
        )
    return float(done.stdout.split()[-1])


def write_sums(folder: Path) -> None:
    """Write `SHA256SUMS` over every file of *folder*, in the form that `sha256sum -c` reads."""
    lines = [f"{sha256_of(path)}  {path.relative_to(folder).as_posix()}\n" for path in content_files(folder)]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=1, sort_keys=True), encoding="utf-8")
