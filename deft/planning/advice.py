"""What a plan says of an operation that no card holds: which settings of the spec would make it fit. Knows specs."""

from collections.abc import Sequence

from deft.planning.cards import GIB
from deft.planning.documents import Card, Memory, Remark
from deft.specs import JobSpec, PipelineSpec


def memory_remarks(spec: JobSpec, needs: Sequence[Memory]) -> list[Remark]:
    """Return a remark for each of *needs* that the largest card does not hold, which points at what to change."""
    return [_remark(spec, need, need.cards[0]) for need in needs if not need.cards[0].fits]


def _remark(spec: JobSpec, need: Memory, card: Card) -> Remark:
    told, pointer = _without_remedy(need, card) if card.remedy is None else _with_remedy(spec, need, card)
    message = f"{need.operation} does not fit a card of {card.card_gib} GB as asked; {told}"
    return Remark(code="does_not_fit", message=message, pointer=pointer)


def _without_remedy(need: Memory, card: Card) -> tuple[str, str]:
    if card.largest_pass_tokens:
        return "a smaller model or shorter max_total_tokens would", "/tokens/max_total_tokens"
    held = need.weights_bytes + need.adapter_bytes + need.tuned_bytes + need.logits_bytes
    less = "LoRA adapters or a smaller model take less" if need.tuned_bytes else "a smaller model takes less"
    return f"before any pass it holds {held / GIB:.1f} GiB: {less}", "/lora" if need.tuned_bytes else "/model"


def _with_remedy(spec: JobSpec, need: Memory, card: Card) -> tuple[str, str | None]:
    settings = _settings(spec, need, card)
    changes = [f"{name.replace('/', '.')} {value}" for name, value in settings.items()]
    pointer = f"/{next(iter(settings))}" if settings else None
    if card.remedy == "sharding":
        processes = f"{_processes(need, card.card_gib)} processes, a card each (DEFT_TRAIN_PROCESSES)"
        changes, pointer = [processes, *changes], None
    words = " and ".join(part for part in (", ".join(changes[:-1]), changes[-1]) if part)
    return f"it would with {words}", pointer


def _settings(spec: JobSpec, need: Memory, card: Card) -> dict[str, str]:
    """Return the settings that the card's remedy changes, the remedy's own first."""
    optimisation, remedy = getattr(spec, "optimisation", None), card.remedy or ""
    above = "" if optimisation is None else "optimisation/"
    settings: dict[str, str] = {}
    if "half_precision" in remedy:
        settings[f"{above}precision"] = "bf16"
    if "nf4" in remedy:
        settings[f"{above}quantisation"] = "nf4"
        if getattr(spec, "merge", False):
            settings["merge"] = "false"
    is_off = getattr(optimisation, "gradient_checkpointing", "auto") == "off"
    if is_off and remedy != "smaller_micro_batch" and need.checkpointed_bytes_per_token is not None:
        settings["optimisation/gradient_checkpointing"] = "auto"
    if card.remedy_pass_examples is not None:
        settings["optimisation/micro_batch_size"] = str(card.remedy_pass_examples)
    if _has_own_stage(spec):
        own = {f"sft/{name}": value for name, value in settings.items() if name.startswith("optimisation/")}
        settings |= own
    return settings


def _has_own_stage(spec: JobSpec) -> bool:
    """Return whether *spec* has a stage of supervised fine-tuning with settings of its own, beside the arms'."""
    stage = spec.sft if isinstance(spec, PipelineSpec) else None
    return stage is not None and stage.optimisation is not None


def _processes(need: Memory, card_gib: int) -> int:
    """Return the smallest number of processes of which each fits a card, with the smallest passes the largest."""
    fitting = [each.processes for each in need.sharded if (each.smallest_card_gib or card_gib + 1) <= card_gib]
    return min(fitting, default=max(each.processes for each in need.sharded))
