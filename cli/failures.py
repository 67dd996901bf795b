"""How the command line ends when something went wrong: what was seen, what was expected, the fix, and the exit code.

Exit codes: 0 done, 1 a job failed or was cancelled, 2 usage, 3 refused input, 4 authentication, 5 server or no answer.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

import typer

from cli.output import say
from deft.errors import DeftError, NotAuthenticated, NotPermitted
from deft_client import errors as client_errors

JOB_FAILED, USAGE, REFUSED, AUTHENTICATION, SERVER = 1, 2, 3, 4, 5

HANDLED = (DeftError, client_errors.ClientError)
"""What `explain` knows how to print; anything else is a bug and shows its trace."""


def exit_code(error: Exception) -> int:
    """Return the exit code for *error*."""
    if isinstance(error, client_errors.NotAuthenticated | client_errors.NotPermitted | NotAuthenticated | NotPermitted):
        return AUTHENTICATION
    if isinstance(error, client_errors.WaitedTooLong):
        return JOB_FAILED
    if isinstance(error, client_errors.ServiceError):
        return SERVER if error.status >= 500 else REFUSED
    if isinstance(error, DeftError):
        return REFUSED if error.category == "user" else SERVER
    return SERVER


def explain(error: Exception) -> int:
    """Print *error* for a person and return the exit code."""
    say(f"error: {error}{_code(error)}")
    if isinstance(error, client_errors.ServiceError):
        print_findings(error.errors)
        if error.request_id:
            say(f"request {error.request_id}")
    elif isinstance(error, DeftError):
        print_findings(finding.as_dict() for finding in error.findings)
    for line in _next_step(error):
        say(line)
    return exit_code(error)


def fail(message: str, code: int, *more: str) -> NoReturn:
    """Print *message* and end with exit *code*."""
    say(f"error: {message}")
    for line in more:
        say(line)
    raise typer.Exit(code)


def print_findings(
    findings: Iterable[Mapping[str, Any]], files: Sequence[str] = (), write: Callable[[str], None] = say
) -> None:
    """Print each finding: the place (in one of *files*), what was found, what was expected, and the fix."""
    for finding in findings:
        write(finding_text(finding, files))
        if finding.get("fix"):
            write(f"    fix: {finding['fix']}")


def finding_text(finding: Mapping[str, Any], files: Sequence[str] = ()) -> str:
    """Return one finding as `file:line  column: found ..., expected ...  (n places)`."""
    name, pointer = _file_of(finding.get("pointer"), files)
    line = finding.get("line")
    place = f"{name}:{line}" if name and line else name or (f"line {line}" if line else "")
    where = [part for part in (place, pointer, finding.get("column")) if part]
    count = finding.get("count", 1)
    more = f"   ({count} places like this; this is the first)" if count > 1 else ""
    return f"  {'  '.join(where)}: found {finding.get('found')}, expected {finding.get('expected')}{more}"


def _file_of(pointer: str | None, files: Sequence[str]) -> tuple[str, str | None]:
    """Return the file that a finding is about, and the rest of its pointer: `/files/1` is the second file sent."""
    number = re.fullmatch(r"/files/(\d+)", pointer or "")
    if number and int(number[1]) < len(files):
        return files[int(number[1])], None
    return (files[0] if len(files) == 1 else ""), pointer


def _code(error: Exception) -> str:
    code = getattr(error, "error_code", None) or getattr(error, "code", None)
    return f"  [{code}]" if code else ""


def _next_step(error: Exception) -> list[str]:
    if isinstance(error, client_errors.Unreachable):
        return ["fix: start one with `deft serve`, or set DEFT_URL to the address of yours"]
    if isinstance(error, client_errors.NotAuthenticated):
        return ["fix: set DEFT_API_KEY to a key of this service (`deft serve` prints it at its first start)"]
    return []
