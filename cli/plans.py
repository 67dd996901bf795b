"""A plan as text: what a job would come to. It knows only the plan's JSON."""

import textwrap
from collections.abc import Mapping
from typing import Any

from cli.output import duration_text, print_facts, print_table

Json = Mapping[str, Any]

LINE_WIDTH = 110
GIB = 2**30
REMEDIES = {"half_precision": "bf16", "half_precision_nf4": "bf16 and nf4"}
"""By the names of a plan, where the setting's value says more."""


def print_plan(plan: Json) -> None:
    """Print rows, work, memory, time, wait and remarks."""
    print_facts(_facts(plan))
    if plan["work"]:
        print()
        print_table(("work", "rows", "steps", "tokens", "FLOPs"), [_work(work) for work in plan["work"]])
    if plan["memory"]:
        print("\nmemory on a GPU (calculated; a card counts with 92 % of its size)")
        cards = [f"{card['card_gib']} GB" for card in plan["memory"][0]["cards"]]
        print_table(("operation", "peak", "per 1k tokens", *cards), [_memory(each) for each in plan["memory"]])
    if plan["speed"]:
        print("\ntime, one job after the other")
        print_table(("device", "FLOP/s", "basis", "total"), [_speed(each) for each in plan["speed"]])
    for remark in plan["remarks"]:
        print(textwrap.fill(f"- {remark['message']}", LINE_WIDTH, subsequent_indent="  "))


def _facts(plan: Json) -> list[tuple[str, Any]]:
    model, data, lengths = plan["model"] or {}, plan["data"], plan["lengths"] or {}
    parameters, trainable = model.get("parameters"), model.get("trainable_parameters")
    seen = plan["detectable"]
    return [
        ("kind", plan["kind"]),
        ("spec hash", plan["spec_hash"]),
        ("model", f"{model['name']}, {parameters:,} parameters ({model['basis']})" if parameters else None),
        ("trained", f"{trainable:,} parameters of the adapter" if trainable else None),
        ("rows scored", data["rows_scored"]),
        ("rows kept", f"{data['rows_kept']} ({data['keep_reason']})" if data["rows_kept"] is not None else None),
        ("rows trained", data["rows_trained"]),
        ("held out", _held_out(data)),
        ("arms", ", ".join(plan["arms"]) or None),
        ("lengths", _lengths(lengths) if lengths else None),
        ("can be seen", f"differences above {seen['difference']:.3f} in preference accuracy" if seen else None),
        ("queue", _queue(plan["queue"])),
    ]


def _held_out(data: Json) -> str | None:
    if data["rows_held_out"] is None:
        return None
    return f"{data['rows_held_out']} pairs of {data['prompts_held_out']} prompts, {data['prompts_answered']} answered"


def _lengths(lengths: Json) -> str:
    counted = f"mean of {lengths['rows_sampled']} rows" if lengths["rows_sampled"] else "assumed: the caps"
    longest = lengths["longest_row_tokens"]
    means = f"prompt {lengths['prompt_tokens']:.0f}, response {lengths['response_tokens']:.0f} tokens"
    return f"{means} ({counted}); longest example {longest}"


def _queue(queue: Json) -> str:
    seconds = queue["wait_seconds"]
    wait = "time not known" if seconds is None else f"about {duration_text(seconds)}"
    return f"{queue['jobs_running']} running, {queue['jobs_queued_before']} queued before it: {wait}"


def _work(work: Json) -> tuple[str, str, str, str, str]:
    tokens = work["forward_tokens"] + work["trained_tokens"] + work["generated_tokens"]
    counts = ("" if value is None else f"{value:,}" for value in (work["rows"], work["steps"]))
    rows, steps = counts
    return (work["name"], rows, steps, f"{tokens:,}" if tokens else "", f"{work['flops']:.2g}" if tokens else "")


def _memory(memory: Json) -> tuple[str, ...]:
    per_thousand = f"{1024 * memory['bytes_per_token'] / GIB:.2f} GiB"
    cells = (_card(card) for card in memory["cards"])
    return (memory["operation"], f"{memory['peak_bytes'] / GIB:.1f} GiB", per_thousand, *cells)


def _card(card: Json) -> str:
    if card["fits"]:
        return "fits"
    if card["remedy"] == "smaller_micro_batch":
        return f"micro-batch {card['largest_pass_examples']}"
    if card["remedy"] is None:
        return "no"
    return f"needs {REMEDIES.get(card['remedy'], card['remedy'])}"


def _speed(speed: Json) -> tuple[str, str, str, str]:
    flops = f"{speed['forward_flops_per_second']:.2g}"
    return (speed["device"], flops, speed["basis"], duration_text(speed["total_seconds"]))
