"""``webhook-sync redeliver``: ask a provider to send deliveries again that have failed."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click

from portable_core.cli.options import env_file_option, examples, range_options, read_env
from portable_core.cli.output import printable
from portable_core.errors import BadRequest, WebhookSyncError
from portable_core.ports import DeliveryLog, LogEntry, wait_on
from portable_core.settings import Settings
from portable_core.text import format_time


@click.command(
    "redeliver",
    short_help="Ask a provider to send failed webhooks again.",
    epilog=examples(
        "webhook-sync redeliver hub-log --since 2h --dry-run",
        "webhook-sync redeliver hub-log --since 2h --until 1h",
        "webhook-sync redeliver hub-log --id 12345678901",
    ),
)
@click.argument("name", metavar="LOG")
@range_options
@click.option("--id", "ids", multiple=True, help="A delivery of the log; repeatable.")
@click.option("--dry-run", is_flag=True, help="Only list the deliveries.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one delivery per line.")
@env_file_option
def redeliver_command(
    name: str,
    since: int | None,
    until: int | None,
    ids: Sequence[str],
    dry_run: bool,
    as_json: bool,
    env_file: Path | None,
) -> None:
    """Ask the provider to send again what no delivery of has succeeded, to the same address.

    LOG is a name in PROVIDER_LOGS, which is read from the environment as a master reads it. A sync
    recovers these webhooks without this command; it is for those who need the original bytes and
    signatures. A webhook that the master has already becomes a second record with the same key.

    Exit code 0 if the provider accepted every request, 1 otherwise.
    """
    from portable_core.cli.log_comparison import open_log, read_settings

    if (since is None) == (not ids):
        raise click.UsageError("name the deliveries with either --id or --since")
    settings = read_settings(read_env(env_file), name)
    with open_log(settings) as log:
        entries = [LogEntry(id_, 0) for id_ in ids] or _list(log, settings, since or 0, until)
        failed = sum(not _redeliver(log, entry, dry_run, as_json) for entry in entries)
    if not as_json:
        done = "would be sent" if dry_run else "will be sent"
        click.echo(f"{len(entries) - failed} deliveries {done} again, {failed} failed", err=True)
    sys.exit(1 if failed else 0)


def _list(log: DeliveryLog, settings: Settings, since: int, until: int | None) -> list[LogEntry]:
    """Return the failed deliveries of the range, as far as the log reaches."""
    (configured,) = settings.provider_logs.logs.values()
    now = time.time_ns() // 1_000_000
    start = max(since, now - configured.reach_ms)
    end = now if until is None else min(until, now)
    entries: dict[str, LogEntry] = {}
    while start < end:
        listing = log.list_entries(start, end, wait_on)
        entries.update((entry.id, entry) for entry in listing.entries)
        if listing.through <= start:
            break
        start = listing.through
    return [*entries.values()]


def _redeliver(log: DeliveryLog, entry: LogEntry, dry_run: bool, as_json: bool) -> bool:
    """Ask for one delivery, and print the result; return whether the provider accepted."""
    problem = ""
    if not dry_run:
        try:
            log.redeliver(entry.id, wait_on)
        except BadRequest:
            raise
        except WebhookSyncError as error:
            problem = f"{error.title}: {error}"
    if as_json:
        document = {"id": entry.id, "timestamp": entry.timestamp or None, "webhook": entry.webhook}
        click.echo(json.dumps({**document, "outcome": entry.outcome, "error": problem}))
    else:
        words = (entry.id, format_time(entry.timestamp or None, " UTC"), entry.webhook)
        text = "  ".join(filter(None, (*words, entry.outcome, problem)))
        click.echo(printable(text))
    return not problem
