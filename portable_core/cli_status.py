"""``webhook-sync status``: is everything in?"""

from __future__ import annotations

import json
import sys
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from portable_core.cli_master import Master, format_moment, master_options


@click.command("status")
@master_options
@click.option("--late", default=900, show_default=True, help="Seconds after which a slave is late.")
@click.option("--json", "as_json", is_flag=True, help="Print the master's status as JSON.")
def status_command(master: str, token: str | None, late: int, as_json: bool) -> None:
    """Tell how a master is, and up to when everything of each slave is in it.

    Exits 0 if the last sync of every slave succeeded and none is late, 1 if not.
    """
    status = Master(master, token).read_json("/status")
    slaves = status.get("slaves", {})
    verdicts = {name: _judge(slave, status["now"], late) for name, slave in slaves.items()}
    if as_json:
        click.echo(json.dumps({**status, "ok": not any(verdicts.values())}))
    else:
        _show(status, verdicts)
    sys.exit(1 if any(verdicts.values()) else 0)


def _judge(slave: dict[str, Any], now: int, late_s: int) -> str:
    """What is wrong with it, an empty text for nothing."""
    report = slave["report"]
    if not report:
        return "never synced"
    if report.get("error"):
        return str(report["error"])
    if now - slave["in_until"] > late_s * 1000:
        return "late: is /trigger-sync still called?"
    return ""


def _show(status: dict[str, Any], verdicts: dict[str, str]) -> None:
    console = Console(markup=False, emoji=False)
    store = status["store"]
    console.print(
        f"{store['records'] if store['records'] is not None else '?'} webhooks, the newest of "
        f"{format_moment(store['newest'])}; {status['buffer']['records']} wait for the disk.",
        highlight=False,
    )
    if not verdicts:
        return
    table = Table()
    table.add_column("slave")
    table.add_column("all in up to (UTC)")
    table.add_column("last sync (UTC)")
    table.add_column("recovered", justify="right")
    table.add_column("state", overflow="fold")
    for name, slave in status["slaves"].items():
        report = slave["report"]
        table.add_row(
            name,
            format_moment(slave["in_until"] or None),
            format_moment(report.get("started")),
            str(report.get("saved", "–")),
            verdicts[name] or "all in",
        )
    console.print(table)
