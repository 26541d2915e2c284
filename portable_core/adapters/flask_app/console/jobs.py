"""The console's running work: at most one sync, and some replays.

Each runs in a thread of its own, to its end, even if no page shows it. The work belongs to this
process: another instance of the same master shows its own.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping

import msgspec

from portable_core.errors import NotFound, Unavailable, WebhookSyncError
from portable_core.sync.advice import advise
from portable_core.sync.report import SlaveReport, SyncReport
from portable_core.webhooks.replay import Replay, ReplayStatus

logger = logging.getLogger(__name__)

#: Newest runs that are remembered, and runs at the same time.
MAX_REPLAYS = 20
MAX_RUNNING = 2

_WAIT_S = 0.5


class SyncState(msgspec.Struct, frozen=True):
    """The state of a sync; also the document of the events for the console's script.

    - ``ok``: whether every slave was synced; null until the sync has ended.
    - ``problem``: the reason why no sync could be run; ``advice``: what to do about it.
    - ``slaves``: the reports so far, by name.
    """

    running: bool = False
    ok: bool | None = None
    problem: str = ""
    advice: str = ""
    slaves: Mapping[str, SlaveReport] = {}


Run = Callable[[Callable[[SlaveReport], None]], SyncReport]


class SyncJob:
    """The last sync that was started from this console."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._changed = threading.Condition()
        self._state = SyncState()
        self._version = 0

    @property
    def state(self) -> SyncState:
        with self._changed:
            return self._state

    def start(self) -> None:
        """Start a sync, unless one is running."""
        with self._changed:
            if self._state.running:
                return
            self._set(SyncState(running=True))
        threading.Thread(target=self._work, name="console-sync", daemon=True).start()

    def _work(self) -> None:
        ok, problem, kind = False, "Internal error: the sync ended early", WebhookSyncError.__name__
        try:
            report = self._run(self._progress)
            ok, problem, kind = report.ok, "", ""
        except WebhookSyncError as error:
            problem, kind = f"{error.title}: {error}", type(error).__name__
        except Exception:
            logger.exception("a sync from the console ended with an unexpected error")
        with self._changed:
            self._set(SyncState(False, ok, problem, advise(kind), self._state.slaves))

    def _progress(self, report: SlaveReport) -> None:
        with self._changed:
            slaves = {**self._state.slaves, report.slave: report}
            self._set(SyncState(running=True, slaves=slaves))

    def _set(self, state: SyncState) -> None:
        self._state = state
        self._version += 1
        self._changed.notify_all()

    def watch(self, stopping: Callable[[], bool]) -> Iterator[SyncState]:
        """Yield the state now and after each change, until the sync has ended."""
        seen = -1
        while not stopping():
            with self._changed:
                if self._version == seen:
                    self._changed.wait(_WAIT_S)
                state, version = self._state, self._version
            if version != seen:
                seen = version
                yield state
            if not state.running:
                return
            threading.Event().wait(_WAIT_S / 5)


class Replays:
    """The replays of this process, newest first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: OrderedDict[str, Replay] = OrderedDict()

    def start(self, replay: Replay) -> str:
        """Start a run and return its name. Raises ``Unavailable`` if too many are running."""
        with self._lock:
            running = [run for run in self._runs.values() if run.status().state == "running"]
            if len(running) >= MAX_RUNNING:
                raise Unavailable(
                    f"{MAX_RUNNING} replays are running. Wait until one ends, or stop one."
                )
            name = secrets.token_hex(6)
            self._runs[name] = replay
            for old in list(self._runs):
                if len(self._runs) > MAX_REPLAYS and self._runs[old].status().state != "running":
                    del self._runs[old]
        threading.Thread(target=replay.run, name="console-replay", daemon=True).start()
        return name

    def get(self, name: str) -> Replay:
        """Return the run of this name. Raises ``NotFound``."""
        with self._lock:
            if name not in self._runs:
                raise NotFound(
                    "this process has no replay of that name. The master may have been restarted."
                )
            return self._runs[name]

    def list_all(self) -> list[tuple[str, Replay]]:
        with self._lock:
            return list(reversed(self._runs.items()))

    def watch(self, name: str, stopping: Callable[[], bool]) -> Iterator[ReplayStatus]:
        """Yield the status now and twice a second, until the run has ended."""
        replay = self.get(name)
        while not stopping():
            status = replay.status()
            yield status
            if status.state != "running":
                return
            threading.Event().wait(_WAIT_S)
