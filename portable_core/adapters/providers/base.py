"""What the logs of all providers have in common."""

from __future__ import annotations

from portable_core.adapters.providers.api import ProviderApi
from portable_core.sources.delivery_logs import LogSettings


class ProviderLog:
    """The base of a provider's log: its settings, and its connection."""

    def __init__(self, configured: LogSettings, api: ProviderApi) -> None:
        self._configured = configured
        self._api = api

    @property
    def requests(self) -> int:
        return self._api.requests

    def close(self) -> None:
        self._api.close()
