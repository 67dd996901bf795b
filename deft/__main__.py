"""`python -m deft SPEC.json --input NAME=FOLDER ... --out FOLDER`: one operation, without a service.

For a person it prints plain lines and seals the output; for a worker (`--events`) it writes JSON lines on standard
output and leaves sealing to the worker. It knows no database and no queue, and imports nothing that starts threads
before the guard has forked. Exit: 0 done, 1 failed and reported, 2 wrong usage, 3 paused because a person should look
(`--accept CODE` goes on), 75 stopped at a safe point because SIGTERM asked for it, 128 + n when one of several
processes was killed by signal n.
"""

import argparse
import json
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from pydantic import ValidationError

from deft import operations
from deft.endpoints import endpoint_in
from deft.errors import Interrupted, InvalidInput, ProcessLost, ReviewNeeded
from deft.failures import failure_of, invalid_spec, known_error
from deft.folders import seal
from deft.guard import ask_for_death_signal, die_with_parent, dismiss
from deft.listeners import EventLines, PlainLines, StopRequest
from deft.reports import Report, Silent
from deft.scoring.shards import AnyOperation, stored_spec
from deft.specs import PipelineSpec
from deft.training import launch

DONE, FAILED, PAUSED, STOPPED = 0, 1, 3, 75  # 75 is EX_TEMPFAIL: try again


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the parsed command line; usage errors end the process with 2."""
    parser = argparse.ArgumentParser(prog="python -m deft", description="Run one DEFT operation on local folders.")
    parser.add_argument("spec", type=Path, metavar="SPEC", help="file with the job's spec, the body of POST /v1/jobs")
    parser.add_argument(
        "--input", action="append", default=[], metavar="NAME=FOLDER", help="an input: dataset, model, ..."
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="new or empty folder for the output")
    parser.add_argument("--checkpoints", type=Path, metavar="FOLDER", help="where jobs resume from and write to")
    parser.add_argument("--cache", type=Path, metavar="FOLDER", help="what jobs keep for each other")
    parser.add_argument(
        "--accept", action="append", default=[], metavar="CODE", help="do not pause for this again: somebody has looked"
    )
    parser.add_argument(
        "--processes", type=int, default=1, metavar="N", help="train in N processes of this machine, a GPU each"
    )
    parser.add_argument("--events", action="store_true", help="JSON lines on standard output, for a worker")
    parser.add_argument("--meeting", help=argparse.SUPPRESS)
    parser.add_argument("--guard-fd", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--parent-pid", type=int, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    if options.guard_fd is None:
        return start_all(options)
    guard = die_with_parent(options.guard_fd, options.parent_pid)
    try:
        return start_all(options)
    finally:
        dismiss(guard)


def start_all(options: argparse.Namespace) -> int:
    """Run in this process, or as several of it; return the exit status."""
    if options.processes > 1:
        return lead(options)
    if options.meeting is not None:
        ask_for_death_signal()
    place = launch.place_of(os.environ)
    return start(options, place) if place is None or place.rank == 0 else follow(options, place)


def own_arguments(options: argparse.Namespace) -> list[str]:
    """Return the command line of one of several processes."""
    given = {"--input": options.input, "--accept": options.accept, "--out": [options.out]}
    given["--checkpoints"] = [] if options.checkpoints is None else [options.checkpoints]
    given["--cache"] = [] if options.cache is None else [options.cache]
    pairs = [part for name, values in given.items() for value in values for part in (name, str(value))]
    return [str(options.spec), *pairs, *(["--events"] if options.events else [])]


def lead(options: argparse.Namespace) -> int:
    """Run as several processes; tell the failure of one that the first of them could not tell. Return the status."""
    end = launch.run_all(own_arguments(options), options.processes)
    if end.failure is not None and options.events:
        EventLines(sys.stdout, StopRequest()).send("failed", failure=end.failure)
    elif end.failure is not None:
        print(readable(end.failure), file=sys.stderr)
    if end.death is not None:
        print(f"{end.death}; {how_it_goes_on(options)}", file=sys.stderr)
    return end.status


def how_it_goes_on(options: argparse.Namespace, more: str = "") -> str:
    """Return what the same command does next: it continues where there is a checkpoint, else it starts over.

    *more* options that it takes are named; another output folder where something lies in this one. With a cache, what
    is in it is not computed again.
    """
    out, kept = options.out, options.checkpoints
    new = "a new --out folder" if out.is_dir() and any(out.iterdir()) else ""
    with_these = " and ".join(part for part in (more, new) if part)
    command = f"the same command with {with_these}" if with_these else "the same command"
    but = "" if options.cache is None else ", but for what --cache keeps"
    if kept is None:
        return f"{command} starts over{but}: no --checkpoints FOLDER was given"
    if not kept.is_dir() or all(entry.name.startswith(".") for entry in kept.iterdir()):
        return f"{command} starts over{but}: there is no checkpoint yet"
    return f"{command} continues from its last checkpoint"


def follow(options: argparse.Namespace, place: launch.Place) -> int:
    """Be one of several processes, not the first: say nothing, and stop when the first one says so."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _claim_standard_output().close()
    report = Silent(options.accept)
    try:
        run(options, report, place)
    except Interrupted:
        return STOPPED
    except ReviewNeeded:
        return PAUSED
    except Exception as error:  # noqa: BLE001 - the boundary: the first process tells it, or the launcher does
        traceback.print_exc()
        launch.leave_failure(options.meeting, place.rank, failure_of(error))
        return FAILED
    return DONE


def start(options: argparse.Namespace, place: launch.Place | None = None) -> int:
    """Listen for SIGTERM, choose the listener and run; return the exit status."""
    stop = StopRequest()
    signal.signal(signal.SIGTERM, lambda _number, _frame: stop.ask())
    if options.events:
        return run_for_worker(options, EventLines(_claim_standard_output(), stop, options.accept), place)
    signal.signal(signal.SIGINT, lambda _number, _frame: stop.ask())
    return run_for_person(options, PlainLines(sys.stdout, stop, options.accept), place)


def run_for_worker(options: argparse.Namespace, report: EventLines, place: launch.Place | None = None) -> int:
    """Run and send `done`, `failed` or `review` as the last event; tracebacks go to standard error."""
    try:
        summary = run(options, report, place)
    except Interrupted:
        return STOPPED
    except ReviewNeeded as error:
        report.send("review", failure=failure_of(error))
        return PAUSED
    except Exception as error:  # noqa: BLE001 - the boundary: whatever it is becomes the job's failure
        traceback.print_exc()
        report.send("failed", failure=failure_of(error))
        return FAILED
    report.send("done", summary=summary)
    return DONE


def run_for_person(options: argparse.Namespace, report: PlainLines, place: launch.Place | None = None) -> int:
    """Run, seal the output and print its summary; our errors are text, a stranger's is a traceback as well."""
    try:
        summary = run(options, report, place)
    except ProcessLost:
        return STOPPED  # the launcher says which, and how
    except Interrupted:
        report.line(f"stopped at a safe point; {how_it_goes_on(options)}")
        return STOPPED
    except ReviewNeeded as error:
        print(readable(failure_of(error), "paused"), file=sys.stderr)
        report.line(how_it_goes_on(options, f"--accept {error.error_code}"))
        return PAUSED
    except Exception as error:  # noqa: BLE001 - the boundary: a person reads text, not a Python stack
        if known_error(error) is None:
            traceback.print_exc()
        print(readable(failure_of(error)), file=sys.stderr)
        return FAILED
    seal(options.out, {"summary": summary})
    print(json.dumps(summary, indent=1, default=str))
    report.line(f"done: {options.out}")
    return DONE


def run(options: argparse.Namespace, report: Report, place: launch.Place | None = None) -> dict[str, Any]:
    """Read the spec, check the folders and run the operation; return its summary.

    Raises:
        InvalidInput: the spec, its inputs or folders are not usable; or only one process can run this kind.
    """
    spec = read_spec(options.spec)
    inputs = read_inputs(options.input)
    if not options.events:
        operations.require_inputs(spec, inputs)
        operations.require_kinds(spec, inputs)
    if place is not None and spec.kind != "train":
        raise InvalidInput(f"a {spec.kind} job runs in one process; only train runs in several")
    if place is None or place.rank == 0:
        prepare_out(options.out)
    if options.checkpoints is not None:
        options.checkpoints.mkdir(parents=True, exist_ok=True)
    with launch.membership(place, options.meeting or "env://"):
        return operations.run(
            spec,
            inputs=inputs,
            out=options.out,
            checkpoints=options.checkpoints,
            cache=options.cache,
            report=report,
            endpoint=endpoint_in(os.environ),
        )


def read_spec(path: Path) -> AnyOperation:
    """Return the operation's spec in the file at *path*.

    Raises:
        InvalidInput: it cannot be read, is not valid, or is a pipeline, which only the service runs.
    """
    from deft.data.row_checks import BadRow  # numpy, once the guard has forked
    from deft.strict_json import parse as parse_json

    try:
        text = path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"the spec {path} cannot be read: {error.strerror}") from error
    try:
        parse_json(text)
    except BadRow as bad:
        if bad.code == "number_range":
            _validated(text)  # says which field it is
        raise InvalidInput(
            f"the spec {path} is not usable: found {bad.found}, expected {bad.expected}", code=bad.code
        ) from bad
    spec = _validated(text)
    if isinstance(spec, PipelineSpec):
        raise InvalidInput("a pipeline is several jobs: post it to the service, or run its steps one by one")
    return spec


def _validated(text: bytes) -> AnyOperation | PipelineSpec:
    try:
        return stored_spec.validate_json(text)
    except ValidationError as error:
        raise invalid_spec(error, json.loads(text), stored_spec.json_schema()) from error


def read_inputs(pairs: Sequence[str]) -> dict[str, Path]:
    """Return `NAME=FOLDER` arguments as a mapping of existing folders.

    Raises:
        InvalidInput: one has another form, is given twice, or names no folder.
    """
    inputs: dict[str, Path] = {}
    for pair in pairs:
        name, separator, folder = pair.partition("=")
        if not separator or not name or name in inputs:
            raise InvalidInput(f"--input {pair}: expected NAME=FOLDER, each name once")
        if not Path(folder).is_dir():
            raise InvalidInput(f"--input {name}: there is no folder {folder}")
        inputs[name] = Path(folder)
    return inputs


def prepare_out(out: Path) -> None:
    """Make *out*, which must be new or empty.

    Raises:
        InvalidInput: something is there already.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InvalidInput(f"--out {out}: expected a new or empty folder")
    out.mkdir(parents=True, exist_ok=True)


def readable(failure: dict[str, Any], word: str = "failed") -> str:
    """Return *failure* as text: the message, then each finding with its place and fix."""
    lines = [f"{word} ({failure['category']}/{failure['code']}): {failure['message']}"]
    for finding in failure["findings"]:
        place = finding.get("pointer") or (f"line {finding['line']}" if "line" in finding else "")
        column = f" {finding['column']}" if "column" in finding else ""
        lines.append(f"  {place}{column}: found {finding['found']}, expected {finding['expected']}")
        lines.append(f"    fix: {finding['fix']}")
    return "\n".join(lines)


def _claim_standard_output() -> TextIO:
    """Keep standard output for events and point descriptor 1 at standard error, so no library can break the stream."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    sys.stdout.flush()
    os.dup2(2, 1)
    return events


if __name__ == "__main__":
    sys.exit(main())
