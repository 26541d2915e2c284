"""The one kind of query of this store: a range of one indexed field, in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_LESS, _GREATER, _AT_LEAST = 1, 3, 4  # StructuredQuery.FieldFilter.Operator
_ASCENDING, _DESCENDING = 1, 2  # StructuredQuery.Direction
_AND = 1  # StructuredQuery.CompositeFilter.Operator


@dataclass(frozen=True, slots=True)
class RangeQuery:
    """The documents of ``collection`` with ``low <= field < high``, in the order of ``field``.

    The values of the field are strings, unique within the collection. ``fields`` are those that are
    returned, ``field`` among them; all, if it is empty.
    """

    collection: str
    field: str
    low: str | None = None
    high: str | None = None
    descending: bool = False
    fields: tuple[str, ...] = ()


def describe_query(query: RangeQuery, after: str | None, limit: int, structured: Any) -> None:
    """Fill in a ``StructuredQuery`` for the documents after the one whose field is ``after``.

    Filters and order use the same field, so that Firestore's single-field index serves the query.
    """
    structured.from_.add(collection_id=query.collection)
    structured.limit.value = limit
    for name in query.fields:
        structured.select.fields.add(field_path=name)
    field = {"field_path": query.field}
    structured.order_by.add(field=field, direction=_DESCENDING if query.descending else _ASCENDING)
    low, low_operator, high = query.low, _AT_LEAST, query.high
    if after is not None and query.descending:
        high = after
    elif after is not None:
        low, low_operator = after, _GREATER
    filters = structured.where.composite_filter.filters
    for value, operator in ((low, low_operator), (high, _LESS)):
        if value is not None:
            filters.add(
                field_filter={"field": field, "op": operator, "value": {"string_value": value}}
            )
    if filters:
        structured.where.composite_filter.op = _AND
