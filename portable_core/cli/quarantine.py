"""``webhook-sync quarantine``: the invalid records that the master has set aside."""

from __future__ import annotations

import base64
import binascii
import json
import sys
from collections.abc import Iterator
from urllib.parse import quote

import click
import msgspec
from rich.console import Console
from rich.table import Table

from portable_core.cli.master_client import MasterClient
from portable_core.cli.options import examples, master_options
from portable_core.cli.output import printable
from portable_core.cli.responses import parse_response
from portable_core.errors import AnswerInvalid
from portable_core.sync.protocol import QUARANTINE_PATH
from portable_core.sync.quarantine import (
    EntryDocument,
    ItemDocument,
    QuarantineDocument,
    ReleaseDocument,
)
from portable_core.text import format_size, format_time

_LIST = ("webhook-sync quarantine list", "webhook-sync quarantine list --json | jq .reason")
_SHOW = (
    "webhook-sync quarantine show slave-1-0019b76dcdbd4f",
    "webhook-sync quarantine show --raw slave-1-0019b76dcdbd4f > body.json",
)
_RELEASE = (
    "webhook-sync quarantine release slave-1-0019b76dcdbd4f",
    "webhook-sync quarantine release slave-1-0019b7 slave-2-0019b8",
)
_DELETE = (
    "webhook-sync quarantine delete slave-1-0019b76dcdbd4f",
    "webhook-sync quarantine delete slave-1-0019b7 slave-2-0019b8",
)

_PAGE = 500


@click.group(
    "quarantine",
    short_help="List, show, release or delete the records that were set aside.",
    epilog=examples(_LIST[0], _SHOW[0], _RELEASE[0], _DELETE[0]),
)
def quarantine_command() -> None:
    """List, show, release or delete the invalid records of slaves that the master has set aside.

    When the quarantine is full (QUARANTINE_RECORDS, QUARANTINE_BYTES), the sync of a slave stops at
    its next invalid record.
    """


@quarantine_command.command(
    "list", short_help="List the records, the newest first.", epilog=examples(*_LIST)
)
@master_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one record per line.")
def list_command(master: str, token: str | None, as_json: bool) -> None:
    """List the records in quarantine, the newest first, without their payloads."""
    pages = _read_pages(MasterClient(master, token))
    if as_json:
        for page in pages:
            for item in page.items:
                click.echo(json.dumps(msgspec.to_builtins(item)))
        return
    table = Table()
    for name in ("id", "from", "set aside (UTC)", "size", "reason"):
        table.add_column(name, overflow="fold")
    count = None
    for page in pages:
        count = (page.records, page.bytes) if count is None else count
        for item in page.items:
            table.add_row(*_format_row(item))
    records, size = count or (0, 0)
    if records:
        Console(markup=False, emoji=False).print(table)
    click.echo(f"{records} records in quarantine, {format_size(size)}.")


def _format_row(item: EntryDocument) -> tuple[str, ...]:
    texts = (item.id, item.slave, format_time(item.at), format_size(item.size), item.reason)
    return tuple(printable(text) for text in texts)


def _read_pages(client: MasterClient) -> Iterator[QuarantineDocument]:
    before = ""
    while True:
        query = {"limit": str(_PAGE), "before": before}
        page = client.read_as(QuarantineDocument, QUARANTINE_PATH, query)
        yield page
        if page.next is None:
            return
        before = page.next


@quarantine_command.command(
    "show", short_help="Show a record with its payload.", epilog=examples(*_SHOW)
)
@master_options
@click.option("--raw", is_flag=True, help="Print the bytes of the payload and nothing else.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.argument("record")
def show_command(master: str, token: str | None, raw: bool, as_json: bool, record: str) -> None:
    """Show a record in quarantine, by its id, with its payload and metadata."""
    response = MasterClient(master, token).read(_locate(record))
    item = parse_response(response, ItemDocument)
    try:
        payload = base64.b64decode(item.raw, validate=True)
    except (binascii.Error, ValueError) as error:
        raise AnswerInvalid(f"the response is invalid: raw: {error}") from error
    if raw:
        sys.stdout.buffer.write(payload)
        return
    if as_json:
        click.echo(response.decode().strip())
        return
    for name, text in (
        ("id", item.id),
        ("from", item.slave),
        ("set aside", f"{format_time(item.at)} UTC"),
        ("reason", item.reason),
        ("webhook", f"{item.webhook}, {format_time(item.timestamp)} UTC"),
        ("meta", json.dumps(item.meta)),
    ):
        click.echo(f"{name:<10} {printable(text)}")
    click.echo(printable(payload.decode("utf-8", "replace"), keep="\n"))


@quarantine_command.command(
    "release", short_help="Store records as recovered webhooks.", epilog=examples(*_RELEASE)
)
@master_options
@click.argument("records", nargs=-1, required=True)
def release_command(master: str, token: str | None, records: tuple[str, ...]) -> None:
    """Store records in quarantine, by their ids, as webhooks recovered from their slaves.

    To be used for payloads that are genuine. A record gets the hash and the key of its payload. If
    it is represented in the master, it is not stored. A payload that is not a JSON object cannot be
    released.
    """
    client = MasterClient(master, token)
    for record in records:
        path = f"{_locate(record)}/release"
        result = parse_response(client.read(path, method="POST"), ReleaseDocument)
        outcome = "stored" if result.stored else "represented in the master already"
        click.echo(f"{printable(record)}: {outcome}, {printable(result.webhook)}")


@quarantine_command.command(
    "delete", short_help="Delete records for good.", epilog=examples(*_DELETE)
)
@master_options
@click.argument("records", nargs=-1, required=True)
def delete_command(master: str, token: str | None, records: tuple[str, ...]) -> None:
    """Delete records in quarantine, by their ids, for good.

    A record that its slave still has is set aside again if a sync compares it again.
    """
    client = MasterClient(master, token)
    for record in records:
        client.read(_locate(record), method="DELETE")
        click.echo(f"{printable(record)}: deleted")


def _locate(record: str) -> str:
    return f"{QUARANTINE_PATH}/{quote(record, safe='')}"
