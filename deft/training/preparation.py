"""What training and the calibration of omega have in common: examples, model, objective and the plan of steps.

Both must see the same first batches of the same model, so both come through here. Knows specs and input folders; it
takes no gradient and writes nothing.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.utils.deterministic as deterministic
from numpy.typing import NDArray
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from deft.adapters.targets import require_listed_targets
from deft.data.datasets import read_examples
from deft.data.splits import chosen_rows
from deft.distribution import load as load_distribution
from deft.distribution import require_same_tokenizer
from deft.errors import Finding, InvalidInput
from deft.models.attention import FLASH, Asked, attention_for, attention_of, machine_of, set_attention
from deft.models.loading import check_settings, dtype_of, load_base, load_tokenizer, weights_hash
from deft.packing import Pack, longest_row, probe_examples, separate, shared, shares_prompts
from deft.reports import Report
from deft.reward import Head, direction_of, head_of
from deft.sharding import is_sharded, shard
from deft.specs import MeasureOmegaSpec, Optimisation, ProMethod, TrainSpec
from deft.starts import require_same_base
from deft.tokens import TokenizedExample, encode_examples, end_token_id
from deft.training.batches import optimiser_steps, with_responses
from deft.training.fused_lora import fused
from deft.training.heads import trained_head
from deft.training.methods import criterion_of
from deft.training.objective import Objective
from deft.training.policy import attach_lora
from deft.training.ranks import present
from deft.training.recomputation import recompute_where_needed
from deft.training.supervision import RewardSource, row_weights, training_rewards
from deft.training.term import distribution_in, no_distribution


@dataclass(slots=True)
class Prepared:
    """Everything that a run needs before its first gradient."""

    tokenizer: PreTrainedTokenizerBase
    model: nn.Module
    """The base with an adapter, or all of it to be tuned."""
    objective: Objective
    rows: list[int]
    steps: list[list[int]]
    steps_in_epoch: int
    base_hash: str
    data_hash: str
    has_start_adapter: bool
    reward_source: RewardSource | None
    """Where the training rewards come from, where the method has them."""
    rows_with_weight: int
    """Rows that are weighed by a weight of their own."""

    def as_reference(self) -> AbstractContextManager[Any]:
        """Return the context in which the untrained model is the reference.

        That is the base without its fresh adapter, or with the adapter that it starts from; where all weights are
        tuned, the model as it is.
        """
        if self.has_start_adapter or not isinstance(self.model, PeftModel):
            return nullcontext()
        context: AbstractContextManager[Any] = self.model.disable_adapter()
        return context


def prepare(
    spec: TrainSpec | MeasureOmegaSpec, *, inputs: Mapping[str, Path], report: Report, needs_distribution: bool
) -> Prepared:
    """Read the data, load the model with its adapter, and plan every optimiser step.

    Raises:
        InvalidInput: rows, distribution, adapter or settings do not fit each other.
        ModelNotUsable: the model does not fit its tokenizer, a row holds a token that it has no embedding for, or its
            head is of no known kind.
    """
    report.phase("load")
    tokenizer = load_tokenizer(inputs["model"])
    numbered = _examples(spec, inputs["data"])
    rows = [example for _, example in numbered]
    rewards, source = training_rewards(spec.method, rows) if isinstance(spec.method, ProMethod) else (None, None)
    weights = row_weights(rows, are_used=spec.optimisation.row_weights)
    picks = criterion_of(spec.method).picks
    size = check_settings(inputs["model"], tokenizer, spec.tokens)
    q_diff = _q_diff(inputs, tokenizer, size, is_needed=needs_distribution)
    end_id = end_token_id(tokenizer, size)
    tokenized = encode_examples(rows, tokenizer, spec.tokens, size)
    examples = [with_responses(each, picks(spec.method, len(each.response_ids))) for each in tokenized]
    base_hash = weights_hash(inputs["model"])
    model, head, dtype = _policy(spec, inputs, base_hash, report)
    trained = trained_head(model, head, dtype, q_diff) if spec.lora is None else None
    is_shared = _has_lists(examples) and attention_of(model) != FLASH and shares_prompts(model, longest_row(examples))
    if trained is not None and present().size > 1:
        shard(model, present().size, _device(), dtype)  # the layout was tried out on the whole
    objective = Objective(
        method=spec.method,
        examples=examples,
        end_id=end_id,
        shares_prompts=is_shared,
        micro_batch_size=_micro_batch_size(spec.optimisation),
        head=head if trained is None else trained.head,
        direction=None if q_diff is None or trained is not None else direction_of(head, q_diff),
        rewards=rewards,
        weights=weights,
        ranks=present(),
        trained=trained,
        is_sharded=is_sharded(model),
    )
    plan = spec.optimisation
    recompute_where_needed(model, objective, spec.lora, plan)
    steps = optimiser_steps(len(examples), batch_size=plan.batch_size, epochs=plan.epochs, seed=plan.seed)
    return Prepared(
        tokenizer=tokenizer,
        model=model,
        objective=objective,
        rows=[row for row, _ in numbered],
        steps=steps,
        steps_in_epoch=len(steps) // plan.epochs,
        base_hash=base_hash,
        data_hash=_hash_of(examples, rewards, weights),
        has_start_adapter="adapter" in inputs,
        reward_source=source,
        rows_with_weight=0 if weights is None else sum(row.weight is not None for row in rows),
    )


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """On a CPU, let every operation give the same bits each time."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = deterministic  # a module of properties, which mypy does not see
    is_filling = memory.fill_uninitialized_memory
    if not torch.cuda.is_available():
        torch.use_deterministic_algorithms(True, warn_only=True)
        memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        memory.fill_uninitialized_memory = is_filling


def _policy(
    spec: TrainSpec | MeasureOmegaSpec, inputs: Mapping[str, Path], base_hash: str, report: Report
) -> tuple[nn.Module, Head, torch.dtype]:
    """Load the base, look at its head and its attention, and put the adapter on it, or free all its weights.

    The last is what a pass computes in.
    """
    if spec.lora is None:
        return _whole_policy(spec, inputs["model"], report)
    start = inputs.get("adapter")
    if start is not None:
        require_same_base(start, base_hash)
        require_listed_targets(start)
    plan = spec.optimisation
    base = load_base(inputs["model"], precision=plan.precision, quantisation=plan.quantisation)
    head = head_of(base)
    _choose_attention(base, plan.attention, report)
    policy = fused(attach_lora(base, spec.lora, seed=spec.optimisation.seed, start=start))
    return policy, head, head.weight.dtype


def _whole_policy(
    spec: TrainSpec | MeasureOmegaSpec, folder: Path, report: Report
) -> tuple[nn.Module, Head, torch.dtype]:
    """Load all weights in float32, to be tuned; of several processes each holds them on the host until they share."""
    ranks = present()
    dtype = dtype_of(spec.optimisation.precision, _device())
    if dtype == torch.float16 and ranks.size > 1:
        raise _refusal(
            "fp16_in_several_processes",
            "/optimisation/precision",
            f"fp16 in {ranks.size} processes",
            "bf16 or fp32 where all weights are tuned in several processes",
            "set optimisation.precision to bf16, or run it in one process",
        )
    base = load_base(folder, precision="fp32", device="auto" if ranks.size == 1 else "cpu")
    head = head_of(base)
    _choose_attention(base, spec.optimisation.attention, report)
    base.requires_grad_(True)
    return base, head, dtype


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _choose_attention(base: PreTrainedModel, asked: Asked, report: Report) -> None:
    """Let *base* compute attention as it is *asked* for; where it then computes something else, note that it does not.

    Raises:
        InvalidInput: it does not work on this machine.
    """
    chosen = attention_for(asked, attention_of(base), base.dtype, machine_of(base.device))
    examples = probe_examples(base.config.get_text_config().vocab_size)

    def layout(is_flex: bool) -> Pack:
        if chosen == FLASH:  # which is never given shared rows
            return separate(examples, base.device)
        return shared(examples, base.dtype, base.device, is_flex=is_flex)

    reason = set_attention(base, chosen, layout)
    if reason is not None:
        report.note(f"attention: {reason}")


def _has_lists(examples: list[TokenizedExample]) -> bool:
    return any(len(example.response_ids) > 1 for example in examples)


def _micro_batch_size(optimisation: Optimisation) -> int | None:
    """Return what was asked for; else 1 on a CPU, which gains nothing from wider passes, so that nothing is padded."""
    return optimisation.micro_batch_size or (None if torch.cuda.is_available() else 1)


def _examples(spec: TrainSpec | MeasureOmegaSpec, folder: Path) -> list[tuple[int, Any]]:
    """Return the numbered examples: all of a subset, of a dataset the rows that the spec asks for."""
    numbered = read_examples(folder)
    if (folder / "subset.json").is_file():
        return numbered
    wanted = set(chosen_rows(folder, spec.rows))
    return [(row, example) for row, example in numbered if row in wanted]


def _q_diff(
    inputs: Mapping[str, Path], tokenizer: PreTrainedTokenizerBase, size: int, *, is_needed: bool
) -> NDArray[np.float64] | None:
    """Return Q_diff from the subset itself, else from the scoring.

    Without a term it only serves the metrics: one of another tokenizer, or of other than *size* tokens, is left out.
    """
    path = distribution_in(inputs)
    if path is None:
        if is_needed:
            raise no_distribution()
        return None
    distribution = load_distribution(path)
    try:
        require_same_tokenizer(distribution, tokenizer)
    except InvalidInput:
        if is_needed:
            raise
        return None
    is_left_out = not is_needed and len(distribution.q_diff) != size
    return None if is_left_out else distribution.q_diff


def _hash_of(examples: list[TokenizedExample], *values: list[Any] | None) -> str:
    """Return the SHA-256 over all token ids, in order, and the *values* that come with them."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(json.dumps([example.prompt_ids, example.response_ids, example.is_cut]).encode())
    for value in values:
        digest.update(json.dumps(value).encode())
    return digest.hexdigest()


def _refusal(code: str, pointer: str, found: str, expected: str, fix: str) -> InvalidInput:
    finding = Finding(code=code, pointer=pointer, found=found, expected=expected, fix=fix)
    return InvalidInput(f"expected {expected}, found {found}: {fix}", code=code, findings=[finding])
