"""The end of a load: the last syncs, and the master's records for the judgement."""

from __future__ import annotations

import time
from collections.abc import Iterator

from portable_core.cli.master_client import MasterClient
from portable_core.demo.cluster import read_records, trigger_sync
from portable_core.errors import WebhookSyncError
from portable_core.records import Record
from portable_core.webhooks.feed import decode_line


class NotSettled(Exception):
    """The last syncs did not end; the message says why."""


def settle(master: str, token: str, span_s: float, within_s: float = 120) -> int:
    """Wait one span and sync until no slave is behind. Returns how many records that brought.

    Raises :class:`NotSettled`.
    """
    time.sleep(span_s * 1.25 + 1)
    deadline = time.monotonic() + within_s
    saved: int = 0
    why = ""
    while time.monotonic() < deadline:
        try:
            report = trigger_sync(master, token)
        except (OSError, ValueError, WebhookSyncError) as error:
            why = str(error)
        else:
            saved += sum(slave["saved"] for slave in report["slaves"])
            late = [slave for slave in report["slaves"] if slave["behind_ms"] or slave["error"]]
            if not late:
                return saved
            why = "; ".join(f"{slave['slave']}: {slave['error'] or 'is behind'}" for slave in late)
        time.sleep(1)
    raise NotSettled(f"after {within_s:.0f} s of syncs: {why}")


def read_master(master: str, token: str, store: str, since_ms: int) -> Iterator[Record]:
    """The master's records: from its ``store`` (the setting) where this machine has it, else
    through ``GET /webhooks`` from ``since_ms`` on."""
    if store:
        yield from read_records({"STORE": store})
        return
    query = {"since": str(since_ms), "upto": "now", "raw": "1"}
    yield from map(decode_line, MasterClient(master, token).read_feed(query))
