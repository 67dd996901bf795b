"""Human studies: make one, invite raters, read what they found."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from deft_client.exchange import Exchange, Json
from deft_client.listing import pages


class Studies:
    """`/v1/studies`."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange

    def create(self, spec: Mapping[str, Any] | BaseModel, *, idempotency_key: str | None = None) -> Json:
        """Make a study of two systems of an evaluation: a mapping as in the API, or a `StudySpec`."""
        body = spec.model_dump(mode="json") if isinstance(spec, BaseModel) else dict(spec)
        answer: Json = self.exchange.json(
            "POST", "/v1/studies", content=lambda: {"json": body}, idempotency_key=idempotency_key
        )
        return answer

    def get(self, study_id: str) -> Json:
        """Return the study and how far it is."""
        answer: Json = self.exchange.json("GET", f"/v1/studies/{study_id}")
        return answer

    def list(self, *, order: str | None = None, limit: int | None = None) -> Iterator[Json]:
        """Yield the studies, newest first, fetching pages as needed."""
        return pages(self.exchange, "/v1/studies", {"order": order}, limit)

    def close(self, study_id: str) -> Json:
        """End the judging and return the study."""
        answer: Json = self.exchange.json("POST", f"/v1/studies/{study_id}/close")
        return answer

    def invite(self, study_id: str, name: str) -> Json:
        """Invite a rater; `token` and `url` (below the service's address) are in this answer alone."""
        answer: Json = self.exchange.json(
            "POST", f"/v1/studies/{study_id}/raters", content=lambda: {"json": {"name": name}}
        )
        return answer

    def raters(self, study_id: str) -> Iterator[Json]:
        """Yield the raters of a study."""
        found: Json = self.exchange.json("GET", f"/v1/studies/{study_id}/raters")
        return iter(found["data"])

    def revoke(self, study_id: str, rater_id: str) -> Json:
        """Make a rater's token useless and return the rater."""
        answer: Json = self.exchange.json("POST", f"/v1/studies/{study_id}/raters/{rater_id}/revoke")
        return answer

    def results(self, study_id: str) -> Json:
        """Return win rate, agreement and attention of what has been judged so far."""
        answer: Json = self.exchange.json("GET", f"/v1/studies/{study_id}/results")
        return answer

    def export(self, study_id: str, path: str | Path, *, form: Literal["csv", "jsonl"] = "jsonl") -> Path:
        """Write every judgement to the file at *path*: JSONL with texts, or CSV without; return the path."""
        answer = self.exchange.send("GET", f"/v1/studies/{study_id}/judgements.{form}", headers={"Accept": "*/*"})
        target = Path(path)
        target.write_bytes(answer.content)
        return target

    def make_dataset(self, study_id: str, *, name: str | None = None, min_judgements: int = 1) -> Json:
        """Make a preference dataset of what most raters of each item preferred, and return it."""
        body: Json = {"min_judgements": min_judgements, **({} if name is None else {"name": name})}
        answer: Json = self.exchange.json("POST", f"/v1/studies/{study_id}/dataset", content=lambda: {"json": body})
        return answer
