"""How many bytes of unfinished requests one process holds in memory.

A request that is complete is the buffer's (``BUFFER_BYTES``). One that is not belongs to a sender
that may be slow, or may never end it. Two limits, both of all connections together:

- Beyond ``paused_bytes`` large requests are not read any further, except the oldest: the bytes wait
  in the kernel and at the sender. When a request is complete, or has taken too long, the oldest one
  that waits is read again. So one of them always makes progress, and small webhooks never wait.
- Beyond ``held_bytes`` the oldest unfinished request is answered 503 and its connection closed.
"""

from __future__ import annotations

from typing import Protocol

from portable_core.adapters.edge.limits import EdgeLimits

#: Requests up to this size are read whatever is held.
SMALL_BYTES = 64 * 1024


class Unfinished(Protocol):
    """A connection with a request that has not come whole."""

    def hold_up(self) -> None:
        """Read nothing more for the time being."""
        ...

    def let_go(self) -> None:
        """Read again."""
        ...

    def give_up(self) -> None:
        """Answer 503 and close."""
        ...


class BodyBudget:
    """The bytes by connection. Used on the loop's thread."""

    def __init__(self, limits: EdgeLimits) -> None:
        self._pause_at = limits.paused_bytes
        self._most = limits.held_bytes
        self._held: dict[Unfinished, int] = {}  # in the order in which the requests have begun
        self._waiting: dict[Unfinished, None] = {}
        self.total = 0
        #: How many requests were ended to make room.
        self.ended = 0

    def note(self, connection: Unfinished, size: int, *, large: bool) -> None:
        """Note what an unfinished request holds now; ``large``: it has, or will have, much."""
        self.total += size - self._held.get(connection, 0)
        self._held[connection] = size
        while self.total > self._most:
            self.ended += 1
            next(iter(self._held)).give_up()  # this calls forget
        if connection not in self._held:
            return
        if large and self.total > self._pause_at and connection is not next(iter(self._held)):
            self._waiting[connection] = None
            connection.hold_up()

    def forget(self, connection: Unfinished) -> None:
        """Forget a request that is complete, or has ended."""
        size = self._held.pop(connection, None)
        if size is None:
            return
        self.total -= size
        self._waiting.pop(connection, None)
        if self._waiting and (oldest := next(iter(self._held))) in self._waiting:
            self._let_go(oldest)
        if self._waiting and self.total <= self._pause_at // 2:
            self._let_go(next(iter(self._waiting)))

    def _let_go(self, connection: Unfinished) -> None:
        del self._waiting[connection]
        connection.let_go()
