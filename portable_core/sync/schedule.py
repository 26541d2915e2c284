"""Syncs that a master starts by itself, every ``SYNC_EVERY_S``.

Several instances of one master share the work: an instance that finds every slave synced recently,
by whichever instance, waits until a sync is due again. The lease keeps two from syncing at once.
"""

from __future__ import annotations

import logging
import threading

from portable_core.errors import LeaseHeld, LeaseLost, WebhookSyncError
from portable_core.ports import Clock
from portable_core.sync.master import Master
from portable_core.sync.report import read_report

logger = logging.getLogger(__name__)

#: The next attempt after a sync of another instance, and the shortest pause between two syncs.
_SOON_S = 2.0
_LEAST_PAUSE_S = 0.05


class SyncSchedule:
    """Syncs all slaves of ``master`` every ``every_ms`` until it stops."""

    def __init__(self, master: Master, clock: Clock, every_ms: int) -> None:
        self._master = master
        self._clock = clock
        self._every_ms = every_ms
        self._last = float("-inf")
        self._problem = ""

    def start(self) -> None:
        """Start a thread that syncs; it ends with the process, or once the master stops."""
        threading.Thread(target=self.run, name="sync-every", daemon=True).start()

    def run(self) -> None:
        """Sync until the master stops."""
        pause = 0.0
        while not self._master.wait_for_stop(pause):
            pause = max(_LEAST_PAUSE_S, self.step())

    def step(self) -> float:
        """Sync if a sync is due; return the seconds to wait before the next step."""
        every_s, started = self._every_ms / 1000, self._clock.monotonic()
        try:
            wait_s = self._find_wait(started)
            if wait_s > 0:
                return wait_s
            self._last = started
            self._master.sync()
            self._problem = ""
        except (LeaseHeld, LeaseLost):
            return min(_SOON_S, every_s)
        except WebhookSyncError as error:
            self._warn(f"{error.title}: {error}")
        except Exception:  # the next sync may succeed, and nothing else starts one
            logger.exception("a scheduled sync ended with an unexpected error")
        return every_s - (self._clock.monotonic() - started)

    def _find_wait(self, monotonic: float) -> float:
        """Return the seconds until a sync is due: since the last one of any instance, and of this.

        A date that jumps back delays no sync by more than ``every_ms``.
        """
        states, every_s = self._master.slave_states(), self._every_ms / 1000
        turns = [read_report(states[name]).started for name in self._master.clients]
        passed_s = (self._clock.now() - min(turns)) / 1000
        own_s = every_s - (monotonic - self._last)
        return max(own_s, every_s - passed_s if passed_s >= 0 else 0.0)

    def _warn(self, problem: str) -> None:
        if problem != self._problem:
            logger.warning("a scheduled sync failed: %s", problem)
        self._problem = problem
