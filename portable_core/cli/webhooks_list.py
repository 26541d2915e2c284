"""``webhook-sync webhooks list``: search the webhooks of a running master."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import click
import msgspec
from rich.console import Console

from portable_core.cli.master_client import MasterClient
from portable_core.cli.options import examples, master_options, range_options, source_option
from portable_core.cli.output import printable
from portable_core.cli.responses import DOUBT
from portable_core.errors import AnswerInvalid, BadRequest
from portable_core.records import parse_id
from portable_core.text import format_time
from portable_core.webhooks.listing import PageDocument, RowDocument

#: The most webhooks of one request.
_PAGE_ROWS = 500


@click.command(
    "list",
    epilog=examples(
        "webhook-sync webhooks list --since 2h --source github",
        "webhook-sync webhooks list --event push --recovered",
        "webhook-sync webhooks list --id evt_1MqqbKLt4dXK03v5qaIbiNCC",
        "webhook-sync webhooks list --limit 5000 --json | jq '.webhooks[].id'",
    ),
)
@master_options
@range_options
@source_option
@click.option("--event", help="Only webhooks with this event.")
@click.option("--direct", "origin", flag_value="direct", help="Only webhooks from their senders.")
@click.option("--recovered", "origin", flag_value="recovered", help="Only recovered webhooks.")
@click.option("--slave", help="Only webhooks that were recovered from this slave.")
@click.option("--hash", "hash_", help="Only webhooks with this hash.")
@click.option("--key", help="Only webhooks with this key: all copies of one webhook.")
@click.option(
    "--id", "id_", help="Only the webhook with this ID, or those with this ID of their provider."
)
@click.option("--value", help="Only webhooks with a value in the payload that contains this text.")
@click.option(
    "--limit",
    default=50,
    show_default=True,
    type=click.IntRange(1),
    help="Largest number of webhooks to list.",
)
@click.option("--before", metavar="ID", help="Continue before this webhook: the next page.")
@click.option("--json", "as_json", is_flag=True, help="Print the page as JSON.")
def list_webhooks(
    master: str,
    token: str | None,
    since: int | None,
    until: int | None,
    source: str | None,
    event: str | None,
    origin: str | None,
    slave: str | None,
    hash_: str | None,
    key: str | None,
    id_: str | None,
    value: str | None,
    limit: int,
    before: str | None,
    as_json: bool,
) -> None:
    """List the newest matching webhooks, one per line.

    The search continues until it has found the limit or looked at everything. Standard error shows
    how far it has looked; after Ctrl-C, --before continues from there.
    """
    query = {
        "start": "" if since is None else str(since),
        "end": "" if until is None else str(until),
        "source": source,
        "event": event,
        "origin": origin,
        "slave": slave,
        "hash": hash_,
        "key": key,
        "id": id_,
        "value": value,
        "before": before,
    }
    found: list[RowDocument] = []
    looked_at, last = 0, PageDocument([])
    client = MasterClient(master, token)
    console = Console(stderr=True, markup=False, emoji=False, highlight=False)
    try:
        with console.status("Searching…") as status:
            for page in _read_pages(client, {k: v or "" for k, v in query.items()}, limit):
                looked_at, last = looked_at + page.looked_at, page
                if as_json:
                    found += page.webhooks
                else:
                    for row in page.webhooks:
                        click.echo(_describe(row))
                status.update(f"Searching: {_describe_end(page, looked_at)}")
    except KeyboardInterrupt:
        if last.before:
            click.echo(f"Continue the search: --before {printable(last.before)}", err=True)
        raise
    if as_json:
        whole = PageDocument(found, last.before, last.complete, looked_at)
        click.echo(json.dumps(msgspec.to_builtins(whole)))
        return
    click.echo(f"{_describe_end(last, looked_at)}.".capitalize(), err=True)
    if last.before:
        click.echo(f"Next page: --before {printable(last.before)}", err=True)


def _read_pages(
    client: MasterClient, query: Mapping[str, str], limit: int
) -> Iterator[PageDocument]:
    """Yield pages until they have ``limit`` webhooks or the search has looked at everything."""
    before = query["before"]
    while True:
        asked = {**query, "before": before, "limit": str(min(limit, _PAGE_ROWS))}
        page = client.read_as(PageDocument, "/webhooks", asked)
        if page.before is not None:
            _check_position(page.before, before)
        yield page
        limit -= len(page.webhooks)
        if limit <= 0 or not page.before:
            return
        before = page.before


def _check_position(position: str, last: str) -> None:
    """Raise ``AnswerInvalid`` unless the position is one before the last one."""
    try:
        pair = parse_id(position)
        is_earlier = not last or pair < parse_id(last)
    except BadRequest:
        is_earlier = False
    if not is_earlier:
        raise AnswerInvalid(f"the response is invalid: before: not an earlier position{DOUBT}")


def _describe_end(page: PageDocument, looked_at: int) -> str:
    """Return how far a search has looked."""
    read = f"{looked_at} records read"
    if page.before is None:
        return f"everything searched, {read}"
    back_to = format_time(parse_id(page.before).timestamp)
    return f"searched back to {back_to} UTC, {read}"


def _describe(row: RowDocument) -> str:
    columns = (
        f"{printable(row.id):24}",
        format_time(row.timestamp),
        f"{printable(row.source) or '–':12}",
        f"{printable(row.event) or '–':20}",
        f"{row.size:>8} bytes",
        f"recovered from {printable(row.recovery.slave)}" if row.recovery else "received",
    )
    return "  ".join(columns)
