"""What the README.md of an adapter, of a merged and of a tuned model says. Torch-free, pure text.

Knows the resolved spec, the summary of the run and what is on record of the base; reads and writes nothing.
"""

import json
from collections.abc import Mapping
from typing import Any

from deft.adapters.bases import BaseModel, duties_of
from deft.adapters.serving_rules import Serving

LAST_STEP = {
    "loss": "loss",
    "rewards/accuracies": "share of pairs with a positive margin",
    "rewards/margins": "margin",
    "deft/r_d": "R_d of the chosen",
    "deft/probe_kl": "KL to the reference, nats a token, probe set",
    "deft/probe_entropy": "entropy, nats a token, probe set",
}


def adapter_card(base: BaseModel, serving: Serving, spec: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """Return the adapter's README.md."""
    front = {"library_name": "peft", "tags": ["deft", spec["method"]["type"], "lora"]}
    text = [
        "A LoRA adapter trained on preference data. `training.json` holds the whole spec, the final metrics and the "
        "hash of the base weights; `tensorboard/` every step; `probe.safetensors` the logits that the adapter must "
        "reproduce.\n",
        _settings(spec, summary),
        _scores(summary),
        _licence(base, "adapter"),
        "```python\nfrom peft import PeftModel\nfrom transformers import AutoModelForCausalLM\n\n"
        f'base = AutoModelForCausalLM.from_pretrained("{base.name}")\n'
        'model = PeftModel.from_pretrained(base, "path/to/this/folder")\n```\n',
        _vllm(base, serving),
    ]
    return _card(base, "LoRA adapter for", front, text)


def merged_card(base: BaseModel, spec: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """Return the README.md of the base with the adapter merged into its weights."""
    front = {"library_name": "transformers", "tags": ["deft", spec["method"]["type"]]}
    text = [
        "The base model with the adapter beside this folder merged into its weights.\n",
        _settings(spec, summary),
        _licence(base, "model"),
    ]
    return _card(base, "Merged model from", front, text)


def tuned_card(base: BaseModel, spec: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """Return the README.md of a model whose weights were all tuned."""
    front = {"library_name": "transformers", "tags": ["deft", spec["method"]["type"]]}
    text = [
        "The base model with all its weights tuned on preference data. `training.json` holds the whole spec, the final "
        "metrics and the hashes of the weights, before and after; `tensorboard/` every step; `probe/` the logits that "
        "the model must reproduce.\n",
        _settings(spec, summary),
        _scores(summary),
        _licence(base, "model"),
    ]
    return _card(base, "All weights of", front, text)


def _card(base: BaseModel, what: str, front: Mapping[str, Any], text: list[str]) -> str:
    """Put together front matter, the title that the base's licence asks for, and *text*."""
    duties = duties_of(base)
    common = {"base_model": base.name, "pipeline_tag": "text-generation", "license": base.licence or "other"}
    lines = [f"{key}: {json.dumps(value)}\n" for key, value in (common | dict(front)).items()]
    title = f"# {duties.prefix if duties else ''}{what} {base.name}, tuned with DEFT\n"
    built_with = [duties.built_with + "\n"] if duties else []
    return "\n".join(["---\n" + "".join(lines) + "---\n", title, *built_with, *text])


def _settings(spec: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    term = f"{summary['omega']:.6g} ({summary['omega_source']})" if spec["deft"] is not None else "none"
    return _table(
        {
            "method": _method_words(spec["method"], summary),
            "DEFT reward term, omega": term,
            "tuned": _tuned_words(spec["lora"]),
            "examples": f"{summary['examples']}, {summary['epochs']} epoch(s), {summary['steps']} optimiser steps",
            "response tokens trained": str(summary["trained_tokens"]),
            "learning rate": f"{spec['optimisation']['learning_rate']}, {spec['optimisation']['schedule']}",
            "precision, device": f"{summary['precision']}, {summary['device']}",
            "base while training": _base_words(summary),
        }
    )


def _base_words(summary: Mapping[str, Any]) -> str:
    if summary["quantisation"] == "none":
        return "its own weights"
    return "NF4 (bitsandbytes, double quantisation): over its own weights this adapter gives slightly other logits"


def _scores(summary: Mapping[str, Any]) -> str:
    """Return the numbers of the last step, and where held-out ones are: this folder was sealed before any."""
    metrics = summary["metrics"]
    rows = {words: f"{metrics[name]:.4g}" for name, words in LAST_STEP.items() if name in metrics}
    return (
        "At the last optimiser step, on the training data (held-out scores, with intervals and against control arms, "
        "are in the evaluations that name this):\n\n" + _table(rows)
    )


def _licence(base: BaseModel, what: str) -> str:
    words = f"Base model: {base.name}" + (f", revision {base.revision}" if base.revision else "") + ". "
    if base.licence is None:
        return words + f"Its licence is not on record here: look it up before passing this {what} on.\n"
    notice = " See also `NOTICE`." if duties_of(base) else ""
    return words + f"Its licence, {base.licence}, applies to this {what} too.{notice}\n"


def _vllm(base: BaseModel, serving: Serving) -> str:
    words = f"Loads in vLLM: {serving.in_words} (by its published rules, `deft/adapters/serving_rules.py`; not run).\n"
    if serving.loads is False or serving.max_lora_rank is None:
        return words
    return words + (
        f"\n`vllm serve {base.name} --enable-lora --max-lora-rank {serving.max_lora_rank} "
        "--lora-modules deft=path/to/this/folder`\n"
    )


def _table(rows: Mapping[str, str]) -> str:
    return "| | |\n|---|---|\n" + "".join(f"| {key} | {value} |\n" for key, value in rows.items())


def _tuned_words(lora: Mapping[str, Any] | None) -> str:
    if lora is None:
        return "all weights"
    return f"LoRA, r {lora['r']}, alpha {lora['alpha']}, dropout {lora['dropout']}"


def _method_words(method: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    if method["type"] == "dpo":
        return f"dpo, beta {method['beta']}"
    if method["type"] == "pro":
        return f"pro, SFT weight {method['sft_weight']}, rewards from {summary['rewards']}"
    return str(method["type"])
