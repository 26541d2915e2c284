"""A provider's delivery log beside the store of a master, for commands that run on its machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from portable_core.adapters.system_clock import SystemClock
from portable_core.errors import BadRequest, SettingsError
from portable_core.ingest.identifier import Identifier
from portable_core.ingest.receiver import name_algorithm
from portable_core.log_clients import build_log_clients, make_log
from portable_core.ports import DeliveryLog, Milliseconds, SlaveInfo, Store, SyncRequest
from portable_core.records import Record
from portable_core.settings import Settings
from portable_core.sync.provider_log import LogMaster, ProviderLogClient
from portable_core.wire.negotiation import ENCODINGS, read_stream
from portable_core.wiring import build_store

_ENCODING = next(iter(ENCODINGS.values()))


def read_settings(env: Mapping[str, str], name: str) -> Settings:
    """Return the settings of a master, with one of its logs alone.

    Raises ``BadRequest`` for a name that ``PROVIDER_LOGS`` lacks.
    """
    settings = Settings.from_env("master", env)
    logs = settings.provider_logs.logs
    if name not in logs:
        known = ", ".join(logs) or "none"
        raise BadRequest(f"no delivery log is named {name!r}. PROVIDER_LOGS has: {known}.")
    return replace(settings, provider_logs=replace(settings.provider_logs, logs={name: logs[name]}))


@contextmanager
def open_log(settings: Settings) -> Iterator[DeliveryLog]:
    """Open the only log of these settings, for the deliveries that failed."""
    (configured,) = settings.provider_logs.logs.values()
    with closing(make_log(settings, replace(configured, read_all=False))) as log:
        yield log


class LogComparison(NamedTuple):
    """A log and a store, which another process may be writing. Nothing is changed."""

    client: ProviderLogClient
    info: SlaveInfo
    store: Store

    def find_missing(self, start: Milliseconds, end: Milliseconds) -> Iterator[Record]:
        """Yield the records of the window that are not represented in the store, in order."""
        while start < end:
            pairs = self.store.pairs(max(0, start - self.info.span), end + self.info.span)
            request = SyncRequest(
                start,
                end,
                self.info.span,
                self.info.hash,
                _ENCODING.media_type,
                _ENCODING.encode_pairs(pairs),
                compare_only=True,
            )
            with self.client.exchange(request) as answer:
                yield from read_stream(_ENCODING.read_records(), answer.chunks)
                if answer.through <= start:
                    return
                start = answer.through


@contextmanager
def open_comparison(settings: Settings) -> Iterator[LogComparison]:
    """Open the store of a master without becoming its writer, and the only log of its settings."""
    kind = settings.store.kind
    if not kind.outlives_process:
        raise SettingsError(f"STORE: {kind.name}: is only in the master's process (STORE=sqlite:…)")
    if kind.name == "sqlite" and not Path(settings.store.path).is_dir():
        raise SettingsError(f"STORE: there is no store in {settings.store.path}")
    algorithm = name_algorithm(settings)
    identifier = Identifier(settings.hash, settings.hash_key, settings.sources.rules)
    with closing(build_store(settings, read_only=True)) as store:
        store.open(algorithm)
        master = LogMaster(settings, store, algorithm, identifier, SystemClock().now)
        (client,) = build_log_clients(settings, master)
        with client:
            yield LogComparison(client, client.describe(), store)
