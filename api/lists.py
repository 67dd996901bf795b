"""The one rule of every list over HTTP: `limit`, `after`, `order` in; `data`, `has_more`, `next_cursor` out."""

from collections.abc import Callable
from typing import Annotated, Literal, TypeVar

from fastapi import Query

from api.documents import Document, PageDocument
from store.paging import Page

Row = TypeVar("Row")
Out = TypeVar("Out", bound=Document)

Limit = Annotated[int, Query(ge=1, le=200, description="At most this many items.")]
After = Annotated[
    str | None, Query(max_length=200, description="The `next_cursor` of the page before; left out: the first page.")
]
Order = Annotated[Literal["asc", "desc"], Query(description="desc: newest first.")]

DEFAULT_LIMIT = 50


def page_document(page: Page[Row], document: Callable[[Row], Out]) -> PageDocument[Out]:
    """Return *page* with each row as its document."""
    return PageDocument(
        data=[document(row) for row in page.items], has_more=page.has_more, next_cursor=page.next_cursor
    )
