"""The webhooks that were refused: counted by source and reason, and logged at a bounded rate.

Senders choose the source and how often they send, so both are bounded here: sources without a
setting of their own share one name once there are many, and a reason is logged once a minute.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from portable_core.errors import MalformedPayload, WebhookSyncError
from portable_core.ports import Milliseconds

#: Most sources with a name of their own, besides those of the settings.
MAX_SOURCES = 64

#: The name that all further sources share.
OTHER = "(other)"

#: The shortest time between two log lines with the same reason, and with the same source.
LOG_EVERY_MS = 60_000

#: Most lines in that time; further reasons wait for their next refusal.
MAX_LINES = 30

_MAX_REASON = 300  # characters


class SourceNames:
    """Bounds the names of sources: those of the settings, and the first others. Thread-safe."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        self._known = frozenset(known) | {""}
        self._others: set[str] = set()
        self._lock = threading.Lock()

    def bound(self, source: str) -> str:
        """Return the name under which a source is counted."""
        if source in self._known or source in self._others:
            return source
        with self._lock:
            if len(self._others) >= MAX_SOURCES:
                return OTHER
            self._others.add(source)
        return source


@dataclass(frozen=True, slots=True)
class Refusal:
    """The refused webhooks of one source with one title of the error; ``reason`` is the last one.

    ``first`` and ``last`` are their times. ``unlogged`` counts those since the last log line.
    """

    source: str
    title: str
    reason: str
    status: int
    count: int
    first: Milliseconds
    last: Milliseconds
    logged: Milliseconds | None = None
    unlogged: int = 0


class Refusals:
    """The refused webhooks of one process since its start. Safe to use from any thread.

    ``secrets`` never occur in a reason.
    """

    def __init__(self, sources: Iterable[str] = (), secrets: Collection[str] = ()) -> None:
        self._names = SourceNames(sources)
        self._secrets = sorted(filter(None, secrets), key=len, reverse=True)
        self._lock = threading.Lock()
        self._groups: dict[tuple[str, str], Refusal] = {}
        self._lines: list[Milliseconds] = []

    def note(self, source: str, error: WebhookSyncError, now: Milliseconds) -> str | None:
        """Count a refused webhook; return the line to log, if one is due."""
        named, reason = self._names.bound(source), self._explain(error)
        key = (named, error.title)
        with self._lock:
            group = self._groups.get(key)
            if group is None:
                group = Refusal(named, error.title, reason, error.status, 0, now, now)
            group = replace(
                group,
                reason=reason,
                status=error.status,
                count=group.count + 1,
                last=now,
                unlogged=group.unlogged + 1,
            )
            line = None
            if self._is_due(group, now):
                line = _describe(group)
                group = replace(group, logged=now, unlogged=0)
            self._groups[key] = group
        return line

    def list_all(self) -> list[Refusal]:
        """Return the groups, the newest first."""
        with self._lock:
            return sorted(self._groups.values(), key=lambda group: group.last, reverse=True)

    def _is_due(self, group: Refusal, now: Milliseconds) -> bool:
        if group.status >= 500:
            # A fault of the node concerns every source: one line is enough.
            alike = [g for g in self._groups.values() if g.title == group.title]
        else:
            alike = [group]
        if any(g.logged is not None and 0 <= now - g.logged < LOG_EVERY_MS for g in alike):
            return False
        self._lines = [at for at in self._lines if 0 <= now - at < LOG_EVERY_MS]
        if len(self._lines) >= MAX_LINES:
            return False
        self._lines.append(now)
        return True

    def _explain(self, error: WebhookSyncError) -> str:
        """Return the reason without parts of a payload and without secrets, as one line."""
        if isinstance(error, MalformedPayload):
            return "" if error.offset is None else f"at byte {error.offset}"
        text = " ".join(str(error).split())
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text[:_MAX_REASON]


def _describe(group: Refusal) -> str:
    more = group.unlogged - 1
    source = f"source {group.source!r}" if group.source else "no source"
    return (
        f"webhook refused with {group.status} ({source}): {group.title}"
        + (f": {group.reason}" if group.reason else "")
        + (f" ({more} more since the last such line)" if more else "")
    )
