"""The adapter folder that is handed out: plain LoRA under portable names, with a card, a probe and checksums.

`python -m deft.adapters FOLDER --base DIR` loads it as anyone would and compares its logits with the recorded ones.
Knows files, PEFT and the tokenizer; it must not know how the adapter was trained beyond the settings it prints.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from deft.errors import ArtifactCorrupt
from deft.folders import content_files, sha256_of
from deft.models import load_base, load_policy

PROBE_TEXT = "Human: How are you today?"
PROBE_TOKENS = 8
TOLERANCE = {"fp32": 1e-5, "bf16": 2e-2, "fp16": 2e-2}
"""Largest difference of logits after loading again, as a share of the largest logit."""

CHECK_SECONDS = 1800
SUMS = "SHA256SUMS"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the card and training.json say: the resolved *spec*, the *summary* of the run, the base model's folder."""

    spec: Mapping[str, Any]
    summary: Mapping[str, Any]
    base_folder: Path


@dataclass(frozen=True, slots=True)
class BaseModel:
    """How others call the base model: never by a path of this machine."""

    name: str
    revision: str | None
    licence: str | None


def base_model(folder: Path) -> BaseModel:
    """Return the recorded name, revision and licence of the model in *folder* (`deft-model.json`), else its name."""
    record = folder / "deft-model.json"
    if record.is_file():
        facts = json.loads(record.read_text(encoding="utf-8"))
        return BaseModel(facts["name"], facts.get("revision"), facts.get("license"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return BaseModel(Path(config.get("_name_or_path") or folder.resolve()).name, None, None)


def save_adapter(model: PeftModel, tokenizer: PreTrainedTokenizerBase, out: Path, settings: Settings) -> str:
    """Write the adapter folder to *out* and return the SHA-256 of its weights."""
    base = base_model(settings.base_folder)
    model.eval()
    model.save_pretrained(out, save_embedding_layers=False)
    _make_config_portable(out / "adapter_config.json", base)
    tokenizer.save_pretrained(out)
    weights = sha256_of(out / "adapter_model.safetensors")
    _write_json(out / "training.json", training_record(base, settings, weights))
    save_probe(model, tokenizer, out / "probe.safetensors")
    (out / "README.md").write_text(model_card(base, settings), encoding="utf-8")
    write_sums(out)
    return weights


def training_record(base: BaseModel, settings: Settings, weights: str) -> dict[str, Any]:
    """Return what `training.json` holds: the run's summary, its spec, and what the base was."""
    return {
        **settings.summary,
        "adapter_sha256": weights,
        "base": {
            "name": base.name,
            "revision": base.revision,
            "license": base.licence,
            "weights_hash": settings.summary["base_weights_hash"],
        },
        "spec": settings.spec,
    }


def _make_config_portable(path: Path, base: BaseModel) -> None:
    """Name the base as others know it, and the targets by sorted suffixes, which every server matches."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base.name
    config["revision"] = base.revision
    config["target_modules"] = sorted({name.rpartition(".")[2] for name in config["target_modules"]})
    _write_json(path, config)


@torch.no_grad()
def probe_logits(model: nn.Module, input_ids: Tensor) -> Tensor:
    """Return the logits [1, T, V] float32 of *model* on *input_ids* [1, T], on the CPU."""
    device = next(model.parameters()).device
    logits: Tensor = model(input_ids=input_ids.to(device), use_cache=False).logits
    return logits.float().cpu()


def save_probe(model: nn.Module, tokenizer: PreTrainedTokenizerBase, path: Path) -> None:
    """Record the logits of base and adapter on a short fixed text."""
    ids = tokenizer(PROBE_TEXT, add_special_tokens=False)["input_ids"][:PROBE_TOKENS]
    input_ids = torch.tensor([ids])
    save_file({"input_ids": input_ids, "logits": probe_logits(model, input_ids).contiguous()}, path)


def probe_difference(adapter: Path, base: Path) -> tuple[float, float]:
    """Load *adapter* on the model in *base*; compare its logits with the recorded ones.

    Returns:
        The largest absolute difference, and the one that is allowed on the same machine.

    Raises:
        ModelNotUsable: the base or the adapter does not load.
    """
    precision = json.loads((adapter / "training.json").read_text(encoding="utf-8"))["precision"]
    model = load_policy(load_base(base, precision=precision), adapter)
    probe = load_file(adapter / "probe.safetensors")
    logits = probe_logits(model, probe["input_ids"])
    if logits.shape != probe["logits"].shape:
        return float("inf"), 0.0
    allowed = TOLERANCE[precision] * max(1.0, probe["logits"].abs().max().item())
    return (logits - probe["logits"]).abs().max().item(), allowed


def check_in_fresh_process(adapter: Path, base: Path) -> float:
    """Load the adapter in a new Python process; return the largest difference of its logits from the recorded ones.

    Raises:
        ArtifactCorrupt: it does not load there, or does not reproduce them.
    """
    command = [sys.executable, "-m", "deft.adapters", str(adapter.resolve()), "--base", str(base.resolve())]
    done = subprocess.run(  # noqa: S603 -- our own interpreter and module
        command,
        capture_output=True,
        text=True,
        timeout=CHECK_SECONDS,
        check=False,
        cwd=Path(__file__).resolve().parent.parent,
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
    )
    if done.returncode != 0:
        last = (done.stdout + done.stderr).strip().splitlines()[-1:]
        raise ArtifactCorrupt(
            f"the adapter was written, but loaded in a fresh process it is not the same: {' '.join(last)[:200]}",
            code="adapter_does_not_reload",
        )
    return float(done.stdout.split()[-1])


def write_sums(folder: Path) -> None:
    """Write `SHA256SUMS` over every file of *folder*, in the form that `sha256sum -c` reads."""
    lines = [f"{sha256_of(path)}  {path.relative_to(folder).as_posix()}\n" for path in content_files(folder)]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def model_card(base: BaseModel, settings: Settings) -> str:
    """Return the adapter's README.md."""
    spec, summary = settings.spec, settings.summary
    is_llama_3 = (base.licence or "").lower().replace("-", "").startswith("llama3")
    front = {
        "base_model": base.name,
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "license": base.licence or "other",
        "tags": ["deft", spec["method"]["type"], "lora"],
    }
    term = f"{summary['omega']:.6g} ({summary['omega_source']})" if spec["deft"] is not None else "none"
    rows = {
        "method": _method_words(spec["method"], summary),
        "DEFT reward term, omega": term,
        "LoRA": f"r {spec['lora']['r']}, alpha {spec['lora']['alpha']}, dropout {spec['lora']['dropout']}",
        "examples": f"{summary['examples']}, {summary['epochs']} epoch(s), {summary['steps']} optimiser steps",
        "response tokens trained": str(summary["trained_tokens"]),
        "learning rate": f"{spec['optimisation']['learning_rate']}, {spec['optimisation']['schedule']}",
        "precision, device": f"{summary['precision']}, {summary['device']}",
    }
    # Llama 3's licence asks that a derived model's name begin with its own, and that it be said what it is built with.
    title = ("Llama 3 " if is_llama_3 else "") + f"LoRA adapter for {base.name}, tuned with DEFT"
    text = [
        "---\n" + "".join(f"{key}: {json.dumps(value)}\n" for key, value in front.items()) + "---\n",
        f"# {title}\n",
        "Built with Meta Llama 3.\n" if is_llama_3 else "",
        "A LoRA adapter trained on preference data. `training.json` holds the whole spec, the final metrics and the "
        "hash of the base weights; `probe.safetensors` the logits that the adapter must reproduce.\n",
        "| | |\n|---|---|\n" + "".join(f"| {key} | {value} |\n" for key, value in rows.items()),
        f"Base model: {base.name}" + (f", revision {base.revision}" if base.revision else "") + ".",
        f"Its licence, {base.licence}, applies to this adapter too.\n"
        if base.licence
        else "Its licence is not on record here: look it up before passing this adapter on.\n",
        "```python\nfrom peft import PeftModel\nfrom transformers import AutoModelForCausalLM\n\n"
        f'base = AutoModelForCausalLM.from_pretrained("{base.name}")\n'
        'model = PeftModel.from_pretrained(base, "path/to/this/folder")\n```\n',
        f"With vLLM: `vllm serve {base.name} --enable-lora --max-lora-rank {max(8, spec['lora']['r'])} "
        "--lora-modules deft=path/to/this/folder`\n",
    ]
    return "\n".join(part for part in text if part)


def _method_words(method: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    if method["type"] == "dpo":
        return f"dpo, beta {method['beta']}"
    if method["type"] == "pro":
        return f"pro, SFT weight {method['sft_weight']}, rewards from {summary['rewards']}"
    return str(method["type"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Check an adapter folder against its probe; 0 when its logits are reproduced, else 1."""
    parser = argparse.ArgumentParser(prog="python -m deft.adapters", description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--base", type=Path, required=True, help="folder of the base model")
    parser.add_argument("--tolerance", type=float, help="largest difference of a logit that is accepted")
    options = parser.parse_args(arguments)
    difference, allowed = probe_difference(options.folder, options.base)
    if options.tolerance is not None:
        allowed = options.tolerance
    is_same = difference <= allowed
    verdict = "reproduced" if is_same else f"NOT reproduced (allowed {allowed:.3g})"
    sys.stdout.write(f"probe logits {verdict}, max abs difference: {difference:.9g}\n")
    return 0 if is_same else 1


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=1, sort_keys=True), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
