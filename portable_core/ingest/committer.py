"""A thread that commits what a buffer holds, for callers that do not wait themselves."""

from __future__ import annotations

import logging
import threading
from queue import SimpleQueue

from portable_core.errors import WebhookSyncError
from portable_core.ingest.buffer import Buffer

logger = logging.getLogger(__name__)


class Committer:
    """Flushes a buffer whenever it is notified. Its thread starts with the first notification.

    The futures of the records have the outcome of each commit, so errors are not raised here.
    """

    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer
        self._due: SimpleQueue[None] = SimpleQueue()
        self._notified = False
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
        if not self._notified:
            self._notified = True
            self._due.put(None)

    def stop(self) -> None:
        """End the thread once it is idle; closing the buffer commits what is left."""
        self._stopped = True
        self._due.put(None)

    def _run(self) -> None:
        while True:
            self._due.get()
            self._notified = False  # what is added from now on may miss the flush below
            if self._stopped:
                return
            try:
                self._buffer.flush()
            except WebhookSyncError as error:
                logger.debug("a commit failed: %s", error)
