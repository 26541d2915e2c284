"""The deliveries of a GitHub webhook: of a repository, an organization, or an app.

The list is newest first, in pages by cursor, and cannot be filtered by time. So its failed
deliveries are remembered: a sync reads the list down to what is known, which is one request if
nothing is new, and a conditional one if nothing has changed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import parse_qs, quote, urlsplit

import msgspec

from portable_core.adapters.providers.api import ProviderApi
from portable_core.adapters.providers.base import ProviderLog
from portable_core.adapters.providers.connection import ApiResponse, TooLarge
from portable_core.adapters.providers.github_credentials import GithubCredentials
from portable_core.errors import AnswerInvalid, BadRequest, LogRefused
from portable_core.ports import Clock, Delivery, KeepWaiting, LogEntry, LogListing, Milliseconds
from portable_core.sources.delivery_logs import LogSettings

_PAGE = 100

#: The most entries that are remembered; the latest ones beyond are read again later.
MOST_KEPT = 200_000

_NEXT = re.compile(r'<([^>]*)>\s*;[^,]*\brel="?next"?')


class _Item(msgspec.Struct):
    """A delivery in the list."""

    id: int
    guid: str
    delivered_at: str
    redelivery: bool
    status: str
    status_code: int

    @property
    def succeeded(self) -> bool:
        return 200 <= self.status_code < 300


class _Sent(msgspec.Struct):
    headers: dict[str, object] | None = None
    payload: msgspec.Raw = msgspec.Raw(b"")


class _Whole(msgspec.Struct):
    """A delivery read by itself."""

    request: _Sent


@dataclass(slots=True)
class _Reading:
    """A reading of the list that is not complete yet: from ``time`` down to ``floor``.

    ``cursor`` is where it continues. ``failed`` has the ids of ``entries`` by webhook,
    ``succeeded`` the webhooks whose redelivery succeeded.
    """

    time: Milliseconds
    floor: Milliseconds
    etag: str
    cursor: str = ""
    entries: dict[str, LogEntry] = field(default_factory=dict)
    failed: dict[str, list[str]] = field(default_factory=dict)
    succeeded: set[str] = field(default_factory=set)

    def drop_latest(self) -> None:
        """Drop the later half of the entries: the reading is then one up to their time."""
        ordered = sorted(self.entries.values(), key=lambda entry: entry.timestamp)
        middle = ordered[len(ordered) // 2].timestamp
        kept = [entry for entry in ordered if entry.timestamp < middle]
        if kept:
            self.time, self.etag = min(self.time, middle), ""
            self.entries = {entry.id: entry for entry in kept}
            self.failed = {}
            for entry in kept:
                self.failed.setdefault(entry.webhook, []).append(entry.id)


@dataclass(slots=True)
class _Known:
    """What is known of the list: all of the window ``[start, end)``, and some later entries.

    ``etag`` is that of the first page as it was last read.
    """

    start: Milliseconds
    end: Milliseconds
    etag: str
    entries: dict[str, LogEntry]


class GithubLog(ProviderLog):
    """The log of one hook; the port ``DeliveryLog``."""

    def __init__(self, configured: LogSettings, api: ProviderApi, clock: Clock) -> None:
        super().__init__(configured, api)
        self._credentials = GithubCredentials(configured, api, clock)
        self._path = _find_path(configured.target)
        self._page = _PAGE
        self._known: _Known | None = None
        self._reading: _Reading | None = None

    # -- listing -------------------------------------------------------------------------------

    def list_entries(
        self, start: Milliseconds, end: Milliseconds, keep_waiting: KeepWaiting
    ) -> LogListing:
        """See the port. A reading that was interrupted continues with the next call."""
        known = self._known
        if known is not None and not known.start <= start <= known.end:
            self._known = known = None
        if known is None or end > known.end:
            known = self._extend(start, keep_waiting)
        known.start = start
        known.entries = {i: e for i, e in known.entries.items() if e.timestamp >= start}
        through = min(end, known.end)
        found = [entry for entry in known.entries.values() if entry.timestamp < through]
        found.sort(key=lambda entry: (entry.timestamp, int(entry.id)))
        return LogListing(found, max(start, through))

    def _extend(self, start: Milliseconds, wait: KeepWaiting) -> _Known:
        """Read the list down to what is known, at most to ``start``."""
        known = self._known
        if self._reading is None or self._reading.floor > start:
            floor = start if known is None else known.end
            self._reading = self._begin(floor, wait)
        reading = self._reading
        while reading is not None and reading.cursor:
            self._read_page(reading, wait)
        self._reading = None
        if reading is None:  # nothing has changed
            assert self._known is not None  # noqa: S101  # its page was compared
            return self._known
        entries = {} if known is None else known.entries
        merged = {
            id_: entry
            for id_, entry in {**entries, **reading.entries}.items()
            if entry.webhook not in reading.succeeded
        }
        self._known = _Known(start, reading.time, reading.etag, merged)
        return self._known

    def _begin(self, floor: Milliseconds, wait: KeepWaiting) -> _Reading | None:
        """Read the first page; return None if it is as it was."""
        known = self._known
        response = self._get_page("", "" if known is None else known.etag, wait)
        time = self._find_time(response)
        if response.status == 304 and known is not None:
            known.end = max(known.end, time)
            return None
        reading = _Reading(time, floor, response.headers.get("etag", ""))
        self._add(reading, response)
        return reading

    def _read_page(self, reading: _Reading, wait: KeepWaiting) -> None:
        self._add(reading, self._get_page(reading.cursor, "", wait))

    def _get_page(self, cursor: str, etag: str, wait: KeepWaiting) -> ApiResponse:
        while True:
            query = {"per_page": str(self._page)} | ({"cursor": cursor} if cursor else {})
            try:
                return self._ask("GET", self._path, wait, query, etag)
            except TooLarge:
                if self._page == 1:
                    raise
                self._page = max(1, self._page // 4)

    def _find_time(self, response: ApiResponse) -> Milliseconds:
        """Return the time before which the list is complete."""
        now = self._api.check_clock(response)
        return max(0, now - self._configured.delay_ms)

    def _add(self, reading: _Reading, response: ApiResponse) -> None:
        """Add a page to a reading, and set where it continues."""
        items = self._api.decode(response, list[_Item])
        oldest: Milliseconds | None = None
        for item in items:
            time = _parse_time(item.delivered_at)
            oldest = time if oldest is None else min(oldest, time)
            self._sort(reading, item, time)
        if len(reading.entries) > MOST_KEPT:
            reading.drop_latest()
        slack = self._configured.delay_ms
        done = oldest is None or oldest < reading.floor - slack
        reading.cursor = "" if done else _find_cursor(response.headers)

    def _sort(self, reading: _Reading, item: _Item, time: Milliseconds) -> None:
        entries, everything = reading.entries, self._configured.read_all
        if item.succeeded and not everything:
            if item.redelivery:
                reading.succeeded.add(item.guid)
            for id_ in reading.failed.pop(item.guid, ()):  # redeliveries after this success
                del entries[id_]
            return
        if time < reading.floor or (item.guid in reading.succeeded and not everything):
            return
        outcome = f"{item.status} ({item.status_code})" if item.status_code else item.status
        reading.failed.setdefault(item.guid, []).append(str(item.id))
        entries[str(item.id)] = LogEntry(
            str(item.id), time, item.guid, item.redelivery, outcome=outcome[:100]
        )

    # -- one delivery --------------------------------------------------------------------------

    def read(self, entry: LogEntry, keep_waiting: KeepWaiting) -> Delivery | None:
        """See the port."""
        try:
            response = self._ask("GET", f"{self._path}/{entry.id}", keep_waiting)
        except LogRefused as error:
            if error.answered in (404, 410):
                return None
            raise
        sent = self._api.decode(response, _Whole).request
        payload = bytes(sent.payload)
        if payload in (b"", b"null"):
            return None
        headers = {
            name.lower(): value.encode().decode("latin-1")
            for name, value in (sent.headers or {}).items()
            if isinstance(value, str)
        }
        return Delivery(payload, headers)

    def redeliver(self, id_: str, keep_waiting: KeepWaiting) -> None:
        """See the port. GitHub sends the payload as it was, with its signature."""
        if not id_.isascii() or not id_.isdigit():
            raise BadRequest(f"{id_[:60]!r} is not the id of a delivery. Use one that is listed.")
        self._ask("POST", f"{self._path}/{id_}/attempts", keep_waiting, expected=(200, 202))

    # -- requests ------------------------------------------------------------------------------

    def _ask(
        self,
        method: str,
        path: str,
        wait: KeepWaiting,
        query: Mapping[str, str] | None = None,
        etag: str = "",
        expected: tuple[int, ...] = (200,),
    ) -> ApiResponse:
        try:
            return self._ask_once(method, path, wait, query, etag, expected)
        except LogRefused as error:
            if error.answered != 401 or self._configured.token:
                raise
        self._credentials.forget()  # the app's token was revoked
        return self._ask_once(method, path, wait, query, etag, expected)

    def _ask_once(
        self,
        method: str,
        path: str,
        wait: KeepWaiting,
        query: Mapping[str, str] | None,
        etag: str,
        expected: tuple[int, ...],
    ) -> ApiResponse:
        headers = {
            "Authorization": self._credentials.find(wait),
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": "2022-11-28",
        }
        if etag:
            headers["If-None-Match"] = etag
            expected = (*expected, 304)
        return self._api.ask(method, path, headers, wait, query=query, expected=expected)


def _find_path(target: str) -> str:
    """Return the path of the list for a target such as ``OWNER/REPO/hooks/ID``."""
    if target == "app":
        return "/app/hook/deliveries"
    *owners, _, hook = target.split("/")
    kind = "repos" if len(owners) == 2 else "orgs"
    return f"/{kind}/{'/'.join(map(quote, owners))}/hooks/{hook}/deliveries"


def _find_cursor(headers: Mapping[str, str]) -> str:
    """Return the cursor of the next page; empty for the last one. The rest of its URL is not used.

    Raises ``AnswerInvalid``.
    """
    match = _NEXT.search(headers.get("link", ""))
    if match is None:
        return ""
    try:
        cursor = parse_qs(urlsplit(match[1]).query).get("cursor", [""])[0]
    except ValueError:
        cursor = ""
    if not cursor or len(cursor) > 500:
        raise AnswerInvalid("GitHub: the link to the next page of deliveries has no cursor")
    return cursor


def _parse_time(text: str) -> Milliseconds:
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise AnswerInvalid(f"GitHub: delivered_at is not a time (got {text[:60]!r})") from error
    return max(0, round(time.replace(tzinfo=time.tzinfo or UTC).timestamp() * 1000))
