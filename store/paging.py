"""The one rule of every list: `limit`, `after` (the id of the last item seen) and `order` by age."""

from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from sqlalchemy import Select, tuple_
from sqlalchemy.orm import Session

from deft.errors import Finding, InvalidInput, shown
from store.release_tables import Comparison, Policy, Release
from store.study_tables import Study
from store.tables import Artifact, Job, Model

MAX_LIMIT = 200
Order = Literal["asc", "desc"]
Item = TypeVar("Item")
Row = TypeVar("Row", Job, Artifact, Model, Study, Comparison, Policy, Release)


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """Some *items* of a list, whether it *has_more*, and the cursor that `after` takes to go on (null at the end)."""

    items: list[Item]
    has_more: bool
    next_cursor: str | None


def page_of(
    session: Session,
    statement: Select[Row],
    table: type[Row],
    limit: int,
    after: str | None,
    order: Order,
    *,
    cursors: Select[Row] | None = None,
) -> Page[Row]:
    """Return one page of *statement*, which already says whose rows and which.

    *cursors* says which rows `after` may name, when that is more than *statement*: a job that a filter on its status
    has let go since the last page still says where that page ended.

    Raises:
        InvalidInput: `limit` is not 1..200, or `after` is no item of this list.
    """
    check_limit(limit)
    key = tuple_(table.created_at, table.id)
    if after is not None:
        allowed = statement if cursors is None else cursors
        seen = session.scalars(allowed.where(table.id == after)).first()
        if seen is None:
            raise InvalidInput("`after` is no item of this list", code="invalid_cursor", findings=[_bad_cursor(after)])
        bound = tuple_(seen.created_at, seen.id)
        statement = statement.where(key > bound if order == "asc" else key < bound)
    columns = (table.created_at, table.id)
    statement = statement.order_by(*(column.asc() if order == "asc" else column.desc() for column in columns))
    rows = list(session.scalars(statement.limit(limit + 1)))
    items = rows[:limit]
    has_more = len(rows) > limit
    return Page(items, has_more, items[-1].id if has_more else None)


def check_limit(limit: int) -> None:
    """Refuse a page size outside 1..200.

    Raises:
        InvalidInput: with a pointer to the query parameter.
    """
    if not 1 <= limit <= MAX_LIMIT:
        finding = Finding("invalid_limit", shown(limit), f"1 to {MAX_LIMIT}", "ask for fewer", pointer="/limit")
        raise InvalidInput("limit is out of range", code="invalid_limit", findings=[finding])


def _bad_cursor(after: str) -> Finding:
    return Finding(
        "invalid_cursor", shown(after), "the id of an item of this list", "use next_cursor", pointer="/after"
    )
