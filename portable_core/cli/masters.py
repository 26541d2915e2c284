"""``webhook-sync masters``: the masters that a slave waits for before it removes records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

import click
from rich.console import Console
from rich.table import Table

from portable_core.cli.master_client import MasterClient
from portable_core.cli.options import examples
from portable_core.cli.output import printable
from portable_core.cli.responses import parse_response
from portable_core.sync.master_marks import MasterMark, MastersDocument
from portable_core.sync.protocol import MASTERS_PATH
from portable_core.text import format_time

_Command = TypeVar("_Command", bound=Callable[..., object])


class SlaveNodeClient(MasterClient):
    """A running slave."""

    option = "--slave-url"
    role = "slave"
    doubt = ". Is --slave-url the address of a slave?"


_LIST = (
    "webhook-sync masters list --slave-url https://slave-1.example",
    "webhook-sync masters list --json | jq .masters",
)
_FORGET = (
    "webhook-sync masters forget 0f8fad5b-d9cb-469f-a165-70867728950e",
    "webhook-sync masters forget --slave-url https://slave-1.example anonymous",
)


@click.group(
    "masters",
    short_help="List the masters of a slave; forget one that is gone.",
    epilog=examples(*_LIST, *_FORGET),
)
def masters_command() -> None:
    """List the masters that have synced a slave, and forget one that is gone.

    A slave removes a record by age only after every master has it. A master that no longer exists
    keeps the slave from removing anything, until it is forgotten.
    """


def _slave_options(command: _Command) -> _Command:
    command = click.option(
        "--token", envvar="SYNC_TOKENS", show_envvar=True, help="Token of the slave."
    )(command)
    return click.option(
        "--slave-url",
        metavar="URL",
        default="http://127.0.0.1:8080",
        show_default=True,
        help="Address of the slave.",
    )(command)


@masters_command.command(
    "list", short_help="List the masters, the slowest first.", epilog=examples(*_LIST)
)
@_slave_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_command(slave_url: str, token: str | None, as_json: bool) -> None:
    """List the masters that have synced a slave, the slowest first.

    Exit code 0 if no master is late, 1 otherwise.
    """
    client = SlaveNodeClient(slave_url, token)
    response = client.read(MASTERS_PATH)
    document = parse_response(response, MastersDocument, client.doubt)
    if as_json:
        click.echo(response.decode().strip())
    else:
        show_masters(document.masters)
    click.get_current_context().exit(1 if any(mark.late for mark in document.masters) else 0)


@masters_command.command(
    "forget", short_help="Forget a master that is gone.", epilog=examples(*_FORGET)
)
@_slave_options
@click.argument("master")
def forget_command(slave_url: str, token: str | None, master: str) -> None:
    """Forget a master: the UUID of its store, or "anonymous".

    The slave may then remove records that this master lacks. A master that syncs again is known
    again, from where it then asks.
    """
    client = SlaveNodeClient(slave_url, token)
    response = client.read(f"{MASTERS_PATH}/{quote(master, safe='')}", method="DELETE")
    show_masters(parse_response(response, MastersDocument, client.doubt).masters)


def show_masters(masters: Sequence[MasterMark]) -> None:
    """Print the masters of a slave."""
    if not masters:
        click.echo("No master has synced this slave.")
        return
    table = Table()
    table.add_column("master", overflow="fold")
    table.add_column("has all records before (UTC)", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for mark in masters:
        row: tuple[Any, ...] = (
            printable(mark.master),
            format_time(mark.asked or None),
            "late" if mark.late else "current",
        )
        table.add_row(*row)
    Console(markup=False, emoji=False).print(table)
