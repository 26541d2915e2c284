"""A log that lists whole events of a time range, in pages: what Stripe and Square have in common.

The events of a window are read once, and kept for the next requests of the same sync. Beyond some
bytes, the payloads of the latest ones are dropped, and read by themselves when they are needed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from portable_core.adapters.providers.api import ProviderApi
from portable_core.adapters.providers.base import ProviderLog
from portable_core.adapters.providers.connection import ApiResponse, TooLarge
from portable_core.errors import BadRequest
from portable_core.ports import (
    Clock,
    Delivery,
    KeepWaiting,
    LogEntry,
    LogListing,
    Milliseconds,
)
from portable_core.sources.delivery_logs import LogSettings

#: Payloads of one window that are kept in memory.
MOST_BYTES = 32 * 2**20

#: For how long a window that was read is used again, in seconds.
_FRESH_S = 60.0

_PAGE = 100


class Page(NamedTuple):
    """``cursor`` names the next page; it is empty for the last one."""

    entries: Sequence[LogEntry]
    cursor: str
    response: ApiResponse


@dataclass(frozen=True, slots=True)
class _Window:
    start: Milliseconds
    end: Milliseconds
    read_at: float
    entries: Sequence[LogEntry]


class PagedEvents(ProviderLog, ABC):
    """The base of such logs; the port ``DeliveryLog``."""

    def __init__(self, configured: LogSettings, api: ProviderApi, clock: Clock) -> None:
        super().__init__(configured, api)
        self._clock = clock
        self._size = _PAGE
        self._window: _Window | None = None

    def list_entries(
        self, start: Milliseconds, end: Milliseconds, keep_waiting: KeepWaiting
    ) -> LogListing:
        """See the port."""
        window = self._window
        if window is None or not self._covers(window, start):
            window = self._window = self._read_window(start, end, keep_waiting)
        through = max(start, min(end, window.end))
        return LogListing([e for e in window.entries if start <= e.timestamp < through], through)

    def redeliver(self, id_: str, keep_waiting: KeepWaiting) -> None:
        """See the port."""
        raise BadRequest(
            f"{self._configured.kind.title} cannot be asked to send again. A sync reads the "
            "webhooks from its log."
        )

    @abstractmethod
    def read(self, entry: LogEntry, keep_waiting: KeepWaiting) -> Delivery | None:
        """See the port."""

    @abstractmethod
    def _get_page(
        self, start_s: int, end_s: int, cursor: str, size: int, wait: KeepWaiting
    ) -> Page:
        """Return some events with times in ``[start_s, end_s)``, in seconds; in any order."""

    def _covers(self, window: _Window, start: Milliseconds) -> bool:
        fresh = self._clock.monotonic() - window.read_at < _FRESH_S
        return fresh and window.start <= start < window.end

    def _read_window(self, start: Milliseconds, end: Milliseconds, wait: KeepWaiting) -> _Window:
        began = self._clock.monotonic()
        found: dict[str, LogEntry] = {}
        cursor, through = "", end
        while True:
            page = self._try_page(start // 1000, -(-end // 1000), cursor, wait)
            if not cursor:
                time = self._api.check_clock(page.response)
                through = min(end, max(0, time - self._configured.delay_ms))
            found.update((entry.id, entry) for entry in page.entries)
            _drop_payloads(found)
            cursor = page.cursor
            if not cursor or not page.entries:
                break
        entries = sorted(found.values(), key=lambda entry: (entry.timestamp, entry.id))
        return _Window(start, through, began, entries)

    def _try_page(self, start_s: int, end_s: int, cursor: str, wait: KeepWaiting) -> Page:
        while True:
            try:
                return self._get_page(start_s, end_s, cursor, self._size, wait)
            except TooLarge:
                if self._size == 1:
                    raise
                self._size = max(1, self._size // 4)


def _drop_payloads(found: dict[str, LogEntry]) -> None:
    """Drop the payloads of the latest entries beyond :data:`MOST_BYTES`."""
    size = sum(len(each.delivery.payload) for each in found.values() if each.delivery)
    if size <= MOST_BYTES:
        return
    for entry in sorted(found.values(), key=lambda entry: -entry.timestamp):
        if size <= MOST_BYTES:
            return
        if entry.delivery is not None:
            size -= len(entry.delivery.payload)
            found[entry.id] = replace(entry, delivery=None)
