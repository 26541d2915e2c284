"""``webhook-sync losses``: the losses of slaves, and their acknowledgement."""

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
from portable_core.errors import NotFound
from portable_core.sync.losses import LossesDocument, SlaveLoss
from portable_core.sync.protocol import LOSSES_PATH
from portable_core.text import format_time

_LIST = ("webhook-sync losses list", "webhook-sync losses list --json | jq .losses")
_ACKNOWLEDGE = (
    "webhook-sync losses acknowledge slave-1 5f1c9a0b7d3e2468",
    "webhook-sync losses acknowledge slave-1 --all",
)


@click.group(
    "losses",
    short_help="List what slaves have lost; acknowledge it.",
    epilog=examples(*_LIST, *_ACKNOWLEDGE),
)
def losses_command() -> None:
    """List the acknowledged webhooks that slaves may have lost, and acknowledge the losses.

    A slave loses webhooks if a file of its store is damaged, if RETENTION_BYTES removes records
    that no master has fetched, or if it comes back with another or an earlier store. The master is
    not complete until an operator acknowledges each loss.
    """


@losses_command.command(
    "list", short_help="List the losses with their time ranges.", epilog=examples(*_LIST)
)
@master_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_command(master: str, token: str | None, as_json: bool) -> None:
    """List the losses with their time ranges, by the timestamps of the slave.

    Exit code 0 if every loss is acknowledged, 1 otherwise.
    """
    response = MasterClient(master, token).read(LOSSES_PATH)
    losses = parse_response(response, LossesDocument).losses
    if as_json:
        click.echo(response.decode().strip())
    else:
        _show(losses)
    open_ = any(loss.acknowledged is None for loss in losses)
    click.get_current_context().exit(1 if open_ else 0)


@losses_command.command(
    "acknowledge",
    short_help="Acknowledge losses: the master is complete without these webhooks.",
    epilog=examples(*_ACKNOWLEDGE),
)
@master_options
@click.option("--all", "all_", is_flag=True, help="Acknowledge every loss of the slave.")
@click.argument("slave")
@click.argument("losses", nargs=-1)
def acknowledge_command(
    master: str, token: str | None, all_: bool, slave: str, losses: tuple[str, ...]
) -> None:
    """Acknowledge losses of a slave, by their ids: the master is complete without these webhooks.

    Fetch first what another node or the sender still has: "webhook-sync verify" compares a slave,
    and many senders can repeat their deliveries of a time range.
    """
    if bool(losses) == all_:
        raise click.UsageError("name the losses by their ids, or use --all")
    client = MasterClient(master, token)
    if all_:
        known = client.read_as(LossesDocument, LOSSES_PATH).losses
        losses = tuple(
            loss.id for loss in known if loss.slave == slave and loss.acknowledged is None
        )
        if not losses:
            raise NotFound(f"losses: {slave} has none that is not acknowledged")
    for loss in losses:
        path = f"{LOSSES_PATH}/{quote(slave, safe='')}/{quote(loss, safe='')}/acknowledge"
        parse_response(client.read(path, method="POST"), LossesDocument)
        click.echo(f"{printable(loss)}: acknowledged")


def _show(losses: Sequence[SlaveLoss]) -> None:
    if not losses:
        click.echo("No slave has lost anything that the master knows of.")
        return
    table = Table()
    for name in ("slave", "id", "from (UTC)", "to (UTC)", "what", "state"):
        table.add_column(name, overflow="fold")
    for loss in losses:
        table.add_row(
            printable(loss.slave),
            loss.id,
            format_time(loss.start),
            format_time(loss.end),
            printable(f"{loss.name}: {loss.reason}"),
            "open" if loss.acknowledged is None else "acknowledged",
        )
    Console(markup=False, emoji=False).print(table)
