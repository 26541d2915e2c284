"""The counters of one slave's sync while it runs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from portable_core.errors import WebhookSyncError
from portable_core.ports import Milliseconds
from portable_core.sync.report import SlaveReport


@dataclass(slots=True)
class Progress:
    """What a sync has done so far; the sync, the merger and the sending thread all write to it.

    Each field has one writer: the sending thread writes ``pairs_sent`` and ``bytes_sent``, the
    syncing thread all others. Fields have the meaning that :class:`SlaveReport` gives them.
    ``refused`` counts the invalid records of a hand-over that the quarantine had no room for,
    ``missed`` the saved records by the hour of their timestamps, from the Unix epoch. Before
    ``completed``, every record of the slave was represented in the master at an earlier sync.
    """

    slave: str
    started: Milliseconds = 0
    windows: int = 0
    parts: int = 0
    cut: int = 0
    pairs_sent: int = 0
    records_received: int = 0
    saved: int = 0
    represented: int = 0
    set_aside: int = 0
    repeats: int = 0
    again: int = 0
    similar: dict[str, list[str]] = field(default_factory=dict)
    bytes_sent: int = 0
    bytes_received: int = 0
    expected_collisions: float = 0.0
    seconds: float = 0.0
    cursor: Milliseconds | None = None
    behind_ms: Milliseconds | None = None
    skew_ms: int | None = None
    horizon: Milliseconds | None = None
    encoding: str = ""
    warning: str = ""
    warning_type: str = ""
    error: str = ""
    error_type: str = ""
    losses: int = 0
    refused: int = 0
    completed: Milliseconds = 0
    missed: Counter[int] = field(default_factory=Counter)

    def warn(self, problem: WebhookSyncError | str, warning_type: str = "") -> None:
        """Set the warning; a later one replaces it."""
        self.warning, self.warning_type = _describe(problem)
        self.warning_type = warning_type or self.warning_type

    def fail(self, problem: WebhookSyncError | str, error_type: str = "") -> None:
        """Set the error."""
        self.error, self.error_type = _describe(problem)
        self.error_type = error_type or self.error_type

    def report(self) -> SlaveReport:
        """Return the report of what was done so far."""
        return SlaveReport(**{name: getattr(self, name) for name in SlaveReport.__struct_fields__})


def _describe(problem: WebhookSyncError | str) -> tuple[str, str]:
    """Return the text and the type of a problem."""
    if isinstance(problem, str):
        return problem, ""
    return f"{problem.title}: {problem}", type(problem).__name__
