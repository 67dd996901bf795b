"""Base models that the service may use."""

from collections.abc import Iterator
from pathlib import Path

from deft_client.exchange import Exchange, Json
from deft_client.listing import pages


class Models:
    """`/v1/models`."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange

    def register(
        self,
        name: str,
        *,
        folder: str | Path | None = None,
        hub_id: str | None = None,
        revision: str | None = None,
    ) -> Json:
        """Register a *folder* of the service's machine (below an allowed root) or a Hub model at one *revision*."""
        place = {"folder": str(folder) if folder is not None else None, "hub_id": hub_id, "revision": revision}
        body = {"name": name, **{key: value for key, value in place.items() if value is not None}}
        answer: Json = self.exchange.json("POST", "/v1/models", content=lambda: {"json": body})
        return answer

    def get(self, model: str) -> Json:
        """Return the model with this id or name."""
        answer: Json = self.exchange.json("GET", f"/v1/models/{model}")
        return answer

    def list(self, *, limit: int | None = None) -> Iterator[Json]:
        """Yield the models, newest first, fetching pages as needed."""
        return pages(self.exchange, "/v1/models", {}, limit)
