"""The reference's log-probabilities of a run: from its checkpoint, from those kept of earlier runs, or computed now.

What is kept lies in a folder of this machine, one file a run that computed something: the keys of examples, and two
numbers each. On a CPU a key holds everything that the numbers depend on to the last bit, the forward pass included, so
that a run ends the same whether they were found or not; on a GPU, whose passes differ in the last digits anyway, it is
the example. A file that is damaged or half-written is not believed (`deft.cache`), and its numbers are computed again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from deft import cache as files
from deft.folders import sha256_of
from deft.memory import with_one_retry
from deft.models.arithmetic import arithmetic_of
from deft.models.loading import causal_model
from deft.reports import Report, stop_if_asked
from deft.tokens import TokenizedExample
from deft.training import checkpoints as resume
from deft.training.methods import criterion_of
from deft.training.objective import reference_logps
from deft.training.preparation import Prepared

_WAY = 1
"""Another number whenever what computes log-probabilities changes in its last digits."""


@dataclass(slots=True)
class KeptReference:
    """Log-probabilities by key, as earlier runs left them in *folder*, and the *fresh* ones of this run.

    All files of *folder* were made in one context (`context_of`).
    """

    folder: Path
    is_by_pass: bool
    found: dict[str, Tensor] = field(default_factory=dict)
    fresh: dict[str, Tensor] = field(default_factory=dict)
    taken: int = 0

    def take(self, examples: Sequence[TokenizedExample], threads: int) -> Tensor | None:
        """Return [B, 2] of the *examples* of a forward pass of so many *threads*; None unless all are there."""
        keys = self._keys(examples, threads)
        if not all(key in self.found for key in keys):
            return None
        self.taken += len(keys)
        return torch.stack([self.found[key] for key in keys])

    def put(self, examples: Sequence[TokenizedExample], threads: int, logps: Tensor) -> None:
        """Keep *logps* [B, 2] of the *examples* of a forward pass."""
        self.fresh.update(zip(self._keys(examples, threads), logps.float().cpu(), strict=True))

    def save(self) -> None:
        """Write what is fresh, as one file under its own hash by one rename.

        Raises:
            OSError: it cannot be written.
        """
        if not self.fresh:
            return
        keys = torch.tensor([list(bytes.fromhex(key)) for key in self.fresh], dtype=torch.uint8)
        files.put(self.folder, save({"keys": keys, "logps": torch.stack(list(self.fresh.values()))}))
        self.fresh = {}

    def _keys(self, examples: Sequence[TokenizedExample], threads: int) -> list[str]:
        texts = [json.dumps([each.prompt_ids, each.response_ids, each.is_cut]) for each in examples]
        if self.is_by_pass:
            everything = json.dumps([threads, texts])
            texts = [f"{place} {everything}" for place in range(len(texts))]
        return [hashlib.sha256(text.encode()).hexdigest() for text in texts]


def open_kept(root: Path, context: Mapping[str, str], *, is_by_pass: bool) -> KeptReference:
    """Return what is kept below *root* for *context*; a file that is not what its name says is removed."""
    kept = KeptReference(files.folder_of(root, context), is_by_pass)
    for content in files.contents(kept.folder):
        kept.found.update(_read(content))
    return kept


def _read(content: bytes) -> dict[str, Tensor]:
    try:
        tensors = load(content)
        return {bytes(key).hex(): logps for key, logps in zip(tensors["keys"].tolist(), tensors["logps"], strict=True)}
    except (SafetensorError, KeyError, ValueError):  # of another version of this module
        return {}


def context_of(prepared: Prepared, inputs: Mapping[str, Path]) -> dict[str, str]:
    """Return what log-probabilities depend on besides the example and its pass: weights, layout, machine, libraries."""
    objective, base = prepared.objective, causal_model(prepared.model)
    own = ("adapter_model.safetensors", "adapter_config.json") if "adapter" in inputs else ()
    return {
        "base": prepared.base_hash,
        "adapter": " ".join(sha256_of(inputs["adapter"] / name) for name in own),
        **arithmetic_of(base, objective.head.weight.device),
        "layout": "shared" if objective.shares_prompts else "separate",
        "end": str(objective.end_id),
        "computed": f"{objective.computed_in}, {'frozen' if objective.trained is None else 'trained'} head",
        "way": str(_WAY),
    }


def set_reference(
    prepared: Prepared, inputs: Mapping[str, Path], start: Path | None, cache: Path | None, report: Report
) -> dict[str, int] | None:
    """Give the objective the reference's log-probabilities; return where they are from, None where there are none.

    Args:
        prepared: the run.
        inputs: its folders.
        start: the checkpoint that it goes on from.
        cache: folder of what earlier runs computed; None, or several processes: everything is computed.
        report: hears how far it is.

    Returns:
        Numbers of examples: `from_checkpoint`, `from_cache`, `computed`.

    Raises:
        Interrupted: it was asked to stop; what has been computed is kept.
    """
    objective, total = prepared.objective, len(prepared.rows)
    if not criterion_of(objective.method).has_reference:
        return None
    if start is not None:
        objective.reference = resume.read_group(start, "reference")["logps"]
        return {"from_checkpoint": total, "from_cache": 0, "computed": 0}
    report.phase("reference")
    kept = None
    if cache is not None and objective.ranks.size == 1:
        is_by_pass = objective.head.weight.device.type == "cpu"
        kept = open_kept(cache, context_of(prepared, inputs), is_by_pass=is_by_pass)
    try:
        objective.reference = _computed(prepared, kept, report)
    finally:
        if kept is not None:
            _save(kept, report)
    taken = 0 if kept is None else kept.taken
    return {"from_checkpoint": 0, "from_cache": taken, "computed": total - taken}


def _computed(prepared: Prepared, kept: KeptReference | None, report: Report) -> Tensor:
    objective, total = prepared.objective, len(prepared.rows)

    def after_each(done: int) -> None:
        report.progress(min(done * objective.ranks.size, total), total, "examples")
        stop_if_asked(report)

    def compute() -> Tensor:
        if kept is not None:
            kept.taken = 0
        steps = prepared.steps[: prepared.steps_in_epoch]
        as_reference = prepared.as_reference
        return reference_logps(
            objective, prepared.model, steps, reference=as_reference, after_each=after_each, kept=kept
        )

    return with_one_retry(compute, objective=objective, place="reference", report=report)


def _save(kept: KeptReference, report: Report) -> None:
    try:
        kept.save()
        files.forget_oldest(kept.folder.parent)
    except OSError as error:
        report.note(f"the reference's log-probabilities were not kept for other runs: {error.strerror}")
