"""A thread in which a store works in the background: it checks files, or indexes them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from portable_core.errors import StoreError

logger = logging.getLogger(__name__)

#: Seconds until the next attempt after an error.
_RETRY_S = 10.0


class Checker:
    """Calls ``check`` until it is stopped. ``check`` returns the seconds to wait."""

    def __init__(self, check: Callable[[], float], name: str = "sqlite-check") -> None:
        self._check = check
        self._name = name
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def stop(self, wait_s: float) -> None:
        """Stop; wait so long at most, because a check may hang with its disk."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(max(wait_s, 0))

    def rest(self, seconds: float) -> None:
        """Wait within a check, until it is stopped."""
        self._stopping.wait(seconds)

    def _run(self) -> None:
        wait_s = 0.0
        while not self._stopping.wait(wait_s):
            try:
                wait_s = self._check()
            except StoreError as error:
                wait_s = _RETRY_S
                logger.warning("%s: failed, retrying: %s", self._name, error)
