"""Lists of the service, page by page: `{data, has_more, next_cursor}`, one rule for every list."""

from collections.abc import Iterator, Mapping
from typing import Any

from deft_client.exchange import Exchange, Json

PAGE_ROWS = 100


def pages(exchange: Exchange, path: str, params: Mapping[str, Any], limit: int | None) -> Iterator[Json]:
    """Yield the rows of the list at *path*, at most *limit*, asking for the next page when it is needed."""
    after = params.get("after")
    left = limit
    while left is None or left > 0:
        size = PAGE_ROWS if left is None else min(PAGE_ROWS, left)
        page = exchange.json("GET", path, params={**params, "limit": size, "after": after})
        yield from page["data"][:size]
        if not page.get("has_more") or not page["data"]:
            return
        after = page["next_cursor"]
        left = None if left is None else left - len(page["data"])
