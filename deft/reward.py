"""The distribution reward: M4-M5 without logits where the head allows it. Pure but for one probe of the model.

    R_d(x, y) = sum_v Q_diff[v] * (1/T) sum_t log p(v | x, y_<t)

Because Q_diff sums to 0 the softmax normaliser cancels. With logits scale * (W h + b) it is linear in the hidden state:

    R_d = scale * (u . mean_t h_t + Q_diff . b),   u = W^T Q_diff

With soft-capped logits c * tanh(logit / c) it is not linear, but still needs no normaliser. Which kind a model has is
read from its modules and config and then checked against its own logits; anything else is refused.
Shape letters: P positions, V vocabulary, D hidden width. Q_diff never leaves float32 or float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deft.distribution import Distribution, checked, difference
from deft.errors import Finding, ModelNotUsable
from deft.losses import head_logits, mean_by_sequence
from deft.models.heads import FIELDS, head_refusal, head_settings
from deft.models.loading import causal_model, decoder
from deft.scoring.projections import Projection, probe_vector

_ROWS_PER_CHUNK = 8192
_POSITIONS_PER_CHUNK = 256


@dataclass(frozen=True, slots=True)
class Head:
    """A language-model head: logits = softcap(scale * (W h + b)). *weight* [V, D], *bias* [V] or None."""

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None

    @property
    def kind(self) -> str:
        """`softcap`, `bias`, `scaled` or `plain`."""
        if self.softcap is not None:
            return "softcap"
        return "bias" if self.bias is not None else "scaled" if self.scale != 1.0 else "plain"

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [P, V] float32 of *hidden* [P, D]."""
        return head_logits(hidden, self.weight, self.bias, self.scale, self.softcap)


@dataclass(frozen=True, slots=True)
class Direction:
    """What turns hidden states into R_d.

    *u* float32 [D] is W^T Q_diff; R_d = *scale* * (u . mean h) + *offset*, with *offset* = scale * Q_diff . b. For a
    soft-capped head *capped* holds the head and *q_diff* float32 [V]; *u* has no meaning there.
    """

    u: Tensor
    scale: float = 1.0
    offset: float | Tensor = 0.0
    capped: Head | None = None
    q_diff: Tensor | None = None

    @property
    def is_linear(self) -> bool:
        """Whether R_d is a function of the mean hidden state."""
        return self.capped is None


def head_direction(model: nn.Module, q_diff: NDArray[np.float64]) -> Direction:
    """Return the direction of *q_diff* (float64 [V]) under *model*'s head.

    u is accumulated in float64 and kept in float32, on the model's device.

    Raises:
        ModelNotUsable: the head is of no known kind, or V is not its size.
        ValueError: *q_diff* is not float64 or does not sum to 0.
    """
    return direction_of(head_of(model), q_diff)


def direction_of(head: Head, q_diff: NDArray[np.float64]) -> Direction:
    """Return the direction of *q_diff* (float64 [V]) under *head*; as `head_direction`."""
    q = _fitting(q_diff, head)
    if head.softcap is not None:
        return Direction(torch.zeros(head.weight.shape[1], device=q.device), head.scale, 0.0, head, q.float())
    u = project(head, q[None])[0]
    offset = 0.0 if head.bias is None else head.scale * float(q @ head.bias.detach().double())
    return Direction(u.float(), head.scale, offset)


def project(head: Head, vectors: Tensor) -> Tensor:
    """Return W^T v, accumulated in float64, of each of *vectors* float64 [K, V]: [K, D], on the head's device."""
    rows, width = head.weight.shape
    found = torch.zeros((len(vectors), width), dtype=torch.float64, device=head.weight.device)
    for start in range(0, rows, _ROWS_PER_CHUNK):
        piece = slice(start, start + _ROWS_PER_CHUNK)
        found += vectors[:, piece].to(found.device) @ head.weight[piece].detach().double()
    return found


def projection_of(head: Head, distribution: Distribution) -> Projection:
    """Return what a scoring keeps of *head* and *distribution*: u of Q_diff and of every aspect's, and the probe.

    Raises:
        ModelNotUsable: the head is soft-capped, or V is not its size.
    """
    if head.softcap is not None:
        raise head_refusal("a soft-capped head, under which R_d is no function of the mean hidden state")
    _fitting(distribution.q_diff, head)
    names = [name for name, counts in distribution.aspects.items() if counts.chosen.any() and counts.rejected.any()]
    vectors = [distribution.q_diff, probe_vector(len(head.weight))]
    vectors += [difference(distribution.aspects[name]) for name in names]
    u, probe, *own = project(head, torch.from_numpy(np.stack(vectors))).cpu().numpy()
    bias = None if head.bias is None else head.bias.detach().float().cpu().numpy()
    return Projection(u, dict(zip(names, own, strict=True)), probe, bias, head.scale)


def learning_direction(head: Head, q_diff: NDArray[np.float64]) -> Direction:
    """Return the direction of *q_diff* (float64 [V]) under a *head* that is trained: u in float32, with its gradient.

    Raises:
        ModelNotUsable, ValueError: as `direction_of`.
    """
    if head.softcap is not None:
        return direction_of(head, q_diff)  # the logits are computed from the head at every call
    q = _fitting(q_diff, head).float()
    pieces = zip(torch.split(q, _ROWS_PER_CHUNK), torch.split(head.weight, _ROWS_PER_CHUNK), strict=True)
    u = torch.stack([part @ weight.float() for part, weight in pieces]).sum(0)
    offset = 0.0 if head.bias is None else head.scale * (q @ head.bias.float())
    return Direction(u, head.scale, offset)


def check_fit(q_diff: NDArray[np.float64], head: Head) -> None:
    """Check that *q_diff* (float64 [V]) has an entry a row of *head* and sums to 0.

    Raises:
        ModelNotUsable: V is not the head's size.
        ValueError: *q_diff* is not float64 or does not sum to 0.
    """
    _fitting(q_diff, head)


def _fitting(q_diff: NDArray[np.float64], head: Head) -> Tensor:
    """Return *q_diff*, which must have an entry a row of the head, on the head's device: float64 [V]."""
    if len(q_diff) != len(head.weight):
        raise ModelNotUsable(f"Q_diff was counted over {len(q_diff)} tokens, the model's head has {len(head.weight)}")
    return torch.from_numpy(checked(q_diff)).to(head.weight.device)


def distribution_reward(mean_hidden: Tensor, direction: Direction) -> Tensor:
    """M5 from the mean hidden states [.., D] over the positions that predict a response: R_d [..].

    float32; float64 where the mean is given as such.

    Raises:
        ValueError: the head is soft-capped, so that R_d is no function of the mean; use `response_rewards`.
    """
    if not direction.is_linear:
        raise ValueError("R_d under a soft-capped head is no function of the mean hidden state: use response_rewards")
    exact = mean_hidden if mean_hidden.dtype == torch.float64 else mean_hidden.float()
    return direction.scale * (exact @ direction.u.to(exact.dtype)) + direction.offset


def response_rewards(hidden: Tensor, sequence: Tensor, sequences: int, direction: Direction) -> Tensor:
    """M5 from the hidden states [P, D] at the positions that predict response tokens: R_d [S], float32.

    *sequence* [P] int64 says which response (0..S-1) each position belongs to. Gradients flow to *hidden*.
    """
    if direction.is_linear:
        return distribution_reward(mean_by_sequence(hidden, sequence, sequences), direction)
    return mean_by_sequence(_capped_rewards(hidden, direction), sequence, sequences)


def reward_from_logits(logits: Tensor, q_diff: NDArray[np.float64]) -> Tensor:
    """M4-M5 the long way: *logits* [T, V] of one response, at the positions that predict its tokens, to R_d (scalar).

    Soft-max and sums are in float64: the reference that every shortcut is tested against.
    """
    mean_logp = torch.log_softmax(logits.double(), dim=-1).mean(dim=0)
    return torch.from_numpy(checked(q_diff)).to(logits.device) @ mean_logp


def head_of(model: nn.Module) -> Head:
    """Return *model*'s head, read from modules and config, then checked against the model's own logits.

    Raises:
        ModelNotUsable: it has no linear head, the head carries an adapter, its logits are not what is known, or a later
            token changes those before it.
    """
    causal = causal_model(model)
    module = causal.get_output_embeddings()
    if module is None or not isinstance(getattr(module, "weight", None), Tensor):
        raise head_refusal("no linear language-model head")
    if hasattr(module, "base_layer") or hasattr(module, "modules_to_save"):
        raise head_refusal("an adapter on its head", "leave the head out of the LoRA target modules")
    if not module.weight.is_floating_point():
        raise head_refusal("a quantised head")
    config = causal.config.get_text_config()
    settings = head_settings({name: getattr(config, name, None) for name in FIELDS}, config.model_type)
    head = Head(module.weight, getattr(module, "bias", None), settings.scale, settings.softcap)
    _check_against_logits(model, head)
    return head


@torch.no_grad()
def _check_against_logits(model: nn.Module, head: Head) -> None:
    """Run the model on a few tokens and compare its logits with those of *head* on its backbone, up to rounding."""
    was_training = model.training
    model.eval()
    ids = torch.linspace(0, head.weight.shape[0] - 1, 8, device=head.weight.device).long().unsqueeze(0)
    other = ids.clone()
    other[0, -1] = ids[0, 1]
    try:
        theirs, with_other_end = (model(input_ids=each, use_cache=False).logits[0].float() for each in (ids, other))
        hidden = getattr(decoder(model)(input_ids=ids, use_cache=False), "last_hidden_state", None)
    finally:
        model.train(was_training)
    tolerance = 1e-4 if head.weight.dtype == torch.float32 else 2e-2
    if not _are_close(with_other_end[:-1], theirs[:-1], tolerance):
        raise _not_causal()
    if hidden is None or hidden.shape[-1] != head.weight.shape[1]:
        raise head_refusal("a backbone whose output is not what its head reads")
    if not _are_close(head.logits(hidden[0]), theirs, tolerance):
        raise head_refusal("logits that are not W h (+ b), scaled or soft-capped as known")


def _are_close(found: Tensor, expected: Tensor, tolerance: float) -> bool:
    return found.shape == expected.shape and float((found - expected).norm()) <= tolerance * float(expected.norm())


def _not_causal() -> ModelNotUsable:
    found, expected = "positions that see later tokens", "a causal model: a position sees itself and earlier ones only"
    fix = "use a causal model, or the setting that makes this one causal (is_decoder in its config.json)"
    finding = Finding("not_causal", found, expected, fix)
    return ModelNotUsable(f"the model has {found}; expected {expected}; {fix}", findings=[finding])


def _capped_rewards(hidden: Tensor, direction: Direction) -> Tensor:
    """sum_v Q_diff[v] * softcap(logit[v]) for each position of *hidden* [P, D]: [P] float32, in chunks."""
    assert direction.capped is not None and direction.q_diff is not None  # noqa: S101 -- is_linear was asked
    parts = []
    for piece in torch.split(hidden, _POSITIONS_PER_CHUNK):
        parts.append(direction.capped.logits(piece) @ direction.q_diff)
    return torch.cat(parts)
