"""What watches an application from outside: whoever builds it passes one in, or none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Observer(Protocol):
    """Told of requests and webhooks; tells what it counted. Its methods raise nothing."""

    def begin_request(self, read_header: Callable[[str], str | None]) -> None:
        """A request begins in this thread; ``read_header`` returns a header's value by name."""
        ...

    def observe_webhook(self, source: str, outcome: str, seconds: float) -> None:
        """A webhook is answered. ``outcome`` is ``kept`` or the name of a problem."""
        ...

    def expose(self, accept: str) -> tuple[bytes, str]:
        """What was counted, as a body for ``GET /metrics``, and its media type."""
        ...
