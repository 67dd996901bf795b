"""A tiny training for tests: a made-up dataset, its distribution, a tiny Llama; and children that are killed in it."""

import json
import os
import shutil
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from deft.reports import Silent

TOKENS = {"max_prompt_tokens": 48, "max_total_tokens": 96}


class Record(Silent):
    """Keeps what an operation tells."""

    def __init__(self) -> None:
        self.phases: list[str] = []
        self.steps: dict[int, dict[str, float]] = {}
        self.at_start: dict[str, float] = {}
        self.checkpoints: list[int] = []
        self.notes: list[str] = []

    def phase(self, name: str) -> None:
        self.phases.append(name)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        if step == 0:
            self.at_start = dict(values)
        else:
            self.steps[step] = dict(values)

    def checkpoint(self, step: int, folder: Path) -> None:
        assert (folder / "manifest.json").is_file()
        self.checkpoints.append(step)

    def note(self, message: str) -> None:
        self.notes.append(message)


def pair(number: int) -> dict[str, Any]:
    """A made-up row with two responses."""
    chosen, rejected = "good " * (1 + number % 4) + str(number), "bad " * (1 + number % 3) + "no"
    return {"prompt": f"question {number}?", "chosen": chosen, "rejected": rejected}


def ranked_list(number: int) -> dict[str, Any]:
    """A made-up row with two to four responses, best first, and their scores."""
    count = 2 + number % 3
    responses = ["good " * (1 + number % 4) + str(number), "fair enough", "bad " * (1 + number % 3), "no"]
    scores = [0.5 * (count - rank) for rank in range(count)]
    return {"prompt": f"question {number}?", "responses": responses[:count], "scores": scores}


def make_inputs(root: Path, *, rows: int = 13, row: Callable[[int], dict[str, Any]] = pair) -> dict[str, Path]:
    """Write a model, a dataset of *rows* times *row* and a scoring's distribution below *root*."""
    from deft import distribution as distributions
    from deft.data.datasets import import_files, read_examples
    from deft.specs import TokenOptions
    from deft.tokens import encode_examples, special_token_ids, tokenizer_hash
    from tests.models import byte_tokenizer, save_tiny_llama

    folders = {"model": root / "model", "data": root / "dataset", "scoring": root / "scoring"}
    for folder in folders.values():
        folder.mkdir(parents=True)
    save_tiny_llama(folders["model"])
    records = (row(number) for number in range(rows))
    (root / "pairs.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    import_files([root / "pairs.jsonl"], folders["data"])
    tokenizer = byte_tokenizer()
    examples = [example for _, example in read_examples(folders["data"])]
    tokenized = encode_examples(examples, tokenizer, TokenOptions(**TOKENS))
    counts = distributions.count(tokenized, 259, special_token_ids(tokenizer))
    facts = {"tokenizer_sha256": tokenizer_hash(tokenizer)}
    distribution = distributions.Distribution(counts, distributions.difference(counts), facts)
    distributions.save(folders["scoring"] / "distribution.safetensors", distribution)
    return folders


def with_other_settings(model: Path, folder: Path) -> Path:
    """Write the model folder *model* with the same weights and another epsilon of its norms to *folder*."""
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-2}), encoding="utf-8")
    return folder


def spec_of(**changes: Any) -> Any:
    """Return a small TrainSpec; *changes* are fields; `optimisation` and `lora`, unless null, are merged."""
    from deft.specs import TrainSpec

    optimisation = {"batch_size": 4, "epochs": 2, "learning_rate": 1e-2, "checkpoint_steps": 2}
    document = {
        "data": "ds_1",
        "scoring": "sc_1",
        "model": "tiny",
        "deft": {"omega": 0.5},
        "tokens": TOKENS,
        "drift": {"max_kl": None, "max_entropy_change": None, "max_length_change": None},  # of a random model
        **changes,
        "lora": None if changes.get("lora", {}) is None else {"r": 4, **changes.get("lora", {})},
        "optimisation": {**optimisation, **changes.get("optimisation", {})},
    }
    return TrainSpec.model_validate(document)


def train(
    spec: Any,
    inputs: Mapping[str, Path],
    out: Path,
    checkpoints: Path | None = None,
    report: Any = None,
    *,
    cache: Path | None = None,
    threads: int = 1,
) -> Any:
    """Run the operation on *threads*, without the check in a fresh process; return its summary."""
    import torch

    from deft.training import run as training

    torch.set_num_threads(threads)
    check = training.check_in_fresh_process
    training.check_in_fresh_process = lambda *_: 0.0  # it costs seconds; one test is about it
    try:
        out.mkdir(parents=True)
        return training.run_train(
            spec, inputs=inputs, out=out, checkpoints=checkpoints, cache=cache, report=report or Record()
        )
    finally:
        training.check_in_fresh_process = check
        torch.set_num_threads(1)


def killed_train(
    document: dict[str, Any],
    inputs: Mapping[str, Path],
    out: Path,
    checkpoints: Path,
    event: str,
    count: int,
    threads: int = 1,
) -> None:
    """Body of a child: train, and die by SIGKILL at the *count*-th *event* (never, if there are fewer)."""
    from deft.training import checkpoints as resume
    from deft.training.objective import Objective

    report = Record()
    seen = 0

    def watched(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen == count:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return call

    match event:
        case "step":
            report.metrics = watched(report.metrics)  # type: ignore[method-assign]
        case "forward":
            Objective.parts = watched(Objective.parts)  # type: ignore[method-assign]
        case "rename":
            resume.publish = watched(resume.publish)
    train(spec_of(**document), inputs, out, checkpoints, report, threads=threads)
