"""The `Client`: where the service is, who calls, and the nouns."""

import ipaddress
import os
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import httpx2
from pydantic import BaseModel

from deft_client.artifacts import Artifacts, Evaluations, Subsets
from deft_client.datasets import Datasets
from deft_client.exchange import Exchange, Json
from deft_client.jobs import Jobs
from deft_client.models import Models
from deft_client.releases import Comparisons, Policies, Releases
from deft_client.studies import Studies

DEFAULT_URL = "http://127.0.0.1:8000"


class Client:
    """A connection to one DEFT service; a context manager that closes its connections.

    *url* and *api_key* default to `DEFT_URL` (else `http://127.0.0.1:8000`) and `DEFT_API_KEY`, read when the client is
    made. *attempts* is how often a request without an answer is sent, *timeout_seconds* how long one may be silent.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout_seconds: float = 60.0,
        attempts: int = 4,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self.url = (url or os.environ.get("DEFT_URL") or DEFAULT_URL).rstrip("/")
        key = api_key or os.environ.get("DEFT_API_KEY")
        headers = {"User-Agent": "deft-client", "Accept": "application/json, application/problem+json;q=0.9, */*;q=0.1"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        http = httpx2.Client(
            base_url=self.url,
            headers=headers,
            timeout=httpx2.Timeout(timeout_seconds, connect=10.0),
            transport=transport,
            trust_env=not is_loopback(self.url),
        )
        self.exchange = Exchange(http, attempts=attempts)
        self.models = Models(self.exchange)
        self.datasets = Datasets(self.exchange)
        self.jobs = Jobs(self.exchange)
        self.data_reports = Artifacts(self.exchange, "data_reports")
        self.scorings = Artifacts(self.exchange, "scorings")
        self.subsets = Subsets(self.exchange, "subsets")
        self.adapters = Artifacts(self.exchange, "adapters")
        self.tuned_models = Artifacts(self.exchange, "tuned_models")
        self.reward_models = Artifacts(self.exchange, "reward_models")
        self.evaluations = Evaluations(self.exchange, "evaluations")
        self.judgings = Artifacts(self.exchange, "judgings")
        self.comparisons = Comparisons(self.exchange)
        self.studies = Studies(self.exchange)
        self.policies = Policies(self.exchange)
        self.releases = Releases(self.exchange)

    def team(self) -> Json:
        """Return who this key belongs to."""
        answer: Json = self.exchange.json("GET", "/v1/team")
        return answer

    def plan(self, spec: Mapping[str, Any] | BaseModel, *, flops_per_second: float | None = None) -> Json:
        """Return what a job of *spec* would come to: rows, tokens, memory, time, wait; nothing is stored.

        *flops_per_second* is what your device reaches in such work, if you know; times for it then come first.
        """
        body = spec.model_dump(mode="json") if isinstance(spec, BaseModel) else dict(spec)
        params = {} if flops_per_second is None else {"flops_per_second": flops_per_second}
        answer: Json = self.exchange.json("POST", "/v1/plans", params=params, content=lambda: {"json": body})
        return answer

    def leaderboard(self, metric: str, **filters: str | int | None) -> Json:
        """Return the team's adapters ranked by *metric*: `boards`, one a settings hash.

        *filters* are those of the API: `model`, `settings_hash`, `slice`, `order`, `limit`.
        """
        answer: Json = self.exchange.json("GET", "/v1/leaderboard", params={"metric": metric, **filters})
        return answer

    def is_ready(self) -> bool:
        """Whether the service and what it needs are ready; raises `Unreachable` when nothing answers."""
        try:
            return self.exchange.http.get("/readyz").status_code == 200
        except httpx2.TransportError as error:
            raise self.exchange.unreachable(error) from error

    def close(self) -> None:
        """Close the connections."""
        self.exchange.http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def is_loopback(url: str) -> bool:
    """Whether *url* names this machine, so that a proxy set for the outside must not be asked."""
    host = httpx2.URL(url).host
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
