"""``webhook-sync status``: the status of a node: a master's slaves, or a slave's masters."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass

import click
import msgspec
from rich.console import Console
from rich.table import Table

from portable_core.cli.master_client import MasterClient
from portable_core.cli.masters import show_masters
from portable_core.cli.options import examples, master_options
from portable_core.cli.output import printable
from portable_core.cli.responses import DOUBT, parse_response
from portable_core.errors import AnswerInvalid
from portable_core.sync.resuming import describe_losses, find_open_losses
from portable_core.sync.status import (
    MasterStatusDocument,
    SlaveDocument,
    SlaveStatusDocument,
    StatusDocument,
)
from portable_core.text import format_time

_COMPLETE = "complete"


@click.command(
    "status",
    short_help="Show the status of a master and its slaves, or of a slave.",
    epilog=examples(
        "webhook-sync status",
        'webhook-sync status --master https://master.example --token "$TOKEN"',
        "webhook-sync status --master https://slave-1.example --late 300",
        "webhook-sync status --json | jq .slaves",
    ),
)
@master_options
@click.option(
    "--late",
    metavar="SECONDS",
    default=900,
    show_default=True,
    type=click.IntRange(min=0),
    help="A slave is late if the master is complete only up to a time longer ago than this. A "
    "slave itself names the masters that are late for it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the node's status as JSON.")
def status_command(master: str, token: str | None, late: int, as_json: bool) -> None:
    """Show the master's status and, for each slave, the time up to which the master is complete.

    With the address of a slave, show the masters that sync it.

    Exit code 0 if the last sync of every slave succeeded, no slave or master is late, and every
    loss of a slave is acknowledged; 1 if not; 3 if the node does not respond.
    """
    response = MasterClient(master, token).read("/status")
    if parse_response(response, _Role).role == "slave":
        status: StatusDocument = parse_response(response, SlaveStatusDocument)
        slaves: list[_SlaveLine] = []
    else:
        of_master = parse_response(response, MasterStatusDocument)
        status = of_master
        slaves = [_judge(name, one, status.now, late) for name, one in of_master.slaves.items()]
    masters = () if status.masters is msgspec.UNSET else status.masters
    ok = all(slave.state == _COMPLETE for slave in slaves) and not any(m.late for m in masters)
    if as_json:
        click.echo(json.dumps({**json.loads(response), "ok": ok}))
    else:
        _show(status, slaves)
        if status.masters is not msgspec.UNSET:
            show_masters(masters)
    sys.exit(0 if ok else 1)


class _Role(msgspec.Struct):
    role: str = "master"


@dataclass(frozen=True, slots=True)
class _SlaveLine:
    """A line of the table. ``note`` is printed below the table, unless it is empty."""

    name: str
    complete_until: int
    started: int | None
    recovered: int | None
    state: str
    note: str = ""


def _judge(name: str, slave: SlaveDocument, now: int, late_s: int) -> _SlaveLine:
    try:
        report = slave.read_report()
    except ValueError as error:
        raise AnswerInvalid(f"the response is invalid: {name}: {error}{DOUBT}") from error
    if report is None:
        return _SlaveLine(name, slave.completed, None, None, "never synced")
    state, note = _COMPLETE, ""
    if report.error:
        state, note = "failed", report.error
    elif losses := find_open_losses(slave.losses):
        state, note = "lost webhooks", describe_losses(losses)
    elif now - slave.completed > late_s * 1000:
        state, note = "late", "does a scheduler still call /trigger-sync?"
    return _SlaveLine(name, slave.completed, report.started, report.saved, state, note)


def _show(status: StatusDocument, slaves: list[_SlaveLine]) -> None:
    console = Console(markup=False, emoji=False)
    records = status.store.records
    console.print(
        f"{'?' if records is None else records} webhooks stored, newest "
        f"{format_time(status.store.newest)}; {status.buffer.records} waiting for the disk.",
        highlight=False,
    )
    if not slaves:
        return
    table = Table()
    table.add_column("slave", overflow="fold")
    table.add_column("complete until (UTC)", no_wrap=True)
    table.add_column("last sync (UTC)", no_wrap=True)
    table.add_column("recovered", justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for slave in slaves:
        table.add_row(
            printable(slave.name),
            format_time(slave.complete_until or None),
            format_time(slave.started or None),
            "–" if slave.recovered is None else str(slave.recovered),
            slave.state,
        )
    console.print(table)
    for slave in slaves:
        if slave.note:
            click.echo(f"{printable(slave.name)}: {printable(slave.note)}")
