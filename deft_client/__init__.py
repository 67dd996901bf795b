"""The Python client of the DEFT service: one method an endpoint, grouped by noun.

    from deft_client import Client

    with Client() as client:                        # reads DEFT_URL and DEFT_API_KEY
        dataset = client.datasets.upload("prefs.jsonl")
        job = client.jobs.create({"kind": "pipeline", "dataset": dataset["id"], "model": "smollm2-135m"})
        job = client.jobs.wait(job["id"])
        client.adapters.download("ad_...", "adapter")

It knows HTTP and files, and nothing of the service's inside: answers are the JSON objects of the OpenAPI document.
"""

from deft_client.client import Client
from deft_client.errors import (
    BadRequest,
    ClientError,
    Conflict,
    DownloadCorrupt,
    InvalidInput,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    RangeNotSatisfiable,
    ServerError,
    ServiceError,
    TooLarge,
    TooManyRequests,
    Unavailable,
    UnexpectedAnswer,
    Unreachable,
    UnsupportedMedia,
    WaitedTooLong,
)

__all__ = [
    "BadRequest",
    "Client",
    "ClientError",
    "Conflict",
    "DownloadCorrupt",
    "InvalidInput",
    "NotAuthenticated",
    "NotFound",
    "NotPermitted",
    "RangeNotSatisfiable",
    "ServerError",
    "ServiceError",
    "TooLarge",
    "TooManyRequests",
    "Unavailable",
    "UnexpectedAnswer",
    "Unreachable",
    "UnsupportedMedia",
    "WaitedTooLong",
]
