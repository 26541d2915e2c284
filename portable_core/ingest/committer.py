"""A thread that commits what a buffer holds, for callers that do not wait themselves."""

from __future__ import annotations

import logging
import threading

from portable_core.errors import WebhookSyncError
from portable_core.ingest.buffer import Buffer

logger = logging.getLogger(__name__)


class Committer:
    """Flushes a buffer whenever it is notified. Its thread starts with the first notification.

    The futures of the records have the outcome of each commit, so errors are not raised here.
    """

    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer
        self._due = threading.Event()
        self._stopped = False
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def notify(self) -> None:
        """Note that records were added to the buffer. Returns at once."""
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="committer", daemon=True)
                    self._thread.start()
        self._due.set()

    def stop(self) -> None:
        """End the thread once it is idle; closing the buffer commits what is left."""
        self._stopped = True
        self._due.set()

    def _run(self) -> None:
        while True:
            self._due.wait()
            self._due.clear()
            if self._stopped:
                return
            try:
                self._buffer.flush()
            except WebhookSyncError as error:
                logger.debug("a commit failed: %s", error)
