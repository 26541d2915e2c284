"""Threads for what may not run on the event loop."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

logger = logging.getLogger(__name__)

Job = Callable[[], object]


class Pool:
    """At most ``threads`` threads, started when needed, ended after ``idle_s`` without a job.

    At most ``waiting`` jobs wait for a thread.
    """

    def __init__(self, threads: int, waiting: int = 1024, idle_s: float = 30.0) -> None:
        self._threads = threads
        self._most = waiting
        self._idle_s = idle_s
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._idle = self._count = 0

    def submit(self, job: Job) -> bool:
        """Run a job in a thread. Returns False if too many wait already."""
        with self._changed:
            if len(self._jobs) >= self._most:
                return False
            self._jobs.append(job)
            if self._idle >= len(self._jobs):
                self._changed.notify()
            elif self._count < self._threads:
                self._count += 1
                threading.Thread(target=self._run, daemon=True, name="request").start()
            return True

    def _run(self) -> None:
        while (job := self._next()) is not None:
            try:
                job()
            except Exception:  # the thread serves other requests
                logger.exception("a request failed unexpectedly")

    def _next(self) -> Job | None:
        """Return the next job; None ends the thread."""
        with self._changed:
            self._idle += 1
            while not self._jobs:
                if not self._changed.wait(self._idle_s) and not self._jobs:
                    self._idle -= 1
                    self._count -= 1
                    return None
            self._idle -= 1
            return self._jobs.popleft()
