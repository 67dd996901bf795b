"""The model folder that is handed out where all weights were tuned: safetensors, tokenizer, card, probe and checksums.

It loads as any model of transformers does; `python -m deft.adapters FOLDER --whole` compares its logits with the
probe's. Knows files, models and the tokenizer; it must not know how the model was trained beyond what it prints.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedTokenizerBase

from deft.adapters.bases import base_model
from deft.adapters.card import tuned_card
from deft.adapters.folder import SHARD, WHOLE_PROBE, Settings, base_record, probe_of, write_card, write_sums
from deft.models.loading import causal_model, weights_hash
from deft.sharding import gathered, release


@dataclass(frozen=True, slots=True)
class TunedState:
    """A tuned model at rest: its *weights* by name, rounded to the *dtype* of its passes; the *probe* before that."""

    config: PretrainedConfig
    generation: object
    weights: Mapping[str, Tensor]
    probe: Mapping[str, Tensor]
    dtype: torch.dtype


def take_state(model: nn.Module, tokenizer: PreTrainedTokenizerBase, *, dtype: torch.dtype, keeps: bool) -> TunedState:
    """Return the state of *model* on the host, rounded to *dtype*; its logits are recorded before that.

    Of a sharded model every process calls it; the one that *keeps* it gets the weights.
    """
    model.eval()
    probe = probe_of(model, tokenizer)
    release(model)
    weights = gathered(model.state_dict(), keeps=keeps, dtype=dtype)
    causal = causal_model(model)
    return TunedState(causal.config, causal.generation_config, weights, probe, dtype)


def save_tuned(state: TunedState, tokenizer: PreTrainedTokenizerBase, out: Path, settings: Settings) -> str:
    """Write the model folder to *out* and return the hash of its weights (`deft.models.loading.weights_hash`)."""
    base = base_model(settings.base_folder)
    _write_model(state, out)
    tokenizer.save_pretrained(out)
    weights = weights_hash(out)
    record = {**settings.summary, "weights_hash": weights, "base": base_record(base, settings), "spec": settings.spec}
    (out / "training.json").write_text(json.dumps(record, indent=1, sort_keys=True), encoding="utf-8")
    probe = out / WHOLE_PROBE
    probe.parent.mkdir()
    save_file(dict(state.probe), probe)
    write_card(out, base, tuned_card(base, settings.spec, settings.summary))
    write_sums(out)
    return weights


def _write_model(state: TunedState, out: Path) -> None:
    with torch.device("meta"):
        fresh = AutoModelForCausalLM.from_config(state.config, dtype=state.dtype)
    fresh.load_state_dict(state.weights, assign=True)
    fresh.tie_weights()
    fresh.generation_config = state.generation
    fresh.config._name_or_path = ""  # it may be a path of this machine
    fresh.save_pretrained(out, max_shard_size=SHARD)
