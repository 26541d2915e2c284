"""The clients of a master's delivery logs, built from the settings.

A master without a log imports none of the adapters for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from portable_core.adapters.system_clock import SystemClock
from portable_core.ingest.receiver import Receiver
from portable_core.settings import Settings

if TYPE_CHECKING:
    from portable_core.ports import DeliveryLog
    from portable_core.sources.delivery_logs import LogSettings
    from portable_core.sync.provider_log import LogMaster, ProviderLogClient


def build_log_clients(settings: Settings, master: LogMaster) -> list[ProviderLogClient]:
    """Return a client for each delivery log; none is connected yet."""
    logs = settings.provider_logs.logs.values()
    if not logs:
        return []
    from portable_core.sync.provider_log import ProviderLogClient

    return [ProviderLogClient(log, make_log(settings, log), master) for log in logs]


def make_log(settings: Settings, configured: LogSettings) -> DeliveryLog:
    """Return a delivery log; it is not connected yet."""
    from portable_core.adapters.http.tls import make_tls
    from portable_core.adapters.providers import build_log

    return build_log(configured, SystemClock(), make_tls(settings.ca_file))


def make_log_master(receiver: Receiver) -> LogMaster:
    """Return what clients of delivery logs must know of a master."""
    from portable_core.sync.provider_log import LogMaster

    return LogMaster(
        receiver.settings, receiver.store, receiver.algorithm, receiver.identifier, receiver.now
    )
