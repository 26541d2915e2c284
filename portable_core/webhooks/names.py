"""The event of a webhook, and its provider's ids: what people search for."""

from __future__ import annotations

from collections.abc import Mapping

from portable_core.payload_hash.coding import unpack_for_people
from portable_core.records import Meta, Record
from portable_core.sources.request import SourceRequest
from portable_core.sources.rows import SourceRow
from portable_core.sources.values import Value

#: Headers in which providers name the event; the first one that is present counts.
_EVENT_HEADERS = (
    "x-forgejo-event",
    "x-gitea-event",
    "x-github-event",
    "x-gitlab-event",
    "x-event-key",
    "x-shopify-topic",
    "x-wc-webhook-topic",
    "sentry-hook-resource",
    "x-goog-resource-state",
    "ce-type",
)

#: Kept headers that are no ids: by their name, and by a part of it.
_NOT_IDS = frozenset({"content-type", "content-encoding", "user-agent"})
_NOT_IDS_PARTS = ("signature", "timestamp", "hmac", "-mac")

#: Longer values are neither events nor ids.
MAX_CHARACTERS = 512


def find_event(meta: Meta) -> str:
    """Return the name of the event that a header has; empty without such a header."""
    headers = meta.headers
    return next((headers[name] for name in _EVENT_HEADERS if name in headers), "")


def is_id_header(name: str) -> bool:
    """Return whether the values of this kept header are searched as ids."""
    return name not in _NOT_IDS and not any(part in name for part in _NOT_IDS_PARTS)


class Names:
    """Finds the event and the ids of records, by the rows of their sources.

    The columns ``event`` and ``id`` of a row name values of the request. Without such a value, the
    event is that of a header.
    """

    def __init__(self, rows: Mapping[str, SourceRow] | None = None) -> None:
        columns = {source: (row.event, row.id) for source, row in (rows or {}).items()}
        self._columns = {source: both for source, both in columns.items() if any(both)}

    @property
    def text(self) -> str:
        """The rules as text, equal for equal rules."""
        return repr(sorted((name, *map(_spell, both)) for name, both in self._columns.items()))

    def event(self, record: Record) -> str:
        """Return the name of the event; empty if there is none."""
        return self.both(record, ids=False)[0]

    def ids(self, record: Record) -> list[str]:
        """Return the values that a search for an id finds: kept headers, and those of the row."""
        return self.both(record)[1]

    def both(self, record: Record, *, ids: bool = True) -> tuple[str, list[str]]:
        """Return the event and the ids, of which none without ``ids``; the body is read once."""
        headers = record.meta.headers.items()
        found = [value for name, value in headers if ids and is_id_header(name)]
        event = ""
        columns = self._columns.get(record.meta.source)
        if columns is not None:
            request = _make_request(record)
            event = next(filter(None, (_read(value, request) for value in columns[0])), "")
            found += [_read(value, request) for value in columns[1] if ids]
        known = [value for value in found if value and len(value) <= MAX_CHARACTERS]
        return event or find_event(record.meta), known


def _spell(values: tuple[Value, ...]) -> str:
    return " ".join(f"{value.place}:{value.name}" for value in values)


def _make_request(record: Record) -> SourceRequest:
    headers = record.meta.headers

    def read(name: str) -> list[str]:
        value = headers.get(name.lower())
        return [] if value is None else [value]

    return SourceRequest(read, unpack_for_people(record.payload), query=record.meta.query)


def _read(value: Value, request: SourceRequest) -> str:
    """Return the value; empty if it is absent or too long."""
    found = next(iter(value.read_all(request)), "")
    return found if len(found) <= MAX_CHARACTERS else ""
