"""``webhook-sync webhooks list|show|export``: what a running master keeps."""

from __future__ import annotations

import json
import sys
from urllib.parse import quote

import click

from portable_core.cli_master import Master, format_moment, master_options, range_options
from portable_core.feed import decode_line
from portable_core.payload_text import indent

_WHOLE = 2**62


@click.group("webhooks")
def webhooks_command() -> None:
    """List, show and export the webhooks of a master."""


@webhooks_command.command("list")
@master_options
@range_options
@click.option("--source", help="Only those of this source; - for those without one.")
@click.option("--hash", "hash_", help="Only those with this hash.")
@click.option("--id", "id_", help="Only those with this provider's id in a kept header.")
@click.option("--value", help="Only those whose payload has a value that contains this.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 500))
@click.option("--before", help="Go on before this id, as the end of a list says.")
@click.option("--json", "as_json", is_flag=True, help="Print the page as JSON.")
def list_webhooks(
    master: str,
    token: str | None,
    since: int | None,
    until: int | None,
    source: str | None,
    hash_: str | None,
    id_: str | None,
    value: str | None,
    limit: int,
    before: str | None,
    as_json: bool,
) -> None:
    """The newest webhooks that match, one a line."""
    query = {
        "start": "" if since is None else str(since),
        "end": "" if until is None else str(until),
        "source": source or "",
        "hash": hash_ or "",
        "id": id_ or "",
        "value": value or "",
        "limit": str(limit),
        "before": before or "",
    }
    page = Master(master, token).read_json("/webhooks", query)
    if as_json:
        click.echo(json.dumps(page))
        return
    for row in page["webhooks"]:
        came = f"recovered from {row['recovery']['slave']}" if row["recovery"] else "directly"
        columns = (
            f"{row['id']:24}",
            format_moment(row["timestamp"]),
            f"{_escape(row['source'] or '–'):12}",
            f"{_escape(row['event'] or '–'):20}",
            f"{row['size']:>8} bytes",
            came,
        )
        click.echo("  ".join(columns))
    if page["before"]:
        click.echo(f"Go on with --before {page['before']}", err=True)


@webhooks_command.command("show")
@master_options
@click.argument("webhook", metavar="ID")
@click.option("--raw", is_flag=True, help="Write the payload's bytes, nothing else.")
@click.option("--json", "as_json", is_flag=True, help="Print the line of the feed.")
def show_webhook(master: str, token: str | None, webhook: str, raw: bool, as_json: bool) -> None:
    """One webhook: where it came from, its headers, its payload."""
    path = f"/webhooks/{quote(webhook, safe='')}"
    line = Master(master, token).read(path, {} if as_json else {"raw": "1"})
    if as_json:
        sys.stdout.buffer.write(line)
        return
    record = decode_line(line)
    if raw:
        sys.stdout.buffer.write(record.payload)
        return
    recovery = record.recovery
    click.echo(f"received  {format_moment(record.pair.timestamp)} UTC ({record.pair.timestamp})")
    click.echo(f"hash      {record.pair.hash}")
    click.echo(f"source    {record.meta.source or '–'}")
    came = (
        f"recovered from {recovery.slave} at {format_moment(recovery.at)} UTC" if recovery else ""
    )
    click.echo(f"came      {came or 'directly'}")
    for name, value in record.meta.headers.items():
        click.echo(f"header    {name}: {_escape(value)}")
    click.echo()
    click.echo(_escape(indent(record.payload, _WHOLE)[0]))


def _escape(text: str) -> str:
    """The text without what a terminal would obey."""
    return "".join(
        character if character.isprintable() or character == "\n" else f"\\u{ord(character):04x}"
        for character in text
    )


@webhooks_command.command("export")
@master_options
@range_options
@click.option("--source", help="Only those of this source; - for those without one.")
@click.option("--after", help="Only what comes after the webhook with this id, to go on.")
@click.option("--raw", is_flag=True, help="Payloads as base64 of their bytes.")
@click.option("--now", is_flag=True, help="Up to now, where webhooks may still be recovered.")
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

    It ends where everything of every slave is known to be in, so that an export that goes on
    --after the last line of the one before misses nothing.
    """
    query = {
        "since": after or ("" if since is None else str(since)),
        "end": "" if until is None else str(until),
        "source": source or "",
        "raw": "1" if raw else "",
        "upto": "now" if now else "",
    }
    for line in Master(master, token).read_feed(query):
        sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()
