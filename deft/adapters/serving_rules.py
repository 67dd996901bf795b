"""Whether vLLM would load an adapter, by its published rules and without running it. Torch-free.

Source: github.com/vllm-project/vllm as of November 2026: `vllm/lora/peft_helper.py` (settings that are refused),
`vllm/lora/utils.py` and `lora_model.py` (names of tensors, expected modules), `vllm/config/lora.py` (ranks), and
`docs/models/supported_models.md` (which architectures take adapters). Knows files of an adapter and a base model.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Values that `--max-lora-rank` takes."""

_ATTENTION = frozenset({"q_proj", "k_proj", "v_proj", "o_proj"})
_PLAIN = _ATTENTION | {"up_proj", "down_proj"}
_GATED = _PLAIN | {"gate_proj"}
_FUSED_GATE = _ATTENTION | {"gate_up_proj", "down_proj"}
_BIASED = frozenset({"q_proj", "k_proj", "v_proj", "fc1", "fc2"})

MODULES: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(
        (
            *("CohereForCausalLM", "Cohere2ForCausalLM", "Exaone4ForCausalLM", "GemmaForCausalLM"),
            *("Gemma2ForCausalLM", "Gemma3ForCausalLM", "GraniteForCausalLM", "LlamaForCausalLM"),
            *("MistralForCausalLM", "Olmo2ForCausalLM", "Olmo3ForCausalLM", "Qwen2ForCausalLM"),
            *("Qwen3ForCausalLM", "SeedOssForCausalLM", "SmolLM3ForCausalLM"),
        ),
        _GATED,
    ),
    **dict.fromkeys(("ApertusForCausalLM", "ArceeForCausalLM", "NemotronForCausalLM"), _PLAIN),
    **dict.fromkeys(("GlmForCausalLM", "Glm4ForCausalLM"), _FUSED_GATE),
    "OPTForCausalLM": _BIASED | {"out_proj"},
    "PhiForCausalLM": _BIASED | {"dense"},
    "Phi3ForCausalLM": frozenset({"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}),
    "Starcoder2ForCausalLM": _ATTENTION | {"c_fc", "c_proj"},
}
"""Architectures that take adapters, and the suffixes of the modules that may have one."""

WITHOUT_ADAPTERS = frozenset(
    {
        *("BloomForCausalLM", "DbrxForCausalLM", "FalconForCausalLM", "FalconMambaForCausalLM", "FlexOlmoForCausalLM"),
        *("GPT2LMHeadModel", "GPTJForCausalLM", "GPTNeoXForCausalLM", "Gemma3nForCausalLM", "Jais2ForCausalLM"),
        *("Mamba2ForCausalLM", "MambaForCausalLM", "MptForCausalLM", "OlmoeForCausalLM", "StableLmForCausalLM"),
        "Zamba2ForCausalLM",
    }
)
"""Architectures that vLLM serves, but without adapters."""

INITS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")
"""Initialisations by name that leave the base as it is."""

_MUST_BE_EMPTY = {
    "modules_to_save": "has whole modules beside LoRA (modules_to_save)",
    "use_dora": "uses DoRA",
    "lora_bias": "has a LoRA bias",
    "alora_invocation_tokens": "is an activated LoRA",
    "layer_replication": "replicates layers",
    "use_bdlora": "is a block-diagonal LoRA",
    "use_qalora": "uses QALoRA",
}


@dataclass(frozen=True, slots=True)
class Serving:
    """Whether vLLM would load an adapter (None: its architecture is in no list), why not, and the rank to allow."""

    loads: bool | None
    because: list[str]
    max_lora_rank: int | None

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {"loads": self.loads, "because": self.because, "max_lora_rank": self.max_lora_rank}

    @property
    def in_words(self) -> str:
        """`yes`, or `no, because ...`."""
        if self.loads:
            return "yes"
        return f"{'not known' if self.loads is None else 'no'}, because {'; '.join(self.because)}"


def vllm_rules(adapter: Path, base: Path) -> Serving:
    """Hold the adapter in the folder *adapter* for the model in the folder *base* against vLLM's loader."""
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    shapes = tensor_shapes(adapter / "adapter_model.safetensors")
    architecture = (json.loads((base / "config.json").read_text(encoding="utf-8")).get("architectures") or ["?"])[0]
    rank = max([config["r"], *(config.get("rank_pattern") or {}).values()])
    broken = [*settings_refused(config), *names_refused(shapes), *_ranks_refused(shapes, rank)]
    if architecture in WITHOUT_ADAPTERS:
        broken.append(f"it serves {architecture} without adapters")
    if architecture in MODULES:
        broken += _modules_refused(shapes, MODULES[architecture])
    allowed = next((value for value in RANKS if value >= rank), None)
    if broken or architecture in MODULES:
        return Serving(not broken, broken, allowed)
    return Serving(None, [f"{architecture} is not in our list of architectures"], allowed)


def tensor_shapes(path: Path) -> dict[str, list[int]]:
    """Return name and shape of every tensor in the safetensors file at *path*, without reading the tensors."""
    with safe_open(path, framework="np") as file:
        return {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 -- no mapping


def settings_refused(config: Mapping[str, Any]) -> list[str]:
    """Return what vLLM refuses of the settings in adapter_config.json."""
    found = [words for name, words in _MUST_BE_EMPTY.items() if config.get(name)]
    init = config.get("init_lora_weights", True)
    if isinstance(init, str) and init.lower() not in INITS:
        found.append(f"its initialisation {init} changes the base weights")
    if config.get("bias", "none") != "none":
        found.append("it trains biases")
    if config["r"] > RANKS[-1]:
        found.append(f"its rank {config['r']} is above {RANKS[-1]}")
    return found


def names_refused(names: Iterable[str]) -> list[str]:
    """Return what vLLM cannot read among the *names* of tensors."""
    strange = [name for name in names if not name.endswith((".lora_A.weight", ".lora_B.weight"))]
    return [f"{len(strange)} tensors are no plain LoRA, {strange[0][-60:]} among them"] if strange else []


def _ranks_refused(shapes: Mapping[str, list[int]], rank: int) -> list[str]:
    ranks = {shape[0] if name.endswith(".lora_A.weight") else shape[-1] for name, shape in shapes.items()}
    return [f"a tensor has rank {max(ranks)}, adapter_config.json says {rank}"] if max(ranks, default=0) > rank else []


def _modules_refused(names: Iterable[str], known: frozenset[str]) -> list[str]:
    present = {name.rpartition(".lora_")[0].rpartition(".")[2] for name in names}
    strange = sorted(present - known)
    return [f"the modules {', '.join(strange)} take no adapter there"] if strange else []
