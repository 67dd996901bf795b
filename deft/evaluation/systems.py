"""One resident base model, the adapters that are swapped on it one at a time, and tuned models beside it.

Knows PEFT and adapter folders; it must not know data or metrics.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from deft.adapters.bases import is_whole_model
from deft.errors import ModelNotUsable
from deft.evaluation.trained_on import record_of, refusal, require_trained_on
from deft.models.files import config_hash
from deft.models.loading import adapter_on_head, load_base, load_policy, weights_hash
from deft.specs import Quantisation, System
from deft.starts import adapter_hash

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class Adapter:
    """A system of the evaluation, the folder of its adapter or tuned model, and what its training was."""

    system: System
    folder: Path
    has_reward_term: bool
    is_whole: bool = False
    """Whether the folder is a model by itself, whose weights were all tuned."""
    files_hash: str = ""
    """SHA-256 (hex) of settings and weights as they lie in the folder, whatever is on record of them."""


def open_adapters(systems: Sequence[System], folders: Sequence[Path | None], base_hash: str) -> list[Adapter]:
    """Return the adapters of *systems*, checked against the base's weights.

    An adapter without a record of its training is taken as trained with the term, so that R_d is not trusted.

    Raises:
        InvalidInput: a folder is missing, or holds no adapter, or one that was trained on another base.
        ModelNotUsable: a tuned model has no weights.
    """
    pairs = enumerate(zip(systems, folders, strict=True))
    return [_open(index, system, folder, base_hash) for index, (system, folder) in pairs]


def _open(index: int, system: System, folder: Path | None, base_hash: str) -> Adapter:
    is_whole = folder is not None and is_whole_model(folder)
    if folder is None or not (is_whole or (folder / "adapter_config.json").is_file()):
        raise refusal(index, system, "no adapter", "the output of a training job", "unknown_adapter")
    require_trained_on(index, system, folder, base_hash)
    files_hash = _hash_of_model(folder) if is_whole else adapter_hash(folder)
    return Adapter(system, folder, record_of(folder).get("omega") != 0, is_whole, files_hash)


def _hash_of_model(folder: Path) -> str:
    return hashlib.sha256(f"{weights_hash(folder)} {config_hash(folder)}".encode()).hexdigest()


class Resident:
    """A base model in memory; `system` lends it with one adapter active, or with none."""

    def __init__(self, base: "PreTrainedModel", quantisation: Quantisation = "none") -> None:
        self.base, self.quantisation = base, quantisation
        self._head = base.get_output_embeddings()
        self._policy: PeftModel | None = None
        self._active = ""

    @contextmanager
    def system(self, adapter: Adapter | None) -> Iterator[nn.Module]:
        """Lend the model as *adapter*'s system; None is the base alone. A tuned model goes when it is given back.

        Raises:
            ModelNotUsable: the adapter does not fit the base, or the tuned model does not load.
        """
        if adapter is None:
            with self.without_adapter():
                yield self._policy or self.base
        elif adapter.is_whole:
            yield load_base(adapter.folder, quantisation=self.quantisation)
        else:
            yield self._load(adapter)

    def without_adapter(self) -> Any:  # noqa: ANN401 -- two kinds of context
        """Return a context in which the lent model computes as the base does."""
        return nullcontext() if self._policy is None else self._policy.disable_adapter()

    def make_room(self) -> None:
        """Take the base off its device, for a program that needs the room; nothing can be lent any more."""
        self._policy = None
        if self.base.device.type != "cpu":
            self.base.to("cpu")
            torch.cuda.empty_cache()

    def _load(self, adapter: Adapter) -> nn.Module:
        name = f"system_{adapter.system.name}"
        if self._policy is None:
            self._policy, self._active = load_policy(self.base, adapter.folder), "default"
        elif name != self._active:
            self._swap(self._policy, adapter, name)
        policy: nn.Module = self._policy
        return policy

    def _swap(self, policy: "PeftModel", adapter: Adapter, name: str) -> None:
        try:
            policy.load_adapter(adapter.folder, name, is_trainable=False, local_files_only=True)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            message = f"the adapter of system `{adapter.system.name}` does not fit the base"
            raise ModelNotUsable(message) from error
        if policy.get_base_model().get_output_embeddings() is not self._head:
            raise adapter_on_head(adapter.folder)
        policy.set_adapter(name)
        policy.delete_adapter(self._active)
        policy.eval()
        self._active = name
