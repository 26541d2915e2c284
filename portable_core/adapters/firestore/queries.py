"""The one kind of query that this store asks: a stretch of one indexed field, in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_LESS, _GREATER, _AT_LEAST = 1, 3, 4  # StructuredQuery.FieldFilter.Operator
_ASCENDING, _DESCENDING = 1, 2  # StructuredQuery.Direction
_AND = 1  # StructuredQuery.CompositeFilter.Operator


@dataclass(frozen=True, slots=True)
class RangeQuery:
    """The documents of ``collection`` in the order of ``field``, whose values are strings that no
    two documents share, with ``low <= value < high``."""

    collection: str
    field: str
    low: str | None = None
    high: str | None = None
    descending: bool = False


def describe_query(query: RangeQuery, behind: str | None, limit: int, structured: Any) -> None:
    """Fill in a ``StructuredQuery``: filters and one order on the same field, so that Firestore's
    own single-field index serves it."""
    structured.from_.add(collection_id=query.collection)
    structured.limit.value = limit
    field = {"field_path": query.field}
    structured.order_by.add(field=field, direction=_DESCENDING if query.descending else _ASCENDING)
    low, low_operator, high = query.low, _AT_LEAST, query.high
    if behind is not None and query.descending:
        high = behind
    elif behind is not None:
        low, low_operator = behind, _GREATER
    filters = structured.where.composite_filter.filters
    for value, operator in ((low, low_operator), (high, _LESS)):
        if value is not None:
            filters.add(
                field_filter={"field": field, "op": operator, "value": {"string_value": value}}
            )
    if filters:
        structured.where.composite_filter.op = _AND
