"""Handing over: what a slave does whose store dies with it, from the moment it is told to stop.

It sends the master everything that a master may lack, in order, in requests that are small enough
to be confirmed one by one. It begins at once, while the server still finishes what it is working
on, and takes another round whenever more has come meanwhile, so that the last round has little to
do.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator

from portable_core.errors import HandOverFailed, WebhookSyncError
from portable_core.ports import Clock, Milliseconds
from portable_core.records import MAX_INTEGER, Pair, Record
from portable_core.sync.slave import Slave
from portable_core.wire.negotiation import ENCODINGS, Encoding

logger = logging.getLogger(__name__)

#: How long all of it may take, in seconds. (Cloud Run kills ten seconds after SIGTERM.)
HAND_OVER_S = 7.0

#: Sends records, encoded as this media type, within so many seconds, and returns once the master
#: has confirmed them. Raises ``HandOverFailed``.
Send = Callable[[Iterable[bytes], str, float], object]

#: Bytes of payload in the first request. Requests that are confirmed quickly let the next one grow.
FIRST_BYTES = 256 * 1024
MAX_BYTES = 16 * 2**20
_QUICK_S = 0.5

_ROUND_S = 0.25


class HandOver:
    """Made for one use. Whatever fails is logged: a node that is being stopped has to end."""

    def __init__(
        self, slave: Slave, send: Send, clock: Clock, *, total_s: float = HAND_OVER_S
    ) -> None:
        self._slave = slave
        self._send = send
        self._clock = clock
        self._deadline = clock.monotonic() + total_s
        self._encoding: Encoding = next(iter(ENCODINGS.values()))
        self._bytes = FIRST_BYTES
        self._after: Pair | None = None  # the last one that the master has confirmed
        self.sent = 0

    def run(self, drained: threading.Event) -> bool:
        """Hand over until ``drained`` says that nothing more will come, and once more after that.

        Returns whether the master has confirmed everything.
        """
        try:
            last = drained.is_set()
            self._send_until(self._find_end(last=last))
            while not last:
                last = drained.wait(_ROUND_S)
                self._send_until(self._find_end(last=last))
        except WebhookSyncError as error:
            logger.error("%s not handed over: %s: %s", self._count_left(), error.title, error)
            return False
        logger.info("%d records are handed over to the master", self.sent)
        return True

    def _find_end(self, *, last: bool) -> Milliseconds:
        """Everything before it is committed and can be sent; in the ``last`` round that is all."""
        receiver = self._slave.receiver
        try:
            receiver.flush()
        except WebhookSyncError as error:
            logger.error("what waits for the store cannot be handed over: %s", error)
        return MAX_INTEGER if last else receiver.horizon()

    def _send_until(self, end: Milliseconds) -> None:
        while True:
            part = _Part(self._slave.hand_over(self._after, end))
            if part.empty:
                return
            self._send_part(part)

    def _send_part(self, part: _Part) -> None:
        """Send one request; try again later where the master cannot take it now."""
        started = self._clock.monotonic()
        if started >= self._deadline:
            raise HandOverFailed("there was not enough time")
        try:
            chunks = self._encoding.encode_records(part.take(self._bytes))
            self._send(chunks, self._encoding.media_type, self._deadline - started)
        except WebhookSyncError as error:
            rest = self._deadline - self._clock.monotonic()
            if error.retry_after is None or error.retry_after >= rest:
                raise
            logger.warning("handing over, to be tried again: %s: %s", error.title, error)
            self._bytes = max(FIRST_BYTES, self._bytes // 2)
            self._clock.sleep(error.retry_after)
            return
        self._after = part.last
        self.sent += part.count
        if self._clock.monotonic() - started < _QUICK_S:
            self._bytes = min(2 * self._bytes, MAX_BYTES)

    def _count_left(self) -> str:
        try:
            left = self._slave.count_to_hand_over(self._after)
        except WebhookSyncError:
            return "records that cannot be read are"
        return f"{left} records, which the master may lack, are"


class _Part:
    """The records of one request, from an iterator over all that is left."""

    def __init__(self, records: Iterator[Record]) -> None:
        self._records = records
        self._next = next(records, None)
        self.last: Pair | None = None
        self.count = 0

    @property
    def empty(self) -> bool:
        return self._next is None

    def take(self, most: int) -> Iterator[Record]:
        """At least one record, and no more after ``most`` bytes."""
        size = 0
        while self._next is not None and size < most:
            record, size = self._next, size + self._next.size
            self.last, self.count = record.pair, self.count + 1
            yield record
            self._next = next(self._records, None)
