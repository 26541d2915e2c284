"""Clients of providers' delivery logs: a module for each kind, with one class; one table here."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping

from portable_core.adapters.providers.api import ProviderApi
from portable_core.adapters.providers.github import GithubLog
from portable_core.adapters.providers.square import SquareLog
from portable_core.adapters.providers.stripe import StripeLog
from portable_core.ports import Clock, DeliveryLog
from portable_core.sources.delivery_logs import LogSettings

#: By the name of the kind: one class for each row of :data:`.LOG_KINDS`.
_LOGS: Mapping[str, Callable[[LogSettings, ProviderApi, Clock], DeliveryLog]] = {
    "github": GithubLog,
    "square": SquareLog,
    "stripe": StripeLog,
}


def build_log(
    configured: LogSettings, clock: Clock, tls: ssl.SSLContext | None = None
) -> DeliveryLog:
    """Return the client of a log; it connects with the first request."""
    api = ProviderApi(f"log {configured.name}", configured.base, clock, tls)
    return _LOGS[configured.kind.name](configured, api, clock)
