"""``webhook-sync status``: is everything in?"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from portable_core.cli.answers import as_object, find, get, printable
from portable_core.cli.master_client import MasterClient, format_moment, master_options

_ALL_IN = "all in"


@click.command("status")
@master_options
@click.option(
    "--late",
    default=900,
    show_default=True,
    type=click.IntRange(min=0),
    help="Seconds after which a slave is late.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the master's status as JSON.")
def status_command(master: str, token: str | None, late: int, as_json: bool) -> None:
    """Tell how a master is, and up to when everything of each slave is in it.

    Exits 0 if the last sync of every slave succeeded and none is late, 1 if not.
    """
    status = MasterClient(master, token).read_json("/status")
    now = get(status, "now", int)
    slaves = [
        _judge(name, as_object(slave), now, late)
        for name, slave in get(status, "slaves", dict).items()
    ]
    ok = all(slave.state == _ALL_IN for slave in slaves)
    if as_json:
        click.echo(json.dumps({**status, "ok": ok}))
    else:
        _show(status, slaves)
    sys.exit(0 if ok else 1)


@dataclass(frozen=True, slots=True)
class _Slave:
    """A line of the table; ``told`` is what is to be said beneath it, an empty text for nothing."""

    name: str
    complete_until: int
    started: int | None
    saved: int | None
    state: str
    told: str = ""


def _judge(name: str, slave: dict[str, Any], now: int, late_s: int) -> _Slave:
    complete_until = _read_complete_until(slave)
    report = get(slave, "report", dict)
    error = find(report, "error", str)
    state, told = _ALL_IN, ""
    if not report:
        state = "never synced"
    elif error:
        state, told = "failed", error
    elif now - complete_until > late_s * 1000:
        state, told = "late", "is /trigger-sync still called?"
    started, saved = find(report, "started", int), find(report, "saved", int)
    return _Slave(name, complete_until, started, saved, state, told)


def _read_complete_until(slave: dict[str, Any]) -> int:
    name = "complete_until"
    if name not in slave and "in_until" in slave:  # a master of an older release
        name = "in_until"
    return get(slave, name, int)


def _show(status: dict[str, Any], slaves: list[_Slave]) -> None:
    console = Console(markup=False, emoji=False)
    store = get(status, "store", dict)
    records, newest = find(store, "records", int), find(store, "newest", int)
    waiting = get(get(status, "buffer", dict), "records", int)
    console.print(
        f"{'?' if records is None else records} webhooks, the newest of "
        f"{format_moment(newest)}; {waiting} wait for the disk.",
        highlight=False,
    )
    if not slaves:
        return
    table = Table()
    table.add_column("slave", overflow="fold")
    table.add_column("all in up to (UTC)", no_wrap=True)
    table.add_column("last sync (UTC)", no_wrap=True)
    table.add_column("recovered", justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for slave in slaves:
        table.add_row(
            printable(slave.name),
            format_moment(slave.complete_until or None),
            format_moment(slave.started or None),
            "–" if slave.saved is None else str(slave.saved),
            slave.state,
        )
    console.print(table)
    for slave in slaves:
        if slave.told:
            click.echo(f"{printable(slave.name)}: {printable(slave.told)}")
