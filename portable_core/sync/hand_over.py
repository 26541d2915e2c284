"""The hand-over of a stopping slave whose store ends with its process.

The slave sends the records that the master may lack, in order, in requests small enough to be
confirmed one by one. It begins as soon as the node stops, while the server still finishes its
requests, and begins another round whenever more records have come meanwhile, so that the last round
is short.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator

from portable_core.errors import HandOverFailed, WebhookSyncError
from portable_core.ports import Clock, Milliseconds
from portable_core.records import MAX_INTEGER, Pair, Record
from portable_core.sync.report import HandOverReport
from portable_core.sync.slave import Slave
from portable_core.wire.negotiation import ENCODINGS, Encoding

logger = logging.getLogger(__name__)

#: The longest that a hand-over may take, in seconds. (Cloud Run kills ten seconds after SIGTERM.)
HAND_OVER_S = 7.0

#: Sends records, encoded as this media type, within so many seconds, and returns once the master
#: has confirmed them. Raises ``HandOverFailed``.
Send = Callable[[Iterable[bytes], str, float], HandOverReport]

#: Bytes of payload in the first request, and at most. A quickly confirmed request doubles the next.
FIRST_BYTES = 256 * 1024
MAX_BYTES = 16 * 2**20
_QUICK_S = 0.5

_ROUND_S = 0.25


class HandOver:
    """One hand-over. Failures are logged, not raised: a node that is being stopped has to end."""

    def __init__(
        self, slave: Slave, send: Send, clock: Clock, *, total_s: float = HAND_OVER_S
    ) -> None:
        self._slave = slave
        self._send = send
        self._clock = clock
        self._deadline = clock.monotonic() + total_s
        self._encoding: Encoding = next(iter(ENCODINGS.values()))
        self._bytes = FIRST_BYTES
        self._after: Pair | None = None  # the last pair that the master has confirmed
        self.sent = 0

    def run(self, drained: threading.Event) -> bool:
        """Hand over until ``drained`` is set (no more records will come), and once more after that.

        Returns whether the master has confirmed all records.
        """
        try:
            last = drained.is_set()
            self._send_until(self._find_end(last=last))
            while not last:
                last = drained.wait(_ROUND_S)
                self._send_until(self._find_end(last=last))
        except WebhookSyncError as error:
            rest = self._describe_rest()
            logger.error("the master may lack %s: %s: %s", rest, error.title, error)
            return False
        logger.info("%d records handed over to the master", self.sent)
        return True

    def _find_end(self, *, last: bool) -> Milliseconds:
        """Return the time before which all records can be sent; in the ``last`` round all can."""
        receiver = self._slave.receiver
        try:
            receiver.flush()
        except WebhookSyncError as error:
            logger.error("webhooks that wait for the store are not handed over: %s", error)
        return MAX_INTEGER if last else receiver.horizon()

    def _send_until(self, end: Milliseconds) -> None:
        """Send all records before ``end`` that the master has not confirmed."""
        while True:
            part = _Part(self._slave.hand_over(self._after, end))
            if part.empty:
                return
            self._send_part(part)

    def _send_part(self, part: _Part) -> None:
        """Send one request. If the master is busy, wait and return; the caller tries again."""
        started = self._clock.monotonic()
        if started >= self._deadline:
            raise HandOverFailed("the time for the hand-over is used up")
        try:
            chunks = self._encoding.encode_records(part.read(self._bytes))
            report = self._send(chunks, self._encoding.media_type, self._deadline - started)
        except WebhookSyncError as error:
            rest = self._deadline - self._clock.monotonic()
            if error.retry_after is None or error.retry_after >= rest:
                raise
            logger.warning("the hand-over is retried: %s: %s", error.title, error)
            self._bytes = max(FIRST_BYTES, self._bytes // 2)
            self._clock.sleep(error.retry_after)
            return
        if report.refused:
            logger.error(
                "the master lacks %d records: they are invalid, and its quarantine is full",
                report.refused,
            )
        self._after = part.last
        self.sent += part.count
        if self._clock.monotonic() - started < _QUICK_S:
            self._bytes = min(2 * self._bytes, MAX_BYTES)

    def _describe_rest(self) -> str:
        try:
            count = self._slave.count_to_hand_over(self._after)
        except WebhookSyncError:
            return "records that cannot be read"
        return f"{count} records that were not handed over"


class _Part:
    """The records of one request, from an iterator over all that remain."""

    def __init__(self, records: Iterator[Record]) -> None:
        self._records = records
        self._next = next(records, None)
        self.last: Pair | None = None
        self.count = 0

    @property
    def empty(self) -> bool:
        return self._next is None

    def read(self, most: int) -> Iterator[Record]:
        """Return at least one record, and no more after ``most`` bytes."""
        size = 0
        while self._next is not None and size < most:
            record, size = self._next, size + self._next.size
            self.last, self.count = record.pair, self.count + 1
            yield record
            self._next = next(self._records, None)
