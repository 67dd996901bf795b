"""The results as one page, bench/results/README.md, written from the JSON files alone."""

import json
from pathlib import Path
from typing import Any

HEAD = """# Results of `make bench`

Written by `python -m bench`; the numbers are those of the JSON files beside this page, with every reading in them.
Ratios are medians of paired ratios within one run (lowest to highest in brackets), by wall clock. The machine is named
in each row; figures of different machines or commits are not compared. {gpu}
"""
NO_GPU = "No GPU has run this: `make bench-gpu` is the same code, tried on a CPU at a small scale only."


def write_summary(folder: Path) -> None:
    """Write README.md in *folder* from the results below it."""
    results = {
        device: [json.loads(path.read_text(encoding="utf-8")) for path in sorted((folder / device).glob("*.json"))]
        for device in ("cpu", "cuda")
        if (folder / device).is_dir()
    }
    parts = [HEAD.format(gpu="" if results.get("cuda") else NO_GPU)]
    for device, rows in results.items():
        by_name = {row["row"]: row for row in rows}
        parts.append(f"## {'CPU' if device == 'cpu' else 'GPU'}\n")
        parts += [WRITERS[name](by_name[name]) + _machine(by_name[name]) for name in WRITERS if name in by_name]
    (folder / "README.md").write_text("\n".join(parts), encoding="utf-8")


def _machine(row: dict[str, Any]) -> str:
    facts = row["machine"]
    settings = ", ".join(f"{name}={value}" for name, value in facts["settings"].items())
    return (
        f"\n{facts['measured_at']}, commit {facts['commit']}, {facts['processor']}, device {facts['device']}, "
        f"{facts['torch_threads']} threads, {facts['gflops_float32']:.0f} GFLOP/s in float32, load "
        f"{facts['load_average_at_start']} at the start{', ' + settings if settings else ''}; took "
        f"{row['took_seconds']:.0f} s.\n"
    )


def _with_spread(found: dict[str, Any]) -> str:
    return f"**{found['median']}x** ({found['low']} to {found['high']}, {found['rounds']} rounds)"


def _load(row: dict[str, Any]) -> str:
    mean = row["mean_tokens"]
    return (
        f"{row['model']}, {row['precision']}, {row['pairs']} pairs; lengths from {row['lengths_from']}: on average "
        f"{mean['prompt']} / {mean['chosen']} / {mean['rejected']} tokens of prompt / chosen / rejected."
    )


def _scoring(row: dict[str, Any]) -> str:
    lines = ["### Scoring", "", _load(row), "", "| way | tokens/s | ours is faster by |", "|---|---|---|"]
    for way, rate in row["tokens_per_second"].items():
        found = row["speedup"].get(way)
        lines.append(f"| {way} | {rate} | {_with_spread(found['wall']) if found else '-'} |")
    difference = row["largest_difference_by_spread"]
    return "\n".join(
        [*lines, "", f"Goal: {row['goal']}. Largest difference of R_d / its spread: {difference:.1e}.", ""]
    )


_TRAINING = {
    "first_epoch_against_trl": "first epoch, reference included, against TRL 1.16 at its fastest",
    "later_epoch_against_trl": "later epoch or arm (reference cached), against TRL with a precomputed reference",
    "later_epoch_against_trl_reference_each_step": "the same against TRL with its default, a reference each step",
    "all_in_against_our_plain_epoch": "score all + train on 5 %, against one plain epoch by our trainer",
    "all_in_against_trl_plain_epoch": "score all + train on 5 %, against one plain epoch by TRL at its fastest",
}


def _training(row: dict[str, Any]) -> str:
    lines = ["### Training and DEFT as a whole", "", _load(row), "", "| what | pairs/s |", "|---|---|"]
    lines += [f"| {name} | {rate} |" for name, rate in row["pairs_per_second"].items()]
    lines += ["", "| ratio | |", "|---|---|"]
    lines += [f"| {text} | {_with_spread(row[name]['wall'])} |" for name, text in _TRAINING.items()]
    random = row["all_in_against_random_of_the_same_size"]["wall"]
    return "\n".join(
        [
            *lines,
            "",
            f"Goal: {row['goal']}. TRL's fastest batch here: {row['trl']['chosen_batch']}. Largest difference of a "
            f"loss over the epoch: {row['largest_difference_of_a_loss']:.1e}. Training on as many random pairs costs "
            f"1/{random['median']} of DEFT ({random['low']} to {random['high']}).",
            "",
        ]
    )


def _memory(row: dict[str, Any]) -> str:
    found = row["megabytes_above_the_model"]
    sizes = list(found["deft"])
    lines = ["### Memory of scoring", "", "| V | " + " | ".join(sizes) + " |", "|---|" + "---|" * len(sizes)]
    lines += [f"| {way}, MB | " + " | ".join(str(by[v]) for v in sizes) + " |" for way, by in found.items()]
    return "\n".join([*lines, "", f"Goal: {row['goal']}. Width {row['width']}, {row['pairs']} pairs.", ""])


def _selection(row: dict[str, Any]) -> str:
    return (
        f"### Re-selection\n\n{row['pairs']} pairs: scoring again {row['score_again_seconds']} s, selecting again "
        f"{row['select_again_seconds']} s ({row['speedup']}x), each in a fresh process. Goal: {row['goal']}.\n"
    )


def _counting(row: dict[str, Any]) -> str:
    lines = [
        "### Counting and tokenising",
        "",
        "| step | s | processor s | MB added at the peak |",
        "|---|---|---|---|",
    ]
    for step in ("import", "count", "tokenise"):
        found = row[step]
        lines.append(
            f"| {step} | {found['seconds']} | {found['processor_seconds']} | {found['megabytes_added_at_the_peak']} |"
        )
    total = row["counting_and_tokenising_seconds"]
    return "\n".join([*lines, "", f"{row['pairs']:,} pairs ({row['texts']}): {total} s. Goal: {row['goal']}.", ""])


def _uploads(row: dict[str, Any]) -> str:
    lines = ["### Upload check", "", "| way | rows/s | times orjson |", "|---|---|---|"]
    for way, rate in row["rows_per_second"].items():
        found = row["times_orjson"].get(way)
        lines.append(f"| {way} | {rate:,} | {_with_spread(found['wall']) if found else '-'} |")
    return "\n".join(
        [*lines, "", f"{row['rows']:,} rows of {row['bytes_a_row']} bytes ({row['texts']}). Goal: {row['goal']}.", ""]
    )


def _split(row: dict[str, Any]) -> str:
    lines = ["### Time split", "", "| operation | seconds | of which |", "|---|---|---|"]
    for name, phases in row["phases"].items():
        parts = ", ".join(f"{phase} {seconds}" for phase, seconds in phases.items() if phase != "all")
        lines.append(f"| {name} | {phases['all']} | {parts} |")
    text = (
        f"{row['pairs']} pairs, {row['kept']} kept: DEFT {row['deft_seconds']} s, random {row['random_seconds']} s, "
        f"{row['deft_over_random']} times as much."
    )
    return "\n".join([*lines, "", text, ""])


WRITERS = {
    "scoring": _scoring,
    "training": _training,
    "selection": _selection,
    "memory": _memory,
    "counting": _counting,
    "uploads": _uploads,
    "split": _split,
}
