"""Which cards hold what an operation needs, and what would make it fit those that do not. Knows bytes, no model."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from deft.planning.documents import Card, Memory, Operation, Remedy, Sharded

GIB = 2**30
CARDS_GIB = (80, 24, 16, 12)
USABLE_SHARE = 0.92
"""Assumed: of a card's memory, what the driver, the CUDA context and fragmentation leave."""

Precision = Literal["fp32", "bf16", "fp16"]
Checkpointing = Literal["auto", "on", "off"]


@dataclass(frozen=True, slots=True)
class Pass:
    """One forward pass: *tokens* with padding, in rows of at most *row_tokens*; *example_tokens* of its longest one."""

    tokens: int
    row_tokens: int
    example_tokens: int
    is_halved: bool = False
    """Whether the code halves such passes by itself until they fit."""


@dataclass(frozen=True, slots=True)
class Need:
    """What an operation takes: some of it in any case, *bytes_per_token* and the cache with the size of its passes."""

    operation: Operation
    precision: Precision
    weights_bytes: int
    adapter_bytes: int
    logits_bytes: int
    bytes_per_token: int
    cache_bytes: int = 0
    checkpointed: int | None = None
    checkpointing: Checkpointing = "off"
    tuned_bytes: int = 0
    sharded: Mapping[int, int] = field(default_factory=dict)
    """By number of processes: what each holds in any case in place of weights, gradients and states."""

    @property
    def fixed(self) -> int:
        """What it takes in any case."""
        return self.weights_bytes + self.adapter_bytes + self.tuned_bytes + self.logits_bytes

    def per_token(self, usable: int | None, example_tokens: int) -> int:
        """Return what a token keeps where *usable* bytes are there (None: as many as it takes)."""
        is_short = usable is not None and self.fixed + example_tokens * self.bytes_per_token > usable
        is_on = self.checkpointing == "on" or (self.checkpointing == "auto" and is_short)
        return self.checkpointed if is_on and self.checkpointed is not None else self.bytes_per_token

    def largest_pass(self, usable: int, planned: Pass) -> int:
        """Return the padded tokens of the largest pass that *usable* bytes hold, with its part of the cache."""
        per_token = self.per_token(usable, planned.example_tokens) + -(-self.cache_bytes // planned.tokens)
        return max(0, (usable - self.fixed) // per_token)

    def checkpointed_if_short(self) -> "Need":
        """Return the same with checkpointing where one example does not fit without it."""
        return replace(self, checkpointing="auto") if self.checkpointing == "off" else self

    def divided(self, processes: int) -> "Need":
        """Return what each of several *processes* takes."""
        return replace(self, weights_bytes=self.sharded[processes], adapter_bytes=0, tuned_bytes=0)


def memory_of(need: Need, planned: Pass, cheaper: Mapping[Remedy, Need]) -> Memory:
    """Return *need* with its *planned* pass, whether cards hold it, and which of the *cheaper* needs they would."""
    pass_bytes = planned.tokens * need.per_token(None, planned.example_tokens)
    return Memory(
        operation=need.operation,
        precision=need.precision,
        weights_bytes=need.weights_bytes,
        adapter_bytes=need.adapter_bytes,
        tuned_bytes=need.tuned_bytes,
        bytes_per_token=need.bytes_per_token,
        checkpointed_bytes_per_token=need.checkpointed,
        pass_tokens=planned.tokens,
        pass_bytes=pass_bytes,
        logits_bytes=need.logits_bytes,
        cache_bytes=need.cache_bytes,
        peak_bytes=need.fixed + need.cache_bytes + pass_bytes,
        cards=[_card(gib, need, planned, cheaper) for gib in CARDS_GIB],
        sharded=[_sharded(count, held + need.logits_bytes + pass_bytes) for count, held in need.sharded.items()],
    )


def _usable(gib: int) -> int:
    return int(USABLE_SHARE * gib * GIB)


def _sharded(processes: int, peak: int) -> Sharded:
    fitting = (gib for gib in reversed(CARDS_GIB) if peak <= _usable(gib))
    return Sharded(processes=processes, peak_bytes=peak, smallest_card_gib=next(fitting, None))


def _card(gib: int, need: Need, planned: Pass, cheaper: Mapping[Remedy, Need]) -> Card:
    usable, least = _usable(gib), planned.example_tokens
    largest = need.largest_pass(usable, planned)
    fits = (least if planned.is_halved else planned.tokens) <= largest
    remedies = () if fits else _remedies(usable, need, planned, cheaper)
    passes = ((name, cure.largest_pass(usable, planned)) for name, cure in remedies)
    remedy, cured = next(((name, tokens) for name, tokens in passes if least <= tokens), (None, 0))
    is_smaller = remedy is not None and not planned.is_halved and cured < planned.tokens
    return Card(
        card_gib=gib,
        usable_bytes=usable,
        fits=fits,
        has_checkpointing=need.per_token(usable, least) == need.checkpointed,
        largest_pass_tokens=largest,
        largest_pass_examples=largest // least,
        remedy=remedy,
        remedy_pass_examples=cured // least if is_smaller else None,
    )


def _remedies(usable: int, need: Need, planned: Pass, cheaper: Mapping[Remedy, Need]) -> Iterator[tuple[Remedy, Need]]:
    """Yield what may be changed, the least first, with the need after it; all but the first may checkpoint."""
    yield "smaller_micro_batch", need
    if need.checkpointed is not None:
        yield "checkpointing", need.checkpointed_if_short()
    for name, other in cheaper.items():
        yield name, other.checkpointed_if_short()
    if need.sharded:
        pass_bytes = planned.tokens * need.per_token(None, planned.example_tokens)
        peaks = {count: held + need.logits_bytes + pass_bytes for count, held in need.sharded.items()}
        count = min((each for each, peak in peaks.items() if peak <= usable), default=max(peaks))
        yield "sharding", need.divided(count).checkpointed_if_short()
