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

from portable_core.cli.answers import as_object, find, get, parse_document, printable
from portable_core.cli.master_client import MasterClient
from portable_core.errors import SettingsError, StoreLocked, Unavailable

Report = dict[str, Any]

_LINE_S = 2.0
_ALL_IN = "all in"


@click.command("sync")
@click.option(
    "--master",
    envvar="MASTER_URL",
    help="Address of a running master; default: MASTER_URL; without either, sync from here.",
)
@click.option("--token", envvar="SYNC_TOKENS", help="The master's token; default: SYNC_TOKENS.")
@click.option("--slave", "only", help="Sync this slave alone.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def sync_command(master: str | None, token: str | None, only: str | None, as_json: bool) -> None:
    """Fetch from the slaves what the master lacks.

    With --master (or MASTER_URL) a running master does it. Without, or where that is empty, this
    process does: it reads the settings of a master (STORE, SLAVES, ...) from the environment and
    takes the store's lock for a while.

    Exits 0 if every slave was synced, 1 if not.
    """
    # What slaves and the master say is shown as it is, brackets included.
    console = Console(stderr=True, markup=False, emoji=False)
    with _Bars(console, quiet=as_json) as bars:
        if master:
            report = _sync_remotely(MasterClient(master, token), only, bars.show)
        else:
            report = _sync_here(only, bars.show)
    ok = get(report, "ok", bool)
    table, told = _make_table(report)
    if as_json:
        click.echo(json.dumps(report))
    else:
        Console(markup=False, emoji=False).print(table)
        click.echo("".join(f"{line}\n" for line in told), nl=False)
    sys.exit(0 if ok else 1)


def _sync_here(only: str | None, show: Callable[[Report], None]) -> Report:
    from portable_core.settings import Settings
    from portable_core.wiring import build_node

    node = build_node(Settings.from_env("master", os.environ))
    if not node.settings.slaves:
        raise SettingsError("SLAVES: missing; name the slaves as name=url,name=url")
    assert node.master is not None  # noqa: S101  # the role asked for
    try:
        return node.master.sync(only, lambda slave: show(slave.to_json())).to_json()
    except StoreLocked as error:
        raise StoreLocked(f"{error} (or let a master that runs sync: --master)") from error
    finally:
        node.close()


def _sync_remotely(
    master: MasterClient, only: str | None, show: Callable[[Report], None]
) -> Report:
    query = {"slave": only or ""}
    with master.open("/trigger-sync", query, "text/event-stream", method="POST") as answer:
        try:
            for name, document in _read_events(answer):
                if name == "report":
                    return document
                if name == "problem":
                    title, detail = get(document, "title", str), get(document, "detail", str)
                    raise Unavailable(" ".join(f"{title}: {detail}".split()))
                show(document)
        except (http.client.HTTPException, OSError) as error:
            raise Unavailable(f"{master.url}: the sync cannot be followed: {error}") from error
    raise Unavailable(f"{master.url}: the answer ended before its report; try again")


def _read_events(lines: Iterable[bytes]) -> Iterator[tuple[str, Report]]:
    """The events of a stream, each as its name and its JSON document."""
    name = ""
    for line in lines:
        field, _, value = line.rstrip(b"\n").partition(b": ")
        if field == b"event":
            name = value.decode("utf-8", "replace")
        elif field == b"data":
            yield name, parse_document(value)


class _Bars:
    """A bar a slave: how much of the time it is behind has been asked for.

    Where there is no terminal, a line a slave, at its beginning, every ``_LINE_S`` and at its end.
    """

    def __init__(self, console: Console, *, quiet: bool) -> None:
        self._console = console
        self._lines = not quiet and not console.is_terminal
        self._last = ("", 0.0)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[told]}", markup=False),
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
        """Show a slave's report as it is so far."""
        name = printable(get(slave, "slave", str))
        behind = find(slave, "behind_ms", int)
        told = (
            f"{get(slave, 'pairs_sent', int)} pairs sent, "
            f"{get(slave, 'records_received', int)} records received, "
            f"{_format_bytes(get(slave, 'bytes_received', int))}"
        )
        done = get(slave, "seconds", float) > 0
        ended = f"; {_describe_state(slave)}" if done else ""
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=None, told="")
        if behind is not None:
            most = self._behind[name] = max(behind, self._behind.get(name, 0))
            self._progress.update(self._tasks[name], total=max(1, most), completed=most - behind)
        self._progress.update(self._tasks[name], told=told)
        now = time.monotonic()
        if self._lines and (done or name != self._last[0] or now - self._last[1] >= _LINE_S):
            self._last = (name, now)
            self._console.print(f"{name}: {told}{ended}", highlight=False, soft_wrap=True)


def _make_table(report: Report) -> tuple[Table, list[str]]:
    """One slave a line, in 80 columns; and beneath it what is to be said of some, a line each."""
    title = f"Sync of {get(report, 'seconds', float):.1f} s"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0)
    table.add_column("slave", overflow="fold")
    for column in ("windows", "pairs\nsent", "received", "saved", "set\naside", "bytes", "seconds"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    told = []
    for slave in map(as_object, get(report, "slaves", list)):
        name, state = printable(get(slave, "slave", str)), _describe_state(slave)
        if state != _ALL_IN:
            told.append(f"{name}: {state}")
        table.add_row(
            name,
            *(str(get(slave, name, int)) for name in ("windows", "pairs_sent", "records_received")),
            *(str(get(slave, name, int)) for name in ("saved", "set_aside")),
            _format_bytes(get(slave, "bytes_sent", int) + get(slave, "bytes_received", int)),
            f"{get(slave, 'seconds', float):.2f}",
            "failed" if slave["error"] else "behind" if slave["warning"] else _ALL_IN,
        )
    return table, told


def _describe_state(slave: Report) -> str:
    error, warning = get(slave, "error", str), get(slave, "warning", str)
    return printable(error or warning) or _ALL_IN


def _format_bytes(count: int) -> str:
    """As a person reads it: ``950 B``, ``12.3 kB``, ``1.0 MB``."""
    size, unit = float(count), "B"
    for larger in ("kB", "MB", "GB"):
        if size < 999.95:
            break
        size, unit = size / 1000, larger
    return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"
