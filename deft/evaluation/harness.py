"""lm-evaluation-harness as a subprocess: the operator's own `lm-eval` measures every system; its JSON is kept whole.

It is no dependency of ours: what is looked for is the program. One that fails leaves the rest of the evaluation alone.
Knows folders, a program and what it writes; no model in memory.
"""

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from deft.endpoints import KEY, URL
from deft.errors import Finding, InvalidInput, shown
from deft.evaluation.metrics import Who
from deft.evaluation.state import Run, common_settings, hash_of, who_is
from deft.evaluation.systems import Adapter
from deft.reports import Report, stop_if_asked
from deft.specs import EvaluateSpec, LmEval

PROGRAMS = ("lm-eval", "lm_eval")
LOOK_SECONDS = 0.5
HEARD_SECONDS = 60.0
"""Between two signs of life while the program runs: a process that says nothing for long is ended."""

GRACE_SECONDS = 10.0
NORMAL_95 = 1.959964
"""Standard errors on either side of a 95 % interval."""

Json = dict[str, Any]


class HarnessFailed(Exception):
    """The program did not measure a system; its text says why."""


def program_of(spec: EvaluateSpec) -> str | None:
    """Return the program that is to measure; None: the spec asks for none.

    Raises:
        InvalidInput: it is not installed.
    """
    if spec.lm_eval is None:
        return None
    folders = os.pathsep.join([os.environ.get("PATH", ""), str(Path(sys.executable).parent)])
    found = next((path for name in PROGRAMS if (path := shutil.which(name, path=folders))), None)
    if found is None:
        finding = Finding(
            code="no_lm_eval",
            pointer="/lm_eval",
            found="no program lm-eval on this worker",
            expected="lm-evaluation-harness 0.4.13 or later, in PATH or beside this Python",
            fix="have the operator install it (pip install 'lm-eval[hf]'), or leave lm_eval out",
        )
        raise InvalidInput("lm-evaluation-harness is not installed", code="no_lm_eval", findings=[finding])
    return found


def measure_systems(run: Run, program: str, asked: LmEval, base: Path, known: Mapping[str, str]) -> Iterator[Json]:
    """Yield of each system, the base first, `{system, text}`: its results as the program wrote them, or `failure`.

    Systems that are *known* are not measured again.

    Raises:
        Interrupted: the report asks to stop; the program is ended.
    """
    run.report.phase("lm_eval")
    for done, adapter in enumerate(run.systems):
        tell = partial(run.report.progress, done, len(run.systems), "systems")
        tell()
        system = who_is(adapter).system
        if system in known:
            yield {"system": system, "text": known[system]}
            continue
        try:
            yield {"system": system, "text": _measured(run, program, asked, base, adapter, tell)}
        except HarnessFailed as error:
            run.report.note(f"lm-evaluation-harness did not measure {system}: {error}")
            yield {"system": system, "failure": str(error)}


def _measured(
    run: Run, program: str, asked: LmEval, base: Path, adapter: Adapter | None, tell: Callable[[], None]
) -> str:
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        named = {"pretrained": base if adapter is None or not adapter.is_whole else adapter.folder}
        if adapter is not None and not adapter.is_whole:
            named["peft"] = adapter.folder
        for link, folder in named.items():
            (work / link).symlink_to(folder.resolve())  # a comma in a path would end it in --model_args
        arguments = ",".join(f"{link}={work / link}" for link in named)
        _call([program, *_arguments(asked, arguments, work / "out", run.spec.options.seed)], work, run.report, tell)
        written = sorted((work / "out").rglob("results*.json"))
        if not written:
            raise HarnessFailed("it ended without a file of results")
        text = written[-1].read_text(encoding="utf-8")
    if _parsed(text) is None:
        raise HarnessFailed("its file of results is not understood")
    return text


def _arguments(asked: LmEval, model: str, out: Path, seed: int) -> list[str]:
    found = ["run", "--model", "hf", "--model_args", model, "--tasks", ",".join(asked.tasks), "--output_path", str(out)]
    found += ["--batch_size", str(asked.batch_size), "--seed", str(seed)]
    for name in ("limit", "num_fewshot"):
        value = getattr(asked, name)
        found += [] if value is None else [f"--{name}", str(value)]
    return found


def _call(command: Sequence[str], work: Path, report: Report, tell: Callable[[], None]) -> None:
    """Run *command* to its end; what it prints is kept in *work* alone, and no key of ours is in its environment."""
    environment = {name: value for name, value in os.environ.items() if name not in (URL, KEY)}
    log = work / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(  # noqa: S603 -- the operator's own program, arguments checked by the spec
            command, cwd=work, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
        )
        try:
            _wait(process, report, tell)
        finally:
            _end(process)
    if process.returncode:
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "nothing")
        raise HarnessFailed(f"it ended with status {process.returncode} and said last: {shown(last)}")


def _wait(process: "subprocess.Popen[bytes]", report: Report, tell: Callable[[], None]) -> None:
    heard = time.monotonic()
    while process.poll() is None:
        stop_if_asked(report)
        if time.monotonic() - heard >= HEARD_SECONDS:
            tell()
            heard = time.monotonic()
        try:
            process.wait(LOOK_SECONDS)
        except subprocess.TimeoutExpired:
            continue


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _parsed(text: str) -> Json | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    results = found.get("results") if isinstance(found, dict) else None
    is_understood = isinstance(results, dict) and all(isinstance(own, dict) for own in results.values())
    return found if is_understood else None


def write_results(run: Run, measured: Sequence[Json], base_hash: str, out: Path) -> tuple[Json, Json]:
    """Write the JSON of every system, add its numbers to metrics.json; return the summary's part and the settings."""
    folder, rows, settings, told = out / "lm_eval", [], {}, []
    folder.mkdir()
    common, who = common_settings(run, base_hash), {who_is(a).system: who_is(a) for a in run.systems}
    for own in measured:
        if "text" in own:
            (folder / f"{own['system']}.json").write_text(own["text"], encoding="utf-8")
            found = list(_rows(_parsed(own["text"]) or {}, who[own["system"]], run.spec.lm_eval, common))
            settings.update({row["metric"]: own_settings for row, own_settings in found})
            rows += [row for row, _ in found]
            told.append({"system": own["system"], "metrics": len(found)})
        else:
            told.append({"system": own["system"], "failure": own["failure"]})
    path = out / "metrics.json"
    path.write_text(json.dumps([*json.loads(path.read_text(encoding="utf-8")), *rows], indent=1), encoding="utf-8")
    return {"lm_eval": told}, settings


def _rows(found: Json, who: Who, asked: LmEval | None, common: Json) -> Iterator[tuple[Json, Json]]:
    """Yield a row of metrics.json and its settings for every number that is better the higher it is.

    The interval is made of the harness's own standard error, where it has one.
    """
    for task, numbers in found["results"].items():
        higher = _of(found, "higher_is_better", task) or {}
        settings = {
            "metric": "lm_eval",
            "program": found.get("lm_eval_version"),
            "task": [task, _of(found, "versions", task), _of(found, "n-shot", task)],
            "asked": None if asked is None else asked.model_dump(mode="json", exclude={"tasks"}),
            **common,
        }
        for key, value in numbers.items():
            name, _, kept_by = key.partition(",")
            if _is_number(value) and not name.endswith("_stderr") and higher.get(name) is True:
                error = numbers.get(f"{name}_stderr,{kept_by}")
                half = NORMAL_95 * error if _is_number(error) else None
                samples = _of(found, "n-samples", task) or {}
                row = {
                    "system": who.system,
                    "arm": who.arm,
                    "slice": "all",
                    "metric": f"lm_eval:{task}/{name}" + ("" if kept_by in ("", "none") else f",{kept_by}"),
                    "value": value,
                    "low": None if half is None else value - half,
                    "high": None if half is None else value + half,
                    "n": samples.get("effective"),
                    "is_trained_on": False,
                    "settings_hash": hash_of(settings),
                }
                yield row, settings


def _of(found: Json, field: str, task: str) -> Any:  # noqa: ANN401 -- JSON
    own = found.get(field)
    return own.get(task) if isinstance(own, dict) else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
