"""One node: a receiver, its role, and the checks that an adapter makes before calling them.

:mod:`portable_core.wiring` builds it and the web adapter serves it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from portable_core.errors import WebhookSyncError
from portable_core.ingest.outcome import Resolvable
from portable_core.ingest.receiver import NodeStatus, Receiver, find_fill
from portable_core.ingest.refusals import Refusals
from portable_core.ports import SlaveState
from portable_core.records import Meta, Pair
from portable_core.settings import Settings
from portable_core.sources.decision import Decision
from portable_core.sources.request import SourceRequest
from portable_core.sync.conditions import Condition, ConditionLog, NodeView, find_conditions
from portable_core.sync.consumer import ConsumerDocument
from portable_core.sync.floor import read_floor
from portable_core.sync.master import Master
from portable_core.sync.master_marks import MasterMark
from portable_core.sync.observer import Observer
from portable_core.sync.slave import Slave
from portable_core.webhooks.arrivals import ArrivalFeed
from portable_core.webhooks.consumers import Consumers
from portable_core.webhooks.dead_letters import DeadLetters
from portable_core.webhooks.search import Finder

logger = logging.getLogger(__name__)

#: Checks a caller's ``Authorization`` header; raises ``Unauthorized``, ``Forbidden``.
Authenticate = Callable[[str | None], object]

#: The same for a hand-over of the records of the slave of this name.
AuthenticateSlave = Callable[[str | None, str], object]

#: Decides what becomes of a request to a source: source, request, now in ms.
Decide = Callable[[str, SourceRequest, int], Decision]


@dataclass(slots=True, eq=False)
class Node:
    """``slave`` is set, or ``master`` with ``feed``, ``consumers`` and ``finder``, as the role
    says; ``dead_letters`` with ``FORWARD_URL``.

    ``hand_over`` sends the records of a slave's ephemeral store to the master, from the stop until
    the event says that no more will come; None where no hand-over is needed. ``warnings`` are for
    the log of the process that starts this node.
    """

    settings: Settings
    receiver: Receiver
    authenticate: Authenticate
    decide: Decide
    slave: Slave | None = None
    master: Master | None = None
    feed: ArrivalFeed | None = None
    consumers: Consumers | None = None
    finder: Finder | None = None
    dead_letters: DeadLetters | None = None
    hand_over: Callable[[threading.Event], object] | None = None
    authenticate_slave: AuthenticateSlave | None = None
    warnings: tuple[str, ...] = ()
    observer: Observer = field(default_factory=Observer)
    refusals: Refusals = field(default_factory=Refusals)
    _condition_log: ConditionLog = field(default_factory=ConditionLog)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _drained: threading.Event = field(default_factory=threading.Event)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _handing_over: threading.Thread | None = None
    _closed: bool = False

    def require_finder(self) -> Finder:
        """Return the searches of a master."""
        assert self.finder is not None  # noqa: S101 -- only a master's routes search
        return self.finder

    def receive(self, payload: bytes, meta: Meta) -> Pair:
        """Keep one webhook, and apply retention; see :meth:`Receiver.receive`."""
        pair = self.receiver.receive(payload, meta)
        self.retain()
        return pair

    def retain(self) -> None:
        """Remove the records that retention allows, if that is due."""
        if self.slave is not None:
            self.slave.retain()
        if self.master is not None:
            self.master.retention.retain()

    def submit_to(self, outcome: Resolvable[Pair], payload: bytes, meta: Meta) -> None:
        """Add one webhook; see :meth:`Receiver.submit_to`. Retention is the caller's."""
        self.receiver.submit_to(outcome, payload, meta)

    def refuse(self, source: str, error: WebhookSyncError) -> None:
        """Note that a webhook is refused with this error; log it at a bounded rate."""
        line = self.refusals.note(source, error, self.receiver.clock.now())
        if line is not None:
            logger.warning("%s", line)

    def find_conditions(self, view: NodeView | None = None) -> list[Condition]:
        """Return what is wrong with this node, and log what has begun or ended since the last call.

        ``view`` is what :meth:`look` has just returned, if the caller needs it too.
        """
        conditions = find_conditions(self.look() if view is None else view)
        for line in self._condition_log.update(conditions):
            logger.warning("%s", line)
        return conditions

    def look(self) -> NodeView:
        """Return the state from which conditions are found.

        Raises nothing: a store that cannot be used is a part of it.
        """
        settings = self.settings
        problem: WebhookSyncError | None = None
        status: NodeStatus | None = None
        slaves: dict[str, SlaveState] | None = None
        gone: dict[str, SlaveState] = {}
        masters: list[MasterMark] = []
        consumers: Sequence[ConsumerDocument] = ()
        dead_letters = 0
        floor = 0
        waits: Mapping[str, str] = {}
        try:
            self.receiver.check()
        except WebhookSyncError as error:
            problem = error
        try:
            status = self.receiver.status()
            if self.master is not None:
                gone = self.master.slave_states()
                slaves = {name: gone.pop(name) for name in self.master.clients}
                floor = read_floor(self.master.store)
                waits = self.master.retention.describe_waits()
            if self.consumers is not None:
                consumers = self.consumers.describe()
            if self.dead_letters is not None:
                dead_letters = self.dead_letters.count()
            if self.slave is not None:
                masters = self.slave.describe_masters()
        except WebhookSyncError as error:
            problem, status = problem or error, None
        return NodeView(
            now=self.receiver.clock.now(),
            span_ms=settings.span_ms,
            late_ms=settings.console_late_ms,
            problem=problem,
            status=status,
            slaves=slaves,
            masters=masters,
            refusals=self.refusals.list_all(),
            sources=settings.sources.names,
            fill=0.0 if status is None else find_fill(status.buffer, settings),
            consumers=consumers,
            gone=gone,
            dead_letters=dead_letters,
            floor=floor,
            waits=waits,
        )

    def wait_for_stop(self, seconds: float) -> bool:
        """Return whether this node is stopping, at the latest after so many seconds."""
        return self._stopping.wait(seconds)

    @property
    def stopping(self) -> bool:
        """Whether this node is stopping: responses under way end at the next chunk."""
        return self._stopping.is_set()

    def check_slave(self, authorization: str | None, slave: str) -> None:
        """Return if the caller may hand over the records of ``slave``; raise the reason if not."""
        if self.authenticate_slave is None:
            self.authenticate(authorization)
        else:
            self.authenticate_slave(authorization, slave)

    def stop(self) -> None:
        """End long operations at their next step, start the hand-over, and return at once.

        Webhooks are still accepted until the server stops.
        """
        with self._lock:
            if self._stopping.is_set():
                return
            self._stopping.set()
            self.receiver.flush_soon()
            if self.master is not None:
                self.master.stop()
            if self.hand_over is not None:
                self._handing_over = threading.Thread(
                    target=self.hand_over, args=(self._drained,), name="hand-over", daemon=True
                )
                self._handing_over.start()

    def close(self) -> None:
        """Commit waiting webhooks, complete the hand-over, close the store. Log what fails.

        Idempotent; a second caller returns when the first one is done.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self.stop()
            for step in (self._finish, self.receiver.close):
                try:
                    step()
                except WebhookSyncError as error:
                    logger.error("while stopping: %s: %s", error.title, error)

    def _finish(self) -> None:
        if self.master is not None:
            self.master.close()
        try:
            self.receiver.drain()
        finally:
            self._drained.set()
            if self._handing_over is not None:
                self._handing_over.join()


def describe_start(settings: Settings, version: str) -> str:
    """Return the log line of a start: what the node is, and whom it knows, without secrets."""
    store = f"{settings.store.kind.name}:{settings.store.path}"
    parts = [f"store {store}", f"authentication {', '.join(settings.sync_auth)}"]
    sources = [name or "(none)" for name in sorted(settings.sources.names)]
    parts.append(f"sources {', '.join(sources) or 'all, unsigned'}")
    if settings.role == "master":
        slaves = [f"{slave.name} {slave.url}" for slave in settings.slaves]
        parts.append(f"slaves {', '.join(slaves) or 'none'}")
        logs = [f"{log.name} {log.place}" for log in settings.provider_logs.logs.values()]
        parts += [f"delivery logs {', '.join(logs)}"] * bool(logs)
        every_ms = settings.sync_every_ms
        parts.append(
            "syncs on request" if every_ms is None else f"a sync every {every_ms / 1000:g} s"
        )
        parts.append(f"console {'on' if settings.console_token else 'off'}")
    return f"started: {settings.role} {version}, {'; '.join(parts)}"
