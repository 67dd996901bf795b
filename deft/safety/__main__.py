"""`python -m deft.safety FILE...`: how the refusal rules agree with people's labels. Prints numbers, never a row.

With `--judge MODEL` it is a judge that tells: at the endpoint that OPENAI_BASE_URL and OPENAI_API_KEY name.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from deft.data.answer_kinds import KINDS, Kind
from deft.endpoints import URL, Endpoint, endpoint_in, no_endpoint
from deft.errors import DeftError
from deft.judges import templates
from deft.reports import Silent
from deft.safety.agreement import Agreement, agreement_in, by_rules, kind_in, share_interval
from deft.safety.refusals import VERSION
from deft.specs import Judge


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, or 1 for a file or an endpoint that cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m deft.safety", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="answers with labels of people")
    parser.add_argument("--request", default="prompt", metavar="COLUMN")
    parser.add_argument("--answer", default="completion", metavar="COLUMN")
    parser.add_argument("--label", default="final_label", metavar="COLUMN")
    parser.add_argument("--half", choices=("development", "held_out"), help="requests of one half alone, by their hash")
    parser.add_argument("--judge", metavar="MODEL", help="let this model tell, in the place of the rules")
    options = parser.parse_args(arguments)
    columns = {"request": options.request, "answer": options.answer, "label": options.label}
    try:
        tell = by_rules if options.judge is None else partial(by_judge, options.judge, endpoint_in(os.environ))
        who = f"rules version {VERSION}" if options.judge is None else f"{options.judge}, texts of version "
        who += "" if options.judge is None else templates.VERSION
        for path in options.files:
            print(table(path.name, who, agreement_in(path, **columns, tell=tell, half=options.half)))
    except (DeftError, OSError) as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    return 0


def by_judge(model: str, endpoint: Endpoint | None, pairs: Sequence[tuple[str, str]]) -> list[Kind | None]:
    """Let *model* at *endpoint* tell of each (request, answer) what the answer does.

    Raises:
        InvalidInput: there is no endpoint, or it refuses the key or the model.
        Unavailable: it does not answer.
    """
    from deft.judges.asking import ask_all, key_of
    from deft.judges.client import EndpointJudge
    from deft.judges.journal import Journal

    if endpoint is None:
        raise no_endpoint(URL, "--judge")
    judge = Judge(endpoint="environment", model=model, max_tokens=256)
    questions, journal = [templates.kind_question(*pair) for pair in pairs], Journal(None)
    ask_all(questions, EndpointJudge(endpoint, judge), journal, context=model, report=Silent(), lanes=judge.concurrency)
    replies = [journal.replies.get(key_of(question, model)) for question in questions]
    return [None if reply is None else kind_in(reply.whole_text) for reply in replies]


def table(name: str, who: str, found: Agreement) -> str:
    """Return the agreement as text: shares, kappa, and one line a label of people."""
    lines = [
        f"{name}: {found.n} labelled answers as told by {who}; left out: {found.unknown} with another label, "
        f"{found.untold} of which nothing sure was told",
        f"  agreement {_told(found.share, found.n)} (kappa {found.kappa:.3f}); "
        f"compliance or not {_told(found.share_of_two, found.n)}",
        "  " + "people \\ told".ljust(16) + "".join(kind.rjust(12) for kind in KINDS),
    ]
    for one in KINDS:
        counts = [found.counts[one, other] for other in KINDS]
        if any(counts):
            same, rows = found.of_kind(one)
            numbers = "".join(str(n).rjust(12) for n in counts)
            lines.append(f"  {one.ljust(16)}{numbers}  {_told(same / rows, rows)}")
    return "\n".join(lines)


def _told(share: float, n: int) -> str:
    low, high = share_interval(round(share * n), n)
    return f"{share:.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    sys.exit(main())
