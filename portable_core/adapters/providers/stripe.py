"""The events of a Stripe account."""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from portable_core.adapters.providers.paged_events import Page, PagedEvents
from portable_core.errors import LogRefused
from portable_core.ports import Delivery, KeepWaiting, LogEntry

_HEADERS = {"content-type": "application/json; charset=utf-8"}


class _List(msgspec.Struct):
    data: list[msgspec.Raw]
    has_more: bool = False


class _Event(msgspec.Struct):
    id: str
    created: int
    type: str = ""


class StripeLog(PagedEvents):
    """The log of one account; the port ``DeliveryLog``.

    Stripe lists an event as not delivered until each of its endpoints has it, pending ones too.
    """

    def read(self, entry: LogEntry, keep_waiting: KeepWaiting) -> Delivery | None:
        """See the port."""
        path = f"/v1/events/{quote(entry.id, safe='')}"
        try:
            response = self._api.ask("GET", path, self._make_headers(), keep_waiting)
        except LogRefused as error:
            if error.answered == 404:
                return None
            raise
        return Delivery(response.body, _HEADERS)

    def _get_page(
        self, start_s: int, end_s: int, cursor: str, size: int, wait: KeepWaiting
    ) -> Page:
        query = {"limit": str(size), "created[gte]": str(start_s), "created[lt]": str(end_s)}
        if not self._configured.read_all:
            query["delivery_success"] = "false"
        if cursor:
            query["starting_after"] = cursor
        response = self._api.ask("GET", "/v1/events", self._make_headers(), wait, query=query)
        page = self._api.decode(response, _List)
        entries = [self._make_entry(bytes(raw)) for raw in page.data]
        more = page.has_more and entries
        return Page(entries, entries[-1].id if more else "", response)

    def _make_entry(self, raw: bytes) -> LogEntry:
        event = self._api.decode_bytes(raw, _Event)
        time = max(0, event.created * 1000)
        return LogEntry(
            event.id, time, event.id, delivery=Delivery(raw, _HEADERS), outcome=event.type[:100]
        )

    def _make_headers(self) -> dict[str, str]:
        headers = {"Authorization": f"Bearer {self._configured.token}"}
        account = self._configured.extra.get("account")
        return {**headers, "Stripe-Account": account} if account else headers
