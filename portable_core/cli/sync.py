"""``webhook-sync sync``: sync all slaves, through a running master or with a store of its own."""

from __future__ import annotations

import http.client
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table

from portable_core.cli.answers import as_object, find, get, parse_document
from portable_core.cli.master_client import MasterClient
from portable_core.cli.options import examples
from portable_core.cli.output import format_bytes, printable
from portable_core.errors import SettingsError, StoreLocked, Unavailable

Report = dict[str, Any]

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
            report = _sync_remotely(MasterClient(master, token), only, bars.show)
        else:
            report = _sync_here(only, bars.show)
    ok = get(report, "ok", bool)
    table, notes = _make_table(report)
    if as_json:
        click.echo(json.dumps(report))
    else:
        Console(markup=False, emoji=False).print(table)
        click.echo("".join(f"{line}\n" for line in notes), nl=False)
    sys.exit(0 if ok else 1)


def _sync_here(only: str | None, show: Callable[[Report], None]) -> Report:
    from portable_core.settings import Settings
    from portable_core.wiring import build_node

    node = build_node(Settings.from_env("master", os.environ))
    if not node.settings.slaves:
        raise SettingsError("SLAVES: missing. List the slaves as name=url,name=url.")
    assert node.master is not None  # noqa: S101  # the role asked for
    try:
        return node.master.sync(only, lambda slave: show(slave.to_json())).to_json()
    except StoreLocked as error:
        raise StoreLocked(f"{error}. If a master runs there, name it with --master.") from error
    finally:
        node.close()


def _sync_remotely(
    master: MasterClient, only: str | None, show: Callable[[Report], None]
) -> Report:
    query = {"slave": only or ""}
    with master.open("/trigger-sync", query, "text/event-stream", method="POST") as response:
        try:
            for name, document in _read_events(response):
                if name == "report":
                    return document
                if name == "problem":
                    title, detail = get(document, "title", str), get(document, "detail", str)
                    raise Unavailable(" ".join(f"{title}: {detail}".split()))
                show(document)
        except (http.client.HTTPException, OSError) as error:
            raise Unavailable(f"{master.url}: the connection broke: {error}") from error
    raise Unavailable(f"{master.url}: the response ended before the report. Try again.")


def _read_events(lines: Iterable[bytes]) -> Iterator[tuple[str, Report]]:
    """Yield the name and the JSON document of each event of a stream."""
    name = ""
    for line in lines:
        field, _, value = line.rstrip(b"\n").partition(b": ")
        if field == b"event":
            name = value.decode("utf-8", "replace")
        elif field == b"data":
            yield name, parse_document(value)


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

    def show(self, slave: Report) -> None:
        """Show a slave's report so far."""
        name = printable(get(slave, "slave", str))
        behind = find(slave, "behind_ms", int)
        counts = (
            f"{get(slave, 'pairs_sent', int)} pairs sent, "
            f"{get(slave, 'records_received', int)} records received, "
            f"{format_bytes(get(slave, 'bytes_received', int))}"
        )
        done = get(slave, "seconds", float) > 0
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


def _make_table(report: Report) -> tuple[Table, list[str]]:
    """Return a table of 80 columns with a line per slave, and the notes to print below it."""
    title = f"Sync, {get(report, 'seconds', float):.1f} s"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0)
    table.add_column("slave", overflow="fold")
    for column in ("pairs", "records", "recovered", "quarantine", "bytes", "seconds"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    notes = []
    for slave in map(as_object, get(report, "slaves", list)):
        name, state = printable(get(slave, "slave", str)), _describe_state(slave)
        if state != _COMPLETE:
            notes.append(f"{name}: {state}")
        table.add_row(
            name,
            *(str(get(slave, name, int)) for name in ("pairs_sent", "records_received")),
            *(str(get(slave, name, int)) for name in ("saved", "set_aside")),
            format_bytes(get(slave, "bytes_sent", int) + get(slave, "bytes_received", int)),
            f"{get(slave, 'seconds', float):.2f}",
            "failed" if slave["error"] else "warning" if slave["warning"] else _COMPLETE,
        )
    return table, notes


def _describe_state(slave: Report) -> str:
    error, warning = get(slave, "error", str), get(slave, "warning", str)
    return printable(error or warning) or _COMPLETE
