"""``webhook-sync slaves``: the slaves that a master knows, and forgetting one that is gone."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

import click
from rich.console import Console
from rich.table import Table

from portable_core.cli.master_client import MasterClient
from portable_core.cli.options import examples, master_options
from portable_core.cli.output import printable
from portable_core.cli.responses import parse_response
from portable_core.sync.protocol import SLAVES_PATH
from portable_core.sync.slaves import SlavesDocument
from portable_core.sync.status import SlaveDocument
from portable_core.text import format_time

_LIST = ("webhook-sync slaves list", "webhook-sync slaves list --json | jq .slaves")
_FORGET = (
    "webhook-sync slaves forget alpha",
    "webhook-sync slaves forget --master https://master.example alpha",
)


@click.group(
    "slaves",
    short_help="List the slaves of a master; forget one that is gone.",
    epilog=examples(*_LIST, *_FORGET),
)
def slaves_command() -> None:
    """List the slaves that a master knows, and forget one that is gone.

    A slave that is no longer in SLAVES is shown as removed. The master keeps its cursor, so that
    it continues there if it comes back under its name.
    """


@slaves_command.command(
    "list", short_help="List the slaves and the removed ones.", epilog=examples(*_LIST)
)
@master_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_command(master: str, token: str | None, as_json: bool) -> None:
    """List the slaves in SLAVES, the logs in PROVIDER_LOGS, and those that were there before."""
    response = MasterClient(master, token).read(SLAVES_PATH)
    document = parse_response(response, SlavesDocument)
    if as_json:
        click.echo(response.decode().strip())
    else:
        _show(document.slaves)


@slaves_command.command(
    "forget", short_help="Forget a slave that was removed.", epilog=examples(*_FORGET)
)
@master_options
@click.argument("slave")
def forget_command(master: str, token: str | None, slave: str) -> None:
    """Forget a slave that is no longer in SLAVES.

    Its webhooks stay in the master. A slave that comes back under its name is compared from its
    first record on.
    """
    path = f"{SLAVES_PATH}/{quote(slave, safe='')}"
    response = MasterClient(master, token).read(path, method="DELETE")
    _show(parse_response(response, SlavesDocument).slaves)


def _show(slaves: Mapping[str, SlaveDocument]) -> None:
    if not slaves:
        click.echo("The master knows no slave.")
        return
    table = Table()
    for name in ("slave", "address", "store", "complete until (UTC)"):
        table.add_column(name, overflow="fold")
    for name, slave in slaves.items():
        table.add_row(
            printable(name),
            printable(slave.url or slave.log or "removed"),
            printable(slave.store) or "–",
            format_time(slave.completed or None),
        )
    Console(markup=False, emoji=False).print(table)
