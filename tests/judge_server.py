"""A scripted judge behind real HTTP: always first, longer wins, best by a number in a text, garbage, slow, 429, 500."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Behaviour = Callable[[str], str]
PART = re.compile(r"<<< (\S+(?: [AB])?) ([0-9a-f]{12}) >>>\n(.*?)\n<<< end of \1 \2 >>>", re.DOTALL)


def parts_of(question: str) -> dict[str, str]:
    """Return the marked parts of a question by name."""
    return {name: text for name, _, text in PART.findall(question)}


def _pair(question: str) -> tuple[str, str]:
    parts = parts_of(question)
    kind = "answer" if "answer A" in parts else "conversation"
    return parts[f"{kind} A"], parts[f"{kind} B"]


def quality(text: str) -> int:
    """Return the number behind the last `quality=` of a text."""
    return int(re.findall(r"quality=(-?\d+)", text)[-1])


def _verdict(first: int, second: int) -> str:
    word = "tie" if first == second else "A" if first > second else "B"
    return f"For reasons.\nVerdict: {word}"


def always_first(_: str) -> str:
    return "Verdict: A"


def longer_wins(question: str) -> str:
    first, second = _pair(question)
    return _verdict(len(first), len(second))


def best(question: str) -> str:
    first, second = _pair(question)
    return _verdict(quality(first), quality(second))


def rating(question: str) -> str:
    parts = parts_of(question)
    return f"For reasons.\nScore: {quality(parts.get('answer') or parts['conversation'])}"


def garbage(_: str) -> str:
    return "I cannot decide between A and B, Verdict: A or perhaps Verdict: B."


@dataclass
class Scripted:
    """What the server does, and what it was asked: the bodies, in order."""

    behave: Behaviour = best
    seconds: float = 0.0
    change: Callable[[dict[str, Any]], None] = lambda _: None
    """Changes an answer before it is sent."""
    refusals: list[int] = field(default_factory=list)
    """Statuses of the first answers, one each, before it answers."""
    dies_after: int | None = None
    """From this many answers on every request is answered 503."""
    page: str = ""
    """An HTML page with which every request after `page_after` is answered."""
    page_after: int = 0
    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    answered: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def status(self) -> int:
        """Return the status of the next answer."""
        with self.lock:
            if self.refusals:
                return self.refusals.pop(0)
            if self.dies_after is not None and self.answered >= self.dies_after:
                return 503
            self.answered += 1
            return 200


def _handler(script: Scripted) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with script.lock:
                script.asked.append(body)
                script.keys.add(self.headers.get("Authorization", ""))
            status = script.status()
            time.sleep(script.seconds)
            if status == 200 and script.page and len(script.asked) > script.page_after:
                self._send(status, script.page.encode(), "text/html")
            else:
                document = _answer(script, body) if status == 200 else {"error": {"message": "no"}}
                self._send(status, json.dumps(document).encode())

        def _send(self, status: int, content: bytes, media_type: str = "application/json") -> None:
            self.send_response(status)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("retry-after-ms", "1")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def _answer(script: Scripted, body: dict[str, Any]) -> dict[str, Any]:
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    own = {"id": "x", "created": 0, "model": body["model"], "usage": usage}
    if "messages" in body:
        message = {"role": "assistant", "content": script.behave(body["messages"][-1]["content"])}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        return _changed(script, {**own, "object": "chat.completion", "choices": [choice]})
    choice = {"index": 0, "finish_reason": "stop", "text": script.behave(body["model"]), "logprobs": None}
    return _changed(script, {**own, "object": "text_completion", "choices": [choice]})


def _changed(script: Scripted, document: dict[str, Any]) -> dict[str, Any]:
    script.change(document)
    return document


@contextmanager
def judge_server(script: Scripted) -> Iterator[Scripted]:
    """Serve *script* on a free port of this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(script))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    script.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield script
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
