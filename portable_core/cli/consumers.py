"""``webhook-sync consumers``: the registered consumers of a master's arrival feed."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

import click
from rich.console import Console
from rich.table import Table

from portable_core.cli.master_client import MasterClient
from portable_core.cli.options import examples, master_options
from portable_core.cli.output import printable
from portable_core.cli.responses import parse_response
from portable_core.sync.consumer import ConsumerDocument
from portable_core.text import format_time
from portable_core.webhooks.consumers import ConsumersDocument

_PATH = "/consumers"
_LIST = ("webhook-sync consumers list", "webhook-sync consumers list --json | jq .consumers")
_DELETE = (
    "webhook-sync consumers delete shop",
    "webhook-sync consumers delete --master https://master.example shop",
)


@click.group(
    "consumers",
    short_help="List the consumers of the arrival feed; delete one that is gone.",
    epilog=examples(*_LIST, *_DELETE),
)
def consumers_command() -> None:
    """List the registered consumers of the arrival feed, and delete one that is gone.

    A consumer registers its position with PUT /consumers/NAME.
    """


@consumers_command.command(
    "list", short_help="List the consumers with their lags.", epilog=examples(*_LIST)
)
@master_options
@click.option(
    "--late",
    metavar="SECONDS",
    default=600,
    show_default=True,
    type=click.IntRange(min=0),
    help="A consumer is late if the first webhook that it has not read came longer ago than this.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_command(master: str, token: str | None, late: int, as_json: bool) -> None:
    """List the consumers with their lags.

    Exit code 0 if no consumer is late, and the position of each is known; 1 otherwise.
    """
    response = MasterClient(master, token).read(_PATH)
    consumers = parse_response(response, ConsumersDocument).consumers
    if as_json:
        click.echo(response.decode().strip())
    else:
        _show(consumers)
    ok = all(c.lag_ms is not None and c.lag_ms <= late * 1000 for c in consumers)
    click.get_current_context().exit(0 if ok else 1)


@consumers_command.command(
    "delete", short_help="Delete a consumer that is gone.", epilog=examples(*_DELETE)
)
@master_options
@click.argument("consumer")
def delete_command(master: str, token: str | None, consumer: str) -> None:
    """Delete a consumer that is gone: the master no longer shows its lag."""
    client = MasterClient(master, token)
    path = f"{_PATH}/{quote(consumer, safe='')}"
    parse_response(client.read(path, method="DELETE"), ConsumersDocument)
    click.echo(f"{printable(consumer)}: deleted")


def _show(consumers: Sequence[ConsumerDocument]) -> None:
    if not consumers:
        click.echo("No consumer is registered.")
        return
    table = Table()
    for name in ("consumer", "lag", "position saved (UTC)"):
        table.add_column(name, overflow="fold")
    for one in consumers:
        lag = "unknown" if one.lag_ms is None else f"{one.lag_ms / 1000:.0f} s"
        table.add_row(printable(one.name), lag, format_time(one.saved))
    Console(markup=False, emoji=False).print(table)
    for one in consumers:
        if one.error:
            click.echo(f"{printable(one.name)}: {printable(one.error)}")
        if one.missed is not None:
            until = format_time(one.missed)
            click.echo(f"{printable(one.name)}: retention removed webhooks before {until} unread")
