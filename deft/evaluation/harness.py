"""lm-evaluation-harness as a subprocess: the operator's own `lm-eval` measures every system; its JSON is kept whole.

It is no dependency of ours: what is looked for is the program. One that fails leaves the rest of the evaluation alone.
Knows folders, a program and what it writes; no model in memory.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from deft.endpoints import KEY, URL
from deft.errors import Finding, InvalidInput, shown
from deft.evaluation.harness_results import MOST_BYTES, Json, parsed, rows_of
from deft.evaluation.settings import common_settings
from deft.evaluation.state import Run, who_is
from deft.evaluation.systems import Adapter
from deft.reports import Report, stop_if_asked
from deft.specs import EvaluateSpec, LmEval

PROGRAMS = ("lm-eval", "lm_eval")
LOOK_SECONDS = 0.5
HEARD_SECONDS = 60.0
"""Between two signs of life while the program runs: a process that says nothing for long is ended."""

GRACE_SECONDS = 10.0
LOG_BYTES = 65_536
"""The end of what it printed that its last line is looked for in."""


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
        if system in known and parsed(known[system]) is not None:
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
        _call(
            [program, *_arguments(asked, arguments, work / "out", run.spec.options.seed)],
            work,
            partial(_wait, report=run.report, tell=tell, most_seconds=asked.timeout_seconds),
        )
        return _written(work / "out")


def _written(out: Path) -> str:
    """Return the text of the newest file of results below *out*, which is understood."""
    written = sorted(path for path in out.rglob("results*.json") if path.is_file())
    if not written:
        raise HarnessFailed("it ended without a file of results")
    if (size := written[-1].stat().st_size) > MOST_BYTES:
        raise HarnessFailed(f"its file of results has {size:,} bytes, more than {MOST_BYTES:,}")
    try:
        text = written[-1].read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise HarnessFailed(f"its file of results cannot be read ({type(error).__name__})") from None
    if parsed(text) is None:
        raise HarnessFailed("its file of results is not understood")
    return text


def _arguments(asked: LmEval, model: str, out: Path, seed: int) -> list[str]:
    found = ["run", "--model", "hf", "--model_args", model, "--tasks", ",".join(asked.tasks), "--output_path", str(out)]
    found += ["--batch_size", str(asked.batch_size), "--seed", str(seed)]
    for name in ("limit", "num_fewshot"):
        value = getattr(asked, name)
        found += [] if value is None else [f"--{name}", str(value)]
    return found


def _call(command: Sequence[str], work: Path, wait: Callable[["subprocess.Popen[bytes]"], None]) -> None:
    """Run *command* to its end; what it prints is kept in *work* alone, and no key of ours is in its environment."""
    environment = {name: value for name, value in os.environ.items() if name not in (URL, KEY)}
    log = work / "log"
    with log.open("wb") as file:
        try:
            process = subprocess.Popen(  # noqa: S603 -- the operator's own program, arguments checked by the spec
                command, cwd=work, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
            )
        except OSError as error:
            raise HarnessFailed(f"it does not start ({type(error).__name__})") from None
        try:
            wait(process)
        finally:
            _end(process)
    if process.returncode:
        raise HarnessFailed(f"it ended with status {process.returncode} and said last: {shown(_last_line(log))}")


def _last_line(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LOG_BYTES))
        lines = file.read().decode("utf-8", errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "nothing")


def _wait(process: "subprocess.Popen[bytes]", report: Report, tell: Callable[[], None], most_seconds: float) -> None:
    """Return when *process* has ended; *tell* is called now and then until it has.

    Raises:
        HarnessFailed: it takes longer than *most_seconds*.
        Interrupted: the report asks to stop.
    """
    started = heard = time.monotonic()
    while process.poll() is None:
        stop_if_asked(report)
        if time.monotonic() - started >= most_seconds:
            raise HarnessFailed(f"it had not ended after {most_seconds:g} s (lm_eval.timeout_seconds)")
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


def write_results(run: Run, measured: Sequence[Json], base_hash: str, out: Path) -> tuple[Json, Json]:
    """Write the JSON of every system, add its numbers to metrics.json; return the summary's part and the settings."""
    folder, rows, settings, told = out / "lm_eval", [], {}, []
    folder.mkdir()
    common, who = common_settings(run, base_hash), {who_is(a).system: who_is(a) for a in run.systems}
    for own in measured:
        if "text" in own:
            (folder / f"{own['system']}.json").write_text(own["text"], encoding="utf-8")
            found = list(rows_of(parsed(own["text"]) or {}, who[own["system"]], run.spec.lm_eval, common))
            settings.update({row["metric"]: own_settings for row, own_settings in found})
            rows += [row for row, _ in found]
            told.append({"system": own["system"], "metrics": len(found)})
        else:
            told.append({"system": own["system"], "failure": own["failure"]})
    path = out / "metrics.json"
    path.write_text(json.dumps([*json.loads(path.read_text(encoding="utf-8")), *rows], indent=1), encoding="utf-8")
    return {"lm_eval": told}, settings
