"""``webhook-sync status``: the master's status, slave by slave."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from portable_core.cli.answers import as_object, find, get
from portable_core.cli.master_client import MasterClient
from portable_core.cli.options import examples, master_options
from portable_core.cli.output import format_moment, printable

_COMPLETE = "complete"


@click.command(
    "status",
    short_help="Show the status of a master and its slaves.",
    epilog=examples(
        "webhook-sync status",
        'webhook-sync status --master https://master.example --token "$TOKEN"',
        "webhook-sync status --late 300",
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
    help="A slave is late if the master is complete only up to a time longer ago than this.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the master's status as JSON.")
def status_command(master: str, token: str | None, late: int, as_json: bool) -> None:
    """Show the master's status and, for each slave, the time up to which the master is complete.

    Exit code 0 if the last sync of every slave succeeded and no slave is late, 1 otherwise.
    """
    status = MasterClient(master, token).read_json("/status")
    now = get(status, "now", int)
    slaves = [
        _judge(name, as_object(slave), now, late)
        for name, slave in get(status, "slaves", dict).items()
    ]
    ok = all(slave.state == _COMPLETE for slave in slaves)
    if as_json:
        click.echo(json.dumps({**status, "ok": ok}))
    else:
        _show(status, slaves)
    sys.exit(0 if ok else 1)


@dataclass(frozen=True, slots=True)
class _SlaveLine:
    """A line of the table. ``note`` is printed below the table, unless it is empty."""

    name: str
    complete_until: int
    started: int | None
    recovered: int | None
    state: str
    note: str = ""


def _judge(name: str, slave: dict[str, Any], now: int, late_s: int) -> _SlaveLine:
    complete_until = _read_complete_until(slave)
    report = get(slave, "report", dict)
    error = find(report, "error", str)
    state, note = _COMPLETE, ""
    if not report:
        state = "never synced"
    elif error:
        state, note = "failed", error
    elif now - complete_until > late_s * 1000:
        state, note = "late", "does a scheduler still call /trigger-sync?"
    started, recovered = find(report, "started", int), find(report, "saved", int)
    return _SlaveLine(name, complete_until, started, recovered, state, note)


def _read_complete_until(slave: dict[str, Any]) -> int:
    name = "complete_until"
    if name not in slave and "in_until" in slave:  # a master of an older release
        name = "in_until"
    return get(slave, name, int)


def _show(status: dict[str, Any], slaves: list[_SlaveLine]) -> None:
    console = Console(markup=False, emoji=False)
    store = get(status, "store", dict)
    records, newest = find(store, "records", int), find(store, "newest", int)
    waiting = get(get(status, "buffer", dict), "records", int)
    console.print(
        f"{'?' if records is None else records} webhooks stored, newest "
        f"{format_moment(newest)}; {waiting} waiting for the disk.",
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
            format_moment(slave.complete_until or None),
            format_moment(slave.started or None),
            "–" if slave.recovered is None else str(slave.recovered),
            slave.state,
        )
    console.print(table)
    for slave in slaves:
        if slave.note:
            click.echo(f"{printable(slave.name)}: {printable(slave.note)}")
