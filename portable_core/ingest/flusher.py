"""Commits acknowledged webhooks in the background (``ACK=buffered``)."""

from __future__ import annotations

import logging
import threading

from portable_core.errors import WebhookSyncError
from portable_core.ingest.buffer import Buffer

logger = logging.getLogger(__name__)

_FLUSH_SOON_S = 0.2


class Flusher:
    """Flushes a buffer every ``interval_s``, or sooner if it is half full.

    Its thread starts with the first webhook.
    """

    def __init__(self, buffer: Buffer, interval_s: float) -> None:
        self._buffer = buffer
        self._interval_s = interval_s
        self._due = threading.Event()
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def notify(self) -> None:
        """Note that a webhook was added to the buffer."""
        if self._thread is None:
            with self._lock:
                if self._thread is None and not self._stopped.is_set():
                    self._thread = threading.Thread(target=self._run, name="flusher", daemon=True)
                    self._thread.start()
        if self._buffer.half_full:
            self._due.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._due.wait(self._interval_s)
            self._due.clear()
            try:
                self._buffer.flush()
            except WebhookSyncError as error:
                logger.error("acknowledged webhooks still wait for the store: %s", error)
                self._stopped.wait(self._interval_s)

    def flush_soon(self) -> None:
        """Flush now, and often from now on."""
        self._interval_s = min(self._interval_s, _FLUSH_SOON_S)
        self._due.set()

    def stop(self) -> None:
        """End the thread. Closing the buffer commits the rest."""
        self._stopped.set()
        self._due.set()
