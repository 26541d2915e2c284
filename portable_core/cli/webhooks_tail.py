"""``webhook-sync webhooks tail``: show webhooks as they arrive at a running master."""

from __future__ import annotations

import base64

import click
import msgspec

from portable_core.adapters.http.tls import make_tls
from portable_core.cli.master_client import MasterClient, read_ca_file
from portable_core.cli.options import examples, master_options, source_option
from portable_core.cli.output import printable
from portable_core.client.connection import FeedConnection
from portable_core.client.following import read_on
from portable_core.client.master import Master
from portable_core.text import format_time
from portable_core.webhooks.feed_webhook import Webhook
from portable_core.webhooks.payload_text import preview

_WAIT_S = 20.0


@click.command(
    "tail",
    epilog=examples(
        "webhook-sync webhooks tail",
        "webhook-sync webhooks tail --source github --event push",
        "webhook-sync webhooks tail --json | jq .id",
    ),
)
@master_options
@source_option
@click.option("--event", help="Only webhooks with this event.")
@click.option("--after", metavar="POSITION", default="now", help="Begin after this position.")
@click.option("--limit", type=click.IntRange(1), help="End after so many webhooks.")
@click.option("--json", "as_json", is_flag=True, help="Print each webhook as a line of JSON.")
def tail_webhooks(
    master: str,
    token: str | None,
    source: str | None,
    event: str | None,
    after: str,
    limit: int | None,
    as_json: bool,
) -> None:
    """Show webhooks as they arrive, until Ctrl-C.

    They come in the order of the arrival feed. A master that does not respond is tried again.
    """
    client = MasterClient(master, token)
    connection = FeedConnection(
        Master(client.url, client.token, make_tls(read_ca_file())),
        source="" if source == "-" else source,
        event=event,
        wait_s=_WAIT_S,
    )
    shown = 0
    try:
        for webhook in read_on(connection, after, report=_warn):
            if isinstance(webhook, str):
                continue
            click.echo(_encode(webhook) if as_json else _describe(webhook))
            shown += 1
            if shown == limit:
                return
    finally:
        connection.close()


def _warn(text: str) -> None:
    click.echo(printable(text), err=True)


def _encode(webhook: Webhook) -> bytes:
    """Return the members of the feed's line, with the payload's bytes in base64."""
    names = ("position", "id", "key", "repeat", "source", "event", "timestamp", "came", "query")
    members = {name: getattr(webhook, name) for name in names}
    raw = base64.b64encode(webhook.payload).decode()
    return msgspec.json.encode({**members, "headers": dict(webhook.headers), "raw": raw})


def _describe(webhook: Webhook) -> str:
    columns = (
        format_time(webhook.timestamp),
        f"{printable(webhook.id):24}",
        f"{printable(webhook.source) or '–':12}",
        f"{printable(webhook.event) or '–':20}",
        f"{'received' if webhook.came == 'direct' else f'from {printable(webhook.came)}':16}",
        printable(preview(webhook.payload)),
    )
    return "  ".join(columns)
