"""Jobs: create, look, pause, resume, cancel, wait."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from deft_client.errors import ClientError, WaitedTooLong
from deft_client.exchange import Exchange, Json, is_passing, read_json
from deft_client.listing import pages

ENDED = frozenset({"succeeded", "failed", "cancelled"})
"""The statuses after which a job does not change."""


class Jobs:
    """`/v1/jobs`."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange

    def create(self, spec: Mapping[str, Any] | BaseModel, *, idempotency_key: str | None = None) -> Json:
        """Post a job: a mapping as in the API, or a spec of `deft.specs`; return it with all defaults written in.

        The same *idempotency_key* gives the same job, however often it is posted; without one, each call makes a job.
        """
        body = spec.model_dump(mode="json") if isinstance(spec, BaseModel) else dict(spec)
        answer: Json = self.exchange.json(
            "POST", "/v1/jobs", content=lambda: {"json": body}, idempotency_key=idempotency_key
        )
        return answer

    def get(self, job_id: str) -> Json:
        """Return the job."""
        answer: Json = self.exchange.json("GET", f"/v1/jobs/{job_id}")
        return answer

    def list(
        self,
        *,
        status: str | None = None,
        kind: str | None = None,
        parent_id: str | None = None,
        order: str | None = None,
        limit: int | None = None,
    ) -> Iterator[Json]:
        """Yield jobs, fetching pages as needed."""
        params = {"status": status, "kind": kind, "parent_id": parent_id, "order": order}
        return pages(self.exchange, "/v1/jobs", params, limit)

    def cancel(self, job_id: str) -> Json:
        """Ask for the job to stop at its next safe point and return it."""
        answer: Json = self.exchange.json("POST", f"/v1/jobs/{job_id}/cancel")
        return answer

    def pause(self, job_id: str) -> Json:
        """Ask for the job to pause at its next safe point and return it."""
        answer: Json = self.exchange.json("POST", f"/v1/jobs/{job_id}/pause")
        return answer

    def resume(self, job_id: str) -> Json:
        """Let a paused job go on, accepting what it paused for, and return it."""
        answer: Json = self.exchange.json("POST", f"/v1/jobs/{job_id}/resume")
        return answer

    def events(self, job_id: str, *, after: int | None = None, limit: int | None = None) -> Iterator[Json]:
        """Yield what happened to the job, oldest first, from after the event with number *after*."""
        return pages(self.exchange, f"/v1/jobs/{job_id}/events", {"after": after}, limit)

    def metrics(self, job_id: str) -> Json:
        """Return what the job measured as it ran."""
        answer: Json = self.exchange.json("GET", f"/v1/jobs/{job_id}/metrics")
        return answer

    def log(self, job_id: str) -> str:
        """Return the last lines of the job's log as text."""
        response = self.exchange.send("GET", f"/v1/jobs/{job_id}/log", headers={"Accept": "text/plain"})
        if "json" not in response.headers.get("content-type", ""):
            return response.text
        answer = read_json(response)
        lines = answer.get("lines", answer.get("log", "")) if isinstance(answer, dict) else answer
        return "\n".join(lines) if isinstance(lines, list) else str(lines)

    def report(self, job_id: str) -> Json:
        """Return what the report of a pipeline shows: verdict, curve, tables, histogram, lineage."""
        answer: Json = self.exchange.json("GET", f"/v1/jobs/{job_id}/report.json")
        return answer

    def save_report(self, job_id: str, folder: str | Path, *, evidence: bool = False) -> Sequence[Path]:
        """Write `report.html` and `report.json` of a pipeline to *folder*, `evidence.zip` on request; return where."""
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        names = ["report.html", "report.json", *(["evidence.zip"] if evidence else [])]
        for name in names:
            response = self.exchange.send("GET", f"/v1/jobs/{job_id}/{name}")
            (target / name).write_bytes(response.content)
        return [target / name for name in names]

    def watch(
        self, job_id: str, *, poll_seconds: float = 1.0, patience_seconds: float = 120.0
    ) -> Iterator[tuple[Json, bool]]:
        """Yield the job as it is now and whether it has changed, every *poll_seconds*, until it has ended.

        A service that is away is waited for as long as *patience_seconds*, so that its restart goes unnoticed; until
        it is back the last known state is yielded.
        """
        job, etag = self._if_changed(job_id, None)
        last_answer_at = time.monotonic()
        changed: Json | None = job
        while job is not None:
            yield job, changed is not None
            if job["status"] in ENDED:
                return
            self.exchange.pause(poll_seconds)
            try:
                changed, etag = self._if_changed(job_id, etag)
                last_answer_at = time.monotonic()
            except ClientError as error:
                if not is_passing(error) or time.monotonic() - last_answer_at > patience_seconds:
                    raise
                changed = None
            job = changed or job

    def wait(
        self,
        job_id: str,
        on_change: Callable[[Json], None] | None = None,
        *,
        poll_seconds: float = 1.0,
        timeout_seconds: float | None = None,
    ) -> Json:
        """Wait until the job has ended and return it; *on_change* gets each new state of it.

        Raises:
            WaitedTooLong: *timeout_seconds* passed first; the job goes on.
        """
        started_at = time.monotonic()
        job: Json = {}
        for job, is_changed in self.watch(job_id, poll_seconds=poll_seconds):
            if is_changed and on_change is not None:
                on_change(job)
            is_late = timeout_seconds is not None and time.monotonic() - started_at >= timeout_seconds
            if is_late and job["status"] not in ENDED:
                raise WaitedTooLong(f"{job_id} has not ended within {timeout_seconds:g} s; it goes on")
        return job

    def _if_changed(self, job_id: str, etag: str | None) -> tuple[Json | None, str | None]:
        headers = {"If-None-Match": etag} if etag else {}
        response = self.exchange.send("GET", f"/v1/jobs/{job_id}", headers=headers)
        return read_json(response), response.headers.get("etag", etag)
