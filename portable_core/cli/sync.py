"""``webhook-sync sync``: sync all slaves, through a running master or with a store of its own."""

from __future__ import annotations

import http.client
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table

from portable_core.cli.master_client import MasterClient
from portable_core.cli.options import NodeSilent, examples
from portable_core.cli.output import printable
from portable_core.cli.responses import convert_response, parse_json
from portable_core.documents import Problem
from portable_core.errors import SettingsError, StoreLocked, Unavailable
from portable_core.sync.report import SlaveReport, SyncReport
from portable_core.text import format_size

_LINE_S = 2.0
_COMPLETE = "complete"


@click.command(
    "sync",
    epilog=examples(
        "webhook-sync sync --master https://master.example",
        "webhook-sync sync --master https://master.example --slave slave-1 --json",
        "STORE=sqlite:./data SLAVES=a=http://10.0.0.5:8080 webhook-sync sync",
    ),
)
@click.option(
    "--master",
    metavar="URL",
    envvar="MASTER_URL",
    show_envvar=True,
    help="Address of a running master. Without it, this process syncs by itself.",
)
@click.option("--token", envvar="SYNC_TOKENS", show_envvar=True, help="Token of the master.")
@click.option("--slave", "only", metavar="NAME", help="Sync only this slave.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def sync_command(master: str | None, token: str | None, only: str | None, as_json: bool) -> None:
    """Fetch the webhooks that the master lacks from its slaves.

    With --master or MASTER_URL, a running master does the sync. Without either, or if it is empty,
    this process does the sync: it reads a master's settings (STORE, SLAVES, ...) from the
    environment and locks the store until the sync ends.

    Exit code 0 if every slave was synced, 1 otherwise.
    """
    # Names and messages of nodes may contain brackets, which are not markup.
    console = Console(stderr=True, markup=False, emoji=False)
    with _Bars(console, quiet=as_json) as bars:
        if master:
            report, document = _sync_remotely(MasterClient(master, token), only, bars.show)
        else:
            report, document = _sync_here(only, bars.show)
    if as_json:
        click.echo(json.dumps(document))
    else:
        table, notes = _make_table(report)
        Console(markup=False, emoji=False).print(table)
        click.echo("".join(f"{line}\n" for line in notes), nl=False)
    sys.exit(0 if report.ok else 1)


def _sync_here(only: str | None, show: Callable[[SlaveReport], None]) -> tuple[SyncReport, object]:
    """Sync by this process. Returns the report, also as a document."""
    from portable_core.settings import Settings
    from portable_core.wiring import build_node

    node = build_node(Settings.from_env("master", os.environ))
    assert node.master is not None  # noqa: S101  # the role asked for
    if not node.master.clients:
        raise SettingsError("SLAVES: missing. List the slaves as name=url,name=url.")
    try:
        report = node.master.sync(only, show)
    except StoreLocked as error:
        raise StoreLocked(f"{error}. If a master runs there, name it with --master.") from error
    finally:
        node.close()
    return report, report.to_json()


def _sync_remotely(
    master: MasterClient, only: str | None, show: Callable[[SlaveReport], None]
) -> tuple[SyncReport, object]:
    """Sync by a running master. Returns the report, also as the document that was received."""
    query = {"slave": only or ""}
    with master.open("/trigger-sync", query, "text/event-stream", method="POST") as response:
        try:
            for name, document in _read_events(response):
                if name == "report":
                    return convert_response(document, SyncReport), document
                if name == "problem":
                    problem = convert_response(document, Problem)
                    raise Unavailable(" ".join(f"{problem.title}: {problem.detail}".split()))
                show(convert_response(document, SlaveReport))
        except (http.client.HTTPException, OSError) as error:
            raise NodeSilent(f"{master.url}: the connection broke: {error}") from error
    raise NodeSilent(f"{master.url}: the response ended before the report. Try again.")


def _read_events(lines: Iterable[bytes]) -> Iterator[tuple[str, object]]:
    """Yield the name and the JSON document of each event of a stream."""
    name = ""
    for line in lines:
        field, _, value = line.rstrip(b"\n").partition(b": ")
        if field == b"event":
            name = value.decode("utf-8", "replace")
        elif field == b"data":
            yield name, parse_json(value)


class _Bars:
    """A progress bar per slave: the part of its lag that has been synced.

    Without a terminal, lines per slave: the first report, one every ``_LINE_S``, and the last.
    """

    def __init__(self, console: Console, *, quiet: bool) -> None:
        self._console = console
        self._lines = not quiet and not console.is_terminal
        self._last = ("", 0.0)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[counts]}", markup=False),
            console=console,
            disable=quiet or not console.is_terminal,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._behind: dict[str, int] = {}

    def __enter__(self) -> _Bars:
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()

    def show(self, slave: SlaveReport) -> None:
        """Show a slave's report so far."""
        name, behind = printable(slave.slave), slave.behind_ms
        counts = (
            f"{slave.pairs_sent} pairs sent, {slave.records_received} records received, "
            f"{format_size(slave.bytes_received)}"
        )
        done = slave.seconds > 0
        ended = f"; {_describe_state(slave)}" if done else ""
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=None, counts="")
        if behind is not None:
            most = self._behind[name] = max(behind, self._behind.get(name, 0))
            self._progress.update(self._tasks[name], total=max(1, most), completed=most - behind)
        self._progress.update(self._tasks[name], counts=counts)
        now = time.monotonic()
        if self._lines and (done or name != self._last[0] or now - self._last[1] >= _LINE_S):
            self._last = (name, now)
            self._console.print(f"{name}: {counts}{ended}", highlight=False, soft_wrap=True)


def _make_table(report: SyncReport) -> tuple[Table, list[str]]:
    """Return a table of 80 columns with a line per slave, and the notes to print below it."""
    title = f"Sync, {report.seconds:.1f} s"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0)
    table.add_column("slave", overflow="fold")
    for column in ("pairs", "records", "recovered", "quarantine", "bytes", "seconds"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    notes = []
    for slave in report.slaves:
        name, state = printable(slave.slave), _describe_state(slave)
        if state != _COMPLETE:
            notes.append(f"{name}: {state}")
        counts = (slave.pairs_sent, slave.records_received, slave.saved, slave.set_aside)
        table.add_row(
            name,
            *map(str, counts),
            format_size(slave.bytes_sent + slave.bytes_received),
            f"{slave.seconds:.2f}",
            "failed" if slave.error else "warning" if slave.warning else _COMPLETE,
        )
    return table, notes


def _describe_state(slave: SlaveReport) -> str:
    return printable(slave.error or slave.warning) or _COMPLETE
