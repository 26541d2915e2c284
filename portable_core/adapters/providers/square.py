"""The events of a Square application. Square does not list which of them were delivered."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from portable_core.adapters.providers.paged_events import Page, PagedEvents
from portable_core.errors import AnswerInvalid
from portable_core.ports import Delivery, KeepWaiting, LogEntry

_HEADERS = {"content-type": "application/json"}


class _List(msgspec.Struct):
    events: list[msgspec.Raw] = []
    cursor: str | None = None


class _Event(msgspec.Struct):
    event_id: str
    created_at: str
    type: str = ""


class SquareLog(PagedEvents):
    """The log of one application; the port ``DeliveryLog``."""

    def read(self, entry: LogEntry, keep_waiting: KeepWaiting) -> Delivery | None:
        """See the port. Square has no request for one event: those of its second are searched."""
        second, cursor = entry.timestamp // 1000, ""
        while True:
            page = self._get_page(second, second + 1, cursor, self._size, keep_waiting)
            for found in page.entries:
                if found.id == entry.id:
                    return found.delivery
            cursor = page.cursor
            if not cursor:
                return None

    def _get_page(
        self, start_s: int, end_s: int, cursor: str, size: int, wait: KeepWaiting
    ) -> Page:
        created = {"start_at": _format_time(start_s), "end_at": _format_time(end_s)}
        query = {"filter": {"created_at": created}, "sort": {"field": "DEFAULT", "order": "ASC"}}
        body: dict[str, object] = {"limit": size, "query": query}
        if cursor:
            body["cursor"] = cursor
        headers = {
            "Authorization": f"Bearer {self._configured.token}",
            "Content-Type": "application/json",
        }
        sent = msgspec.json.encode(body)
        response = self._api.ask("POST", "/v2/events", headers, wait, body=sent)
        page = self._api.decode(response, _List)
        return Page(
            [self._make_entry(bytes(raw)) for raw in page.events], page.cursor or "", response
        )

    def _make_entry(self, raw: bytes) -> LogEntry:
        event = self._api.decode_bytes(raw, _Event)
        try:
            time = datetime.fromisoformat(event.created_at)
        except ValueError as error:
            raise AnswerInvalid(f"{self._api.label}: created_at: {error}") from error
        at = max(0, round(time.replace(tzinfo=time.tzinfo or UTC).timestamp() * 1000))
        delivery = Delivery(raw, _HEADERS)
        return LogEntry(
            event.event_id, at, event.event_id, delivery=delivery, outcome=event.type[:100]
        )


def _format_time(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
