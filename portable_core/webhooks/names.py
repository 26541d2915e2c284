"""The event of a webhook, and its provider's ids: what people search for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

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
        events = self._columns.get(record.meta.source, ((), ()))[0]
        if events:
            request = _make_request(record)
            found = next(filter(None, (_read(value, request) for value in events)), "")
            if found:
                return found
        return find_event(record.meta)

    def ids(self, record: Record) -> Iterator[str]:
        """Yield the values that a search for an id finds: kept headers, and those of the row."""
        for name, value in record.meta.headers.items():
            if is_id_header(name) and len(value) <= MAX_CHARACTERS:
                yield value
        ids = self._columns.get(record.meta.source, ((), ()))[1]
        if ids:
            request = _make_request(record)
            yield from filter(None, (_read(value, request) for value in ids))


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
