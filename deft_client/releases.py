"""Comparisons of evaluations, policies of the promotion gate, releases."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from deft_client.exchange import Exchange, Json
from deft_client.listing import pages


class _Made:
    """A noun that is posted, got and listed."""

    noun: str

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange

    def create(self, spec: Mapping[str, Any] | BaseModel, *, idempotency_key: str | None = None) -> Json:
        """Post it, a mapping as in the API or a spec of `deft.specs`, and return it."""
        body = spec.model_dump(mode="json") if isinstance(spec, BaseModel) else dict(spec)
        answer: Json = self.exchange.json(
            "POST", f"/v1/{self.noun}", content=lambda: {"json": body}, idempotency_key=idempotency_key
        )
        return answer

    def get(self, made_id: str) -> Json:
        """Return it."""
        answer: Json = self.exchange.json("GET", f"/v1/{self.noun}/{made_id}")
        return answer

    def list(self, *, order: str | None = None, limit: int | None = None) -> Iterator[Json]:
        """Yield what there is, newest first, fetching pages as needed."""
        return pages(self.exchange, f"/v1/{self.noun}", {"order": order}, limit)


class Comparisons(_Made):
    """`/v1/comparisons`; unlike settings are a `Conflict` with code `incomparable_evaluations`, unless forced."""

    noun = "comparisons"


class Policies(_Made):
    """`/v1/policies`: the rules of the promotion gate; `get` takes a name too."""

    noun = "policies"


class Releases(_Made):
    """`/v1/releases`: adapters at the gate."""

    noun = "releases"

    def approve(self, release_id: str, note: str | None = None) -> Json:
        """Agree to a release whose clauses are met, and return it."""
        return self._do(release_id, "approve", {} if note is None else {"note": note})

    def override(self, release_id: str, reason: str) -> Json:
        """Release in spite of what holds it, and return it."""
        return self._do(release_id, "override", {"reason": reason})

    def recall(self, release_id: str, reason: str) -> Json:
        """Take a release back and return it with `downloads`: who has fetched the adapter."""
        return self._do(release_id, "recall", {"reason": reason})

    def downloads(self, release_id: str) -> Iterator[Json]:
        """Yield who has fetched which files of the release's adapter."""
        found: Json = self.exchange.json("GET", f"/v1/releases/{release_id}/downloads")
        return iter(found["data"])

    def _do(self, release_id: str, verb: str, body: Json) -> Json:
        answer: Json = self.exchange.json("POST", f"/v1/releases/{release_id}/{verb}", content=lambda: {"json": body})
        return answer
