"""Examine a node before or while it runs: ``webhook-sync doctor``.

It finds what ``serve --check`` finds, and asks each slave whether a sync would work. Nothing is
written, locked or listened on, so a node with the same settings may be running.
"""

from __future__ import annotations

import resource
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Literal

import msgspec

from portable_core.adapters.http.client import HttpSlaveClient
from portable_core.errors import Unavailable, WebhookSyncError
from portable_core.ingest.identifier import Identifier
from portable_core.ingest.receiver import name_algorithm
from portable_core.log_clients import make_log
from portable_core.ports import wait_on
from portable_core.preflight import check_node
from portable_core.settings import Role, Settings
from portable_core.sync.advice import advise
from portable_core.sync.agreement import check_agreement
from portable_core.sync.clocks import NodeTime, diagnose
from portable_core.text import format_size
from portable_core.wiring import build_clients, build_source_keys, find_version

#: Less free space than this part of the disk, and fewer descriptors, are warnings.
LEAST_FREE = 0.05
LEAST_DESCRIPTORS = 4096

Level = Literal["ok", "warning", "fault"]


class Finding(msgspec.Struct, frozen=True):
    """A line of the result: ``subject`` is what was examined."""

    level: Level
    subject: str
    text: str


def examine(role: Role, env: Mapping[str, str], host: str | None = None) -> Iterator[Finding]:
    """Yield what was found about a node that is started like this."""
    yield Finding("ok", "version", f"webhook-sync {find_version()}")
    faults, warnings = check_node(role, env, host)
    for text in faults:
        yield Finding("fault", "settings", text)
    for text in warnings:
        yield Finding("warning", "settings", text)
    if faults:
        return
    settings = Settings.from_env(role, env)
    yield Finding("ok", "settings", f"a {role} would start")
    yield from _examine_disk(settings)
    yield _examine_descriptors()
    yield from _examine_keys(settings)
    if role == "master":
        yield from _examine_slaves(settings)
        yield from _examine_logs(settings)


def _examine_disk(settings: Settings) -> Iterator[Finding]:
    if settings.store.kind.name != "sqlite":
        return
    folder = Path(settings.store.path).absolute()
    while not folder.exists():
        folder = folder.parent
    usage = shutil.disk_usage(folder)
    level: Level = "ok" if usage.free > LEAST_FREE * usage.total else "warning"
    yield Finding(level, "disk", f"{format_size(usage.free)} free of {format_size(usage.total)}")


def _examine_descriptors() -> Finding:
    """Examine the limit to which a node raises its own at the start."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard >= LEAST_DESCRIPTORS:
        return Finding("ok", "open files", f"a limit of {hard}")
    text = f"a limit of {hard}: raise it (ulimit -Hn), each connection needs one"
    return Finding("warning", "open files", text)


def _examine_keys(settings: Settings) -> Iterator[Finding]:
    """Fetch the public keys with which senders sign."""
    keys = build_source_keys(settings)
    for address in sorted(settings.sources.key_addresses):
        assert keys is not None  # noqa: S101  # there are addresses
        try:
            count = keys.count(address)
        except Unavailable as error:
            text = f"{address}: {error.__cause__}. Webhooks of its sources get a 503."
            yield Finding("fault", "keys", text)
        else:
            yield Finding("ok" if count else "fault", "keys", f"{address}: {count} keys")


def _examine_slaves(settings: Settings) -> Iterator[Finding]:
    if not settings.slaves:
        yield Finding("warning", "slaves", "none: list them in SLAVES as name=url,name=url")
    for client in build_clients(settings):
        with client:
            yield from _examine_slave(settings, client)


def _examine_logs(settings: Settings) -> Iterator[Finding]:
    """Request the newest page of each delivery log."""
    for configured in settings.provider_logs.logs.values():
        subject = f"log {configured.name}"
        end = time.time_ns() // 1_000_000 - configured.delay_ms
        with closing(make_log(settings, configured)) as log:
            try:
                log.list_entries(end - 1, end, wait_on)
            except WebhookSyncError as error:
                yield Finding("fault", subject, f"{error} {advise(type(error).__name__)}".strip())
            else:
                yield Finding("ok", subject, f"{configured.label} can be read")


def _examine_slave(settings: Settings, client: HttpSlaveClient) -> Iterator[Finding]:
    subject = f"slave {client.name}"
    identifier = Identifier(settings.hash, settings.hash_key, settings.sources.rules)
    before = time.time_ns() // 1_000_000
    try:
        info = client.describe()
        after = time.time_ns() // 1_000_000
        check_agreement(settings, name_algorithm(settings), identifier, info)
    except WebhookSyncError as error:
        yield Finding("fault", subject, f"{error} {advise(type(error).__name__)}".strip())
        return
    yield Finding("ok", subject, "reachable; span, hash and identity rules agree")
    clock = min(max(info.now if info.clock is None else info.clock, before), after)
    here = NodeTime(clock, min(max(info.now, before), after))
    found = diagnose(here, NodeTime(info.clock, info.now), (), settings.span_ms)
    if found is not None:
        yield Finding("fault" if found.fails else "warning", subject, found.text)
