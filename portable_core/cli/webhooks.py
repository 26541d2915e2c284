"""``webhook-sync webhooks``: list, follow, show, export and delete webhooks of a master."""

from __future__ import annotations

import sys
from typing import BinaryIO
from urllib.parse import quote

import click

from portable_core.cli.deletion import delete_webhooks
from portable_core.cli.master_client import MasterClient, read_position
from portable_core.cli.options import examples, master_options, range_options, source_option
from portable_core.cli.output import printable
from portable_core.cli.webhooks_list import list_webhooks
from portable_core.cli.webhooks_tail import tail_webhooks
from portable_core.errors import SettingsError
from portable_core.text import format_time
from portable_core.webhooks.feed import decode_line
from portable_core.webhooks.payload_text import indent

_WHOLE = 2**62


@click.group(
    "webhooks",
    epilog=examples(
        "webhook-sync webhooks list --since 1h",
        "webhook-sync webhooks show 1795481383002-3696577821",
        "webhook-sync webhooks export --since 7d > all.ndjson",
        "webhook-sync webhooks delete 1795481383002-3696577821",
    ),
)
def webhooks_command() -> None:
    """List, follow, show, export and delete the webhooks of a running master."""


webhooks_command.add_command(delete_webhooks)
webhooks_command.add_command(list_webhooks)
webhooks_command.add_command(tail_webhooks)


@webhooks_command.command(
    "show",
    epilog=examples(
        "webhook-sync webhooks show 1795481383002-3696577821",
        "webhook-sync webhooks show 1795481383002-3696577821 --raw > payload.json",
        "webhook-sync webhooks show 1795481383002-3696577821 --json | jq .meta",
    ),
)
@master_options
@click.argument("webhook", metavar="ID")
@click.option("--raw", is_flag=True, help="Write only the payload, byte for byte.")
@click.option("--json", "as_json", is_flag=True, help="Print the webhook's line of the feed.")
def show_webhook(master: str, token: str | None, webhook: str, raw: bool, as_json: bool) -> None:
    """Show one webhook: its origin, its kept headers and its payload."""
    if raw and as_json:
        raise click.UsageError("--raw and --json exclude each other")
    path = f"/webhooks/{quote(webhook, safe='')}"
    line = MasterClient(master, token).read(path, {} if as_json else {"raw": "1"})
    read_position(line)  # raises for the response of another program
    if as_json:
        _get_output().write(line)
        return
    record = decode_line(line)
    if raw:
        _get_output().write(record.payload)
        return
    recovery = record.recovery
    click.echo(f"received  {format_time(record.pair.timestamp)} UTC ({record.pair.timestamp})")
    click.echo(f"hash      {record.pair.hash}")
    click.echo(f"key       {printable(record.meta.key) or '–'}")
    click.echo(f"source    {printable(record.meta.source) or '–'}")
    if record.meta.query:
        click.echo(f"query     {printable(record.meta.query)}")
    origin = (
        f"recovered from {printable(recovery.slave)} at {format_time(recovery.at)} UTC"
        if recovery
        else "received by the master"
    )
    click.echo(f"origin    {origin}")
    if record.meta.via:
        log = printable(record.meta.via)
        click.echo(f"via       the delivery log of {log}: a signature may not match the bytes")
    for name, value in record.meta.headers.items():
        click.echo(f"header    {printable(name)}: {printable(value)}")
    click.echo()
    click.echo(printable(indent(record.payload, _WHOLE)[0], keep="\n"))


@webhooks_command.command(
    "export",
    epilog=examples(
        "webhook-sync webhooks export --since 7d > all.ndjson",
        "webhook-sync webhooks export --after 1795481383002-3696577821 >> all.ndjson",
        "webhook-sync webhooks export --source github | jq -c .data",
    ),
)
@master_options
@range_options
@source_option
@click.option("--after", metavar="ID", help="Continue after this webhook.")
@click.option("--raw", is_flag=True, help="Write payloads as base64 of their bytes.")
@click.option(
    "--now", is_flag=True, help="Export up to now; recent webhooks may not be recovered yet."
)
def export_webhooks(
    master: str,
    token: str | None,
    since: int | None,
    until: int | None,
    source: str | None,
    after: str | None,
    raw: bool,
    now: bool,
) -> None:
    """Write webhooks as lines of JSON (NDJSON), oldest first.

    The export ends at the time up to which the master is complete. A later export with --after and
    the last id therefore misses nothing.
    """
    query = {
        "since": after or ("" if since is None else str(since)),
        "end": "" if until is None else str(until),
        "source": source or "",
        "raw": "1" if raw else "",
        "upto": "now" if now else "",
    }
    output = _get_output()
    for line in MasterClient(master, token).read_feed(query):
        output.write(line)
    output.flush()


def _get_output() -> BinaryIO:
    if sys.stdout is None:
        raise SettingsError("standard output is closed")
    return sys.stdout.buffer
