"""The composition root: the one place that builds a node from its parts.

Adapters are imported where they are chosen: a slave on SQLite loads nothing of Firestore. Nothing
is opened, locked or started here outside the process that serves: it happens with the first
request, or at once where this is known to be that process.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, cast

from portable_core.adapters.system_clock import SystemClock
from portable_core.errors import SettingsError, StoreError
from portable_core.extras import check_extras
from portable_core.forwarding import build_dead_letters
from portable_core.ingest.receiver import Receiver
from portable_core.ingest.refusals import Refusals
from portable_core.log_clients import build_log_clients, make_log_master
from portable_core.node import Node, describe_start
from portable_core.ports import SearchIndex
from portable_core.settings import Role, Settings
from portable_core.sync.master import Master
from portable_core.sync.observer import Observer, Observers
from portable_core.sync.slave import Slave
from portable_core.webhooks.arrivals import ArrivalFeed
from portable_core.webhooks.consumers import Consumers
from portable_core.webhooks.names import Names
from portable_core.webhooks.search import Finder
from portable_core.webhooks.terms import Terms

if TYPE_CHECKING:
    from flask import Flask

    from portable_core.adapters.authentication.source_keys import SourceKeys
    from portable_core.adapters.http.client import HttpSlaveClient
    from portable_core.sync.repair import RepairableStore

logger = logging.getLogger(__name__)

#: Longest delay of a container's start by opening the store, in seconds.
_OPENING_S = 5.0

#: Time between two looks for conditions, in seconds. The status, a scrape and the console look too.
_CONDITIONS_S = 15.0


def build_store(settings: Settings, *, read_only: bool = False) -> RepairableStore:
    """Return the store that ``STORE`` names, unopened.

    ``read_only`` leaves it to the process that writes it, where a store has one writer.
    """
    return _STORE_BUILDERS[settings.store.kind.name](settings, read_only)


def _build_memory(settings: Settings, read_only: bool) -> RepairableStore:
    from portable_core.adapters.memory_store import MemoryStore

    return MemoryStore()


def _build_sqlite(settings: Settings, read_only: bool) -> RepairableStore:
    from portable_core.adapters.sqlite import SqliteStore

    return SqliteStore(settings.store.path, read_only=read_only)


def _build_firestore(settings: Settings, read_only: bool) -> RepairableStore:
    from portable_core.adapters.firestore import FirestoreStore

    project, _, database = settings.store.path.partition("/")
    return FirestoreStore(
        project,
        database,
        commit_timeout_ms=settings.commit_timeout_ms,
        native_data=settings.firestore_data,
        ttl_ms=settings.firestore_ttl_ms,
    )


#: By the kind's name: one builder for each row of :data:`.STORE_KINDS`.
_STORE_BUILDERS: Mapping[str, Callable[[Settings, bool], RepairableStore]] = {
    "memory": _build_memory,
    "sqlite": _build_sqlite,
    "firestore": _build_firestore,
}


def build_source_keys(settings: Settings) -> SourceKeys | None:
    """Return the public keys of the sources; None if no sender publishes any. None is fetched."""
    if not settings.sources.key_addresses:
        return None
    from portable_core.adapters.authentication.source_keys import SourceKeys
    from portable_core.adapters.http.tls import make_tls

    return SourceKeys(settings.sources.key_addresses, tls=make_tls(settings.ca_file))


def build_node(
    settings: Settings, observer: Observer | None = None, keys: SourceKeys | None = None
) -> Node:
    """Return a node with these settings; nothing is opened, locked or started yet.

    Raises ``SettingsError`` if a setting needs a package that is not installed.
    """
    from portable_core.adapters.authentication.tokens import build_guard
    from portable_core.adapters.http.tls import make_tls

    check_extras(settings)
    keys = keys or build_source_keys(settings)
    sources = settings.sources.use_keys(keys.find) if keys else settings.sources
    observer, store = observer or Observer(), build_store(settings)
    receiver = Receiver(settings, store, SystemClock(), observer=observer)
    guard = build_guard(settings, make_tls(settings.ca_file))
    slave = Slave(receiver) if settings.role == "slave" else None
    master = feed = consumers = finder = None
    dead_letters = build_dead_letters(settings) if settings.forward_url else None
    if settings.role == "master":
        consumers = Consumers(store, receiver.clock.now, receiver.open)
        logs = build_log_clients(settings, make_log_master(receiver))
        master = Master(
            receiver,
            store,
            [*build_clients(settings), *logs],
            observer=observer,
            find_holds=consumers.find_holds,
            drop_dead_letters=dead_letters.drop_webhook if dead_letters else _drop_nothing,
        )
        # Half of the threads may wait for webhooks; the others serve.
        feed = ArrivalFeed(
            store,
            max(settings.threads // 2, 1),
            monotonic=receiver.clock.monotonic,
            names=Names(settings.sources.rows),
        )
        finder = build_finder(store, settings)
    return Node(
        settings,
        receiver,
        guard.check,
        sources.decide,
        slave=slave,
        master=master,
        feed=feed,
        consumers=consumers,
        finder=finder,
        dead_letters=dead_letters,
        hand_over=partial(_hand_over, slave) if slave and settings.hand_over else None,
        authenticate_slave=guard.check_slave,
        warnings=(*settings.warnings, *filter(None, (guard.warning,))),
        observer=observer,
        refusals=Refusals(settings.sources.names, settings.secrets()),
    )


def build_finder(store: RepairableStore, settings: Settings) -> Finder:
    """Return the searches of a store, which keeps an index for them if it can."""
    names = Names(settings.sources.rows)
    if not isinstance(store, SearchIndex):
        return Finder(store, names)
    terms = Terms(names)
    store.index_by(terms.list, terms.version)
    return Finder(store, names, store)


def _drop_nothing(id_: str, key: str) -> int:
    """Return 0: without ``FORWARD_URL`` there are no dead letters beside the master."""
    return 0


def build_clients(settings: Settings) -> list[HttpSlaveClient]:
    """Return a client for each slave; none is connected yet."""
    from portable_core.adapters.authentication.tokens import build_credentials
    from portable_core.adapters.http.client import HttpSlaveClient
    from portable_core.adapters.http.tls import make_tls

    tls = make_tls(settings.ca_file)
    return [
        HttpSlaveClient(
            slave.name,
            slave.url,
            credentials=build_credentials(settings, slave.name, slave.url),
            idle_s=settings.sync_idle_ms / 1000,
            tls=tls,
        )
        for slave in settings.slaves
    ]


def _hand_over(slave: Slave, drained: threading.Event) -> None:
    from portable_core.adapters.authentication.tokens import build_credentials
    from portable_core.adapters.http.client import HttpMasterClient
    from portable_core.adapters.http.tls import make_tls
    from portable_core.sync.hand_over import HandOver

    settings = slave.receiver.settings
    credentials = build_credentials(settings, "master", settings.hand_over)
    name, tls = settings.node_name, make_tls(settings.ca_file)
    with HttpMasterClient(name, settings.hand_over, credentials, tls=tls) as client:
        HandOver(slave, client.hand_over, slave.receiver.clock).run(drained)


def build_app(
    settings: Settings,
    started: Callable[[Node], None] = lambda node: None,
    *,
    serving: bool = False,
) -> Flask:
    """Return the WSGI application of a node. Each process that serves it calls ``started`` once,
    before its first request.

    With ``serving``, for a process that serves and does not fork, ``started`` is called now, and
    the store is opened; raises ``SettingsError`` for a store made with another ``HASH``.
    """
    from portable_core.adapters.flask_app import create_app
    from portable_core.adapters.http.sender import connect
    from portable_core.adapters.http.tls import make_tls
    from portable_core.adapters.logs import LogObserver
    from portable_core.adapters.metrics import Metrics
    from portable_core.adapters.server.stopping import close_at_exit

    metrics = Metrics(settings, find_version())
    check_extras(settings)
    keys = build_source_keys(settings)
    node = build_node(settings, Observers([LogObserver(), metrics]), keys)
    for warning in node.warnings:
        logger.warning(warning)
    served_by = 0

    def start() -> None:
        nonlocal served_by
        if served_by != os.getpid():
            served_by = os.getpid()
            logger.info("%s", describe_start(settings, find_version()))
            close_at_exit(node.close)
            if keys is not None:
                keys.begin()
            _start_schedule(node)
            started(node)

    connect_there = partial(connect, tls=make_tls(settings.ca_file))
    app = create_app(node, start, partial(metrics.expose, node), connect_there)
    app.extensions[__name__] = start
    if serving:
        start()
        _open_early(node)
    return app


def start_forked(app: Flask) -> None:
    """Call ``started`` of :func:`build_app` now, in the forked process that serves ``app``."""
    app.extensions[__name__]()


def _start_schedule(node: Node) -> None:
    """Start the syncs of ``SYNC_EVERY_S``, if the node is a master with slaves."""
    from portable_core.sync.schedule import SyncSchedule

    every_ms, master = node.settings.sync_every_ms, node.master
    if every_ms is not None and master is not None and master.clients:
        SyncSchedule(master, node.receiver.clock, every_ms).start()


def _watch_conditions(node: Node) -> None:
    """Log when conditions begin and end, with a thread; not where the store bills each look."""

    def watch() -> None:
        while not node.wait_for_stop(_CONDITIONS_S):
            node.find_conditions()

    if not node.receiver.store.shared:
        threading.Thread(target=watch, name="conditions", daemon=True).start()


def find_version() -> str:
    """Return the version of the distribution; ``unknown`` in a folder without one."""
    try:
        return version("webhook-sync")
    except PackageNotFoundError:
        return "unknown"


def _open_early(node: Node) -> None:
    """Open the store. If it is not open in time, opening continues while requests get 503."""
    wrong: list[SettingsError] = []

    def open_store() -> None:
        try:
            node.receiver.open()
        except SettingsError as error:
            wrong.append(error)
        except StoreError as error:
            logger.warning("the store cannot be opened yet; the next request retries: %s", error)

    opening = threading.Thread(target=open_store, name="opening", daemon=True)
    opening.start()
    opening.join(_OPENING_S)
    if wrong:
        raise wrong[0]


def check_role(role: str) -> Role:
    """Return ``role`` if it is valid. Raises ``SettingsError``."""
    if role not in ("slave", "master"):
        raise SettingsError(f"role: must be slave or master (got {role!r})")
    return cast(Role, role)


def read_settings_or_exit(role: str) -> Settings:
    """Return the settings in this process's environment; a wrong one ends it with one line.

    From then on the process logs in the form of :mod:`portable_core.adapters.logs`.
    """
    from portable_core.adapters.logs import configure_logs

    configure_logs()  # an error before the settings are known becomes a line too
    try:
        settings = Settings.from_env(check_role(role), os.environ)
    except SettingsError as error:
        sys.exit(f"webhook-sync: {error}")
    configure_logs(settings.secrets(), settings.google_project)
    return settings


def build_app_or_exit(
    settings: Settings,
    started: Callable[[Node], None] = lambda node: None,
    *,
    serving: bool = False,
) -> Flask:
    """:func:`build_app`; a wrong setting ends the process with one line."""
    from portable_core.adapters.logs import adopt_loggers
    from portable_core.adapters.server.malloc import set_mmap_threshold

    def begin(node: Node) -> None:
        adopt_loggers("gunicorn.error")  # gunicorn sets its loggers up after this module is loaded
        _watch_conditions(node)
        started(node)

    set_mmap_threshold()
    try:
        return build_app(settings, begin, serving=serving)
    except SettingsError as error:
        sys.exit(f"webhook-sync: {error}")
