"""The composition root: the one place that reads settings and builds a role from its parts.

Adapters are imported where they are chosen, so that a slave on SQLite loads nothing of Firestore.
Nothing is opened, locked or started here before that happens in the process that serves: with its
first request, or at once where it is known to be that process.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

from portable_core.adapters.system_clock import SystemClock
from portable_core.errors import SettingsError, StoreError
from portable_core.ingest.receiver import Receiver
from portable_core.node import Node
from portable_core.ports import MasterStore
from portable_core.settings import Role, Settings
from portable_core.sync.master import Master
from portable_core.sync.report import SyncReport
from portable_core.sync.slave import Slave

if TYPE_CHECKING:
    from flask import Flask

logger = logging.getLogger(__name__)

#: The longest that opening the store may keep a container from listening, in seconds.
_OPENING_S = 5.0


def build_store(settings: Settings) -> MasterStore:
    """The store that ``STORE`` names, unopened."""
    address = settings.store
    if address.kind == "memory":
        from portable_core.adapters.memory_store import MemoryStore

        return MemoryStore()
    if address.kind == "sqlite":
        from portable_core.adapters.sqlite import SqliteStore

        return SqliteStore(address.path)
    from portable_core.adapters.firestore import FirestoreStore

    project, _, database = address.path.partition("/")
    return FirestoreStore(
        project,
        database,
        commit_timeout_ms=settings.commit_timeout_ms,
        native_data=settings.firestore_data,
        ttl_ms=settings.firestore_ttl_ms,
    )


def build_node(role: Role, env: Mapping[str, str]) -> Node:
    """A node of this role. Raises ``SettingsError`` for a wrong or missing setting."""
    from portable_core.adapters.authentication.tokens import build_credentials, build_guard
    from portable_core.sources.signatures import parse_sources

    settings = Settings.from_env(role, env)
    store = build_store(settings)
    receiver = Receiver(settings, store, SystemClock())
    guard = build_guard(settings)
    sources = parse_sources(settings.sources)
    node = Node(settings, receiver, guard.check, sources.verify)
    node.authenticate_slave = guard.check_slave
    node.warning = guard.warning
    if role == "slave":
        node.slave = Slave(receiver)
        if settings.hand_over:
            node.hand_over = partial(_hand_over, node.slave)
    else:
        from portable_core.adapters.http.client import HttpSlaveClient

        clients = [
            HttpSlaveClient(
                slave.name,
                slave.url,
                credentials=build_credentials(settings, slave.name, slave.url),
                idle_s=settings.sync_idle_ms / 1000,
            )
            for slave in settings.slaves
        ]
        node.master = Master(receiver, store, clients)
    return node


def _hand_over(slave: Slave, drained: threading.Event) -> None:
    from portable_core.adapters.authentication.tokens import build_credentials
    from portable_core.adapters.http.client import HttpMasterClient
    from portable_core.sync.hand_over import HandOver

    settings = slave.receiver.settings
    credentials = build_credentials(settings, "master", settings.hand_over)
    with HttpMasterClient(settings.node_name, settings.hand_over, credentials) as client:
        HandOver(slave, client.hand_over, slave.receiver.clock).run(drained)


def build_app(
    role: str,
    env: Mapping[str, str],
    started: Callable[[Node], None] = lambda node: None,
    *,
    serving: bool = False,
) -> Flask:
    """The WSGI application of a node; ``started`` is called in each process that serves it, once,
    before its first request.

    With ``serving``, for a process that will serve and not fork, that is now, and the store is
    opened. Raises ``SettingsError``, then also for a store made with another ``HASH``.
    """
    from portable_core.adapters.flask_app import create_app
    from portable_core.adapters.http.replay_sender import connect
    from portable_core.adapters.server.stopping import close_at_exit

    node = build_node(check_role(role), env)
    if node.warning is not None:
        logger.warning(node.warning)
    served_by = 0

    def start() -> None:
        nonlocal served_by
        if served_by != os.getpid():
            served_by = os.getpid()
            close_at_exit(node.close)
            started(node)

    app = create_app(node, start, build_observer(node), connect)
    if serving:
        start()
        _open_early(node)
    return app


def _open_early(node: Node) -> None:
    """Open the store. One that is not open in time goes on opening while requests get a 503."""
    wrong: list[SettingsError] = []

    def open_store() -> None:
        try:
            node.receiver.open()
        except SettingsError as error:
            wrong.append(error)
        except StoreError as error:
            logger.warning("the store cannot be opened yet, requests will try again: %s", error)

    opening = threading.Thread(target=open_store, name="opening", daemon=True)
    opening.start()
    opening.join(_OPENING_S)
    if wrong:
        raise wrong[0]


@dataclass(frozen=True, slots=True)
class Observer:
    """What watches an application: the logs' traces and the metrics, put together."""

    begin_request: Callable[[Callable[[str], str | None]], None]
    observe_webhook: Callable[[str, str, float], None]
    expose: Callable[[str], tuple[bytes, str]]


def build_observer(node: Node) -> Observer:
    """The metrics of a node, which are counted from now on, and the traces of its requests; a
    master's log tells of the slaves that it could not sync."""
    from portable_core.adapters.logs import begin_request, warn_of_failures
    from portable_core.adapters.metrics import Metrics

    metrics = Metrics(node)
    if node.master is not None:
        count = node.master.on_sync

        def on_sync(report: SyncReport) -> None:
            count(report)
            warn_of_failures(report)

        node.master.on_sync = on_sync
    return Observer(begin_request, metrics.observe_webhook, metrics.expose)


def check_role(role: str) -> Role:
    """``role`` if it is one. Raises ``SettingsError``."""
    if role not in ("slave", "master"):
        raise SettingsError(f"role: must be slave or master, not {role!r}")
    return cast(Role, role)


def build_app_or_exit(
    role: str,
    started: Callable[[Node], None] = lambda node: None,
    *,
    serving: bool = False,
) -> Flask:
    """:func:`build_app` from this process's environment; a wrong setting ends it with one line.

    From then on the process logs in the form of :mod:`portable_core.adapters.logs`, and gives the
    memory of large payloads back.
    """
    from portable_core.adapters.logs import adopt_loggers, configure_logs
    from portable_core.adapters.server.malloc import set_mmap_threshold

    def begin(node: Node) -> None:
        adopt_loggers("gunicorn.error")  # gunicorn sets its loggers up after this module is loaded
        started(node)

    configure_logs(os.environ)
    set_mmap_threshold()
    try:
        return build_app(role, os.environ, begin, serving=serving)
    except SettingsError as error:
        sys.exit(f"webhook-sync: {error}")
