"""``webhook-sync status``: the status of a node: a master's slaves, or a slave's masters."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence

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
from portable_core.ports import SlaveState
from portable_core.sync.conditions import (
    Condition,
    describe,
    find_slave_conditions,
    is_well,
    sort_conditions,
)
from portable_core.sync.report import StoredReport
from portable_core.sync.status import (
    MasterStatusDocument,
    SlaveDocument,
    SlaveStatusDocument,
    StatusDocument,
)
from portable_core.text import format_time

#: The state of a slave in the table, by its conditions.
_STATES = {
    "slave-failed": "failed",
    "slave-lost": "lost webhooks",
    "slave-late": "late",
    "slave-warning": "warning",
    "never-synced": "never synced",
    "slave-removed": "removed",
}

#: Of a master of an older release, which does not report what is late for it.
_LATE_S = 900

_PAGE = "docs/troubleshooting.md"


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
    type=click.IntRange(min=0),
    help="A slave is late if the master is complete only up to a time longer ago than this; "
    "default: CONSOLE_LATE_S of the master.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the node's status as JSON.")
def status_command(master: str, token: str | None, late: int | None, as_json: bool) -> None:
    """Show the master's status and, for each slave, the time up to which the master is complete.

    With the address of a slave, show the masters that sync it. Below are the conditions of the
    node: what is wrong, and what to do.

    Exit code 0 if nothing but notices is there, 1 if not, 3 if the node does not respond.
    """
    response = MasterClient(master, token).read("/status")
    if parse_response(response, _Role).role == "slave":
        status: StatusDocument = parse_response(response, SlaveStatusDocument)
        slaves: Mapping[str, SlaveDocument] = {}
    else:
        of_master = parse_response(response, MasterStatusDocument)
        status, slaves = of_master, of_master.slaves
    conditions = sort_conditions(_judge(status, slaves, late))
    ok = is_well(conditions)
    if as_json:
        click.echo(json.dumps({**json.loads(response), "ok": ok}))
    else:
        _show(status, slaves, conditions)
        if status.masters is not msgspec.UNSET:
            show_masters(status.masters)
        for condition in conditions:
            click.echo(f"{printable(describe(condition))} See {_PAGE}#{condition.section}")
    sys.exit(0 if ok else 1)


class _Role(msgspec.Struct):
    role: str = "master"


def _judge(
    status: StatusDocument, slaves: Mapping[str, SlaveDocument], late_s: int | None
) -> list[Condition]:
    """Return the conditions that the node reports.

    With ``late_s``, slaves are late after so many seconds. An older release reports no conditions:
    they are then found from the slaves.
    """
    if status.conditions is msgspec.UNSET:
        late_ms = (_LATE_S if late_s is None else late_s) * 1000
        return [
            condition
            for name, slave in slaves.items()
            for condition in _find_conditions(status.now, name, slave, late_ms)
        ]
    if late_s is None:
        return [*status.conditions]
    kept = [each for each in status.conditions if each.name != "slave-late"]
    failed = {each.subject for each in kept if each.name in ("slave-failed", "never-synced")}
    for name, slave in slaves.items():
        if (slave.url or slave.log) is not None and name not in failed:
            found = _find_conditions(status.now, name, slave, late_s * 1000)
            kept += [each for each in found if each.name == "slave-late"]
    return kept


def _find_conditions(
    now: int, name: str, slave: SlaveDocument, late_ms: int
) -> Sequence[Condition]:
    _read_report(name, slave)
    cursor = slave.completed or None if slave.cursor is None else slave.cursor
    state = SlaveState(cursor=cursor, report=slave.report, losses=tuple(slave.losses))
    return [*find_slave_conditions(now, late_ms, name, state)]


def _show(
    status: StatusDocument,
    slaves: Mapping[str, SlaveDocument],
    conditions: Sequence[Condition],
) -> None:
    console = Console(markup=False, emoji=False)
    records = status.store.records
    console.print(
        f"{'?' if records is None else records} webhooks stored, newest "
        f"{format_time(status.store.newest)}; {status.buffer.records} waiting for the disk.",
        highlight=False,
    )
    _show_growth(console, status)
    if not slaves:
        return
    table = Table()
    table.add_column("slave", overflow="fold")
    table.add_column("complete until (UTC)", no_wrap=True)
    table.add_column("last sync (UTC)", no_wrap=True)
    table.add_column("recovered", justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for name, slave in slaves.items():
        report = _read_report(name, slave)
        own = [each.name for each in conditions if each.subject == name]
        table.add_row(
            printable(name),
            format_time(slave.completed or None),
            format_time((report and report.started) or None),
            "–" if report is None else str(report.saved),
            next((_STATES[each] for each in own if each in _STATES), "complete"),
        )
    console.print(table)


def _show_growth(console: Console, status: StatusDocument) -> None:
    """Print what a webhook occupies, and when the store reaches its limit."""
    retention = status.retention
    if retention is msgspec.UNSET or retention.record_bytes is None:
        return
    days = retention.full_in_days
    limit = "" if days is None else f"; RETENTION_BYTES is reached in {days:g} days"
    size = (status.store.bytes or 0) / 1e6
    text = f"{size:.1f} MB, {retention.record_bytes} bytes a webhook{limit}."
    console.print(text, highlight=False)


def _read_report(name: str, slave: SlaveDocument) -> StoredReport | None:
    try:
        return slave.read_report()
    except ValueError as error:
        raise AnswerInvalid(f"the response is invalid: {name}: {error}{DOUBT}") from error
