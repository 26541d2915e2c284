"""``webhook-sync webhooks list|show|export``: what a running master keeps."""

from __future__ import annotations

import json
import sys
from typing import Any, BinaryIO
from urllib.parse import quote

import click

from portable_core.cli.answers import as_object, find, get, parse_document, printable
from portable_core.cli.master_client import (
    MasterClient,
    format_moment,
    master_options,
    range_options,
)
from portable_core.errors import SettingsError
from portable_core.webhooks.feed import decode_line
from portable_core.webhooks.payload_text import indent

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
    page = MasterClient(master, token).read_json("/webhooks", query)
    if as_json:
        click.echo(json.dumps(page))
        return
    lines = [_describe(as_object(row)) for row in get(page, "webhooks", list)]
    before = find(page, "before", str)
    for line in lines:
        click.echo(line)
    if before:
        click.echo(f"Go on with --before {printable(before)}", err=True)


def _describe(row: dict[str, Any]) -> str:
    recovery = find(row, "recovery", dict)
    columns = (
        f"{printable(get(row, 'id', str)):24}",
        format_moment(get(row, "timestamp", int)),
        f"{printable(get(row, 'source', str)) or '–':12}",
        f"{printable(get(row, 'event', str)) or '–':20}",
        f"{get(row, 'size', int):>8} bytes",
        f"recovered from {printable(get(recovery, 'slave', str))}" if recovery else "directly",
    )
    return "  ".join(columns)


@webhooks_command.command("show")
@master_options
@click.argument("webhook", metavar="ID")
@click.option("--raw", is_flag=True, help="Write the payload's bytes, nothing else.")
@click.option("--json", "as_json", is_flag=True, help="Print the line of the feed.")
def show_webhook(master: str, token: str | None, webhook: str, raw: bool, as_json: bool) -> None:
    """One webhook: where it came from, its headers, its payload."""
    if raw and as_json:
        raise click.UsageError(
            "--raw writes the payload's bytes alone, --json the line of the feed"
        )
    path = f"/webhooks/{quote(webhook, safe='')}"
    line = MasterClient(master, token).read(path, {} if as_json else {"raw": "1"})
    get(parse_document(line), "id", str)
    if as_json:
        _get_output().write(line)
        return
    record = decode_line(line)
    if raw:
        _get_output().write(record.payload)
        return
    recovery = record.recovery
    click.echo(f"received  {format_moment(record.pair.timestamp)} UTC ({record.pair.timestamp})")
    click.echo(f"hash      {record.pair.hash}")
    click.echo(f"source    {printable(record.meta.source) or '–'}")
    came = (
        f"recovered from {printable(recovery.slave)} at {format_moment(recovery.at)} UTC"
        if recovery
        else "directly"
    )
    click.echo(f"came      {came}")
    for name, value in record.meta.headers.items():
        click.echo(f"header    {printable(name)}: {printable(value)}")
    click.echo()
    click.echo(printable(indent(record.payload, _WHOLE)[0], keep="\n"))


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
    output = _get_output()
    for line in MasterClient(master, token).read_feed(query):
        output.write(line)
    output.flush()


def _get_output() -> BinaryIO:
    if sys.stdout is None:
        raise SettingsError("standard output is closed")
    return sys.stdout.buffer
