"""``webhook-sync replay``: send webhooks of a running master again, from this machine."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from functools import partial
from os import SEEK_END
from pathlib import Path
from urllib.parse import quote

import click
import msgspec
from rich.console import Console
from rich.progress import Progress, TextColumn

from portable_core.cli.master_client import MasterClient, read_ca_file
from portable_core.cli.options import examples, master_options, range_options, source_option
from portable_core.cli.output import printable
from portable_core.errors import BadRequest, SettingsError, Unavailable
from portable_core.records import Pair, Record, format_id, parse_id
from portable_core.sources.schemes import check_standard_secret
from portable_core.webhooks.feed import decode_line
from portable_core.webhooks.replay import Replay, ReplayStatus, Result, ResultDocument
from portable_core.webhooks.replay_targets import check_target


@click.command(
    "replay",
    short_help="Send webhooks of a master again to a URL.",
    epilog=examples(
        "webhook-sync replay https://shop.example/webhooks --since 2h",
        "webhook-sync replay http://localhost:3000/ --id 1795481383002-3696577821",
        "webhook-sync replay http://localhost:3000/ --since 7d --results out.ndjson",
    ),
)
@click.argument("url")
@master_options
@range_options
@click.option("--id", "ids", metavar="ID", multiple=True, help="Webhook to replay; repeatable.")
@source_option
@click.option(
    "--secret",
    envvar="REPLAY_SECRET",
    show_envvar=True,
    help="Secret whsec_…: sign the webhooks with it (Standard Webhooks).",
)
@click.option(
    "--results",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Append the results to this file; skip webhooks that it lists as delivered.",
)
@click.option(
    "--parallel",
    default=1,
    show_default=True,
    type=click.IntRange(1, 32),
    help="Requests at the same time; more than 1 may change the order.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the totals as JSON.")
def replay_command(
    url: str,
    master: str,
    token: str | None,
    since: int | None,
    until: int | None,
    ids: tuple[str, ...],
    source: str | None,
    secret: str | None,
    results: Path | None,
    parallel: int,
    as_json: bool,
) -> None:
    """Send webhooks again to URL: byte for byte, with their kept headers, oldest first.

    Select webhooks with --id, or with --since and --until. Ctrl-C stops once the requests in
    progress are complete. With --results, the same command can be repeated: it sends only the
    webhooks that failed or were not sent.

    Exit code 0 if all were delivered (status 2xx), 1 otherwise.
    """
    from portable_core.adapters.http.sender import connect
    from portable_core.adapters.http.tls import make_tls

    check_target(url, None)
    _check_secret(secret)
    if bool(ids) == (since is not None):
        raise click.UsageError("select webhooks with either --id, or --since (and --until)")
    delivered = _read_delivered(results)
    records = _read_records(MasterClient(master, token), ids, since, until, source)
    with _ResultFile(results) as keep:
        replay = Replay(
            url,
            (record for record in records if record.pair not in delivered),
            partial(connect, tls=make_tls(read_ca_file())),
            lambda: int(time.time()),
            secret or "",
            parallel=parallel,
            report=keep.add,
        )
        status = _run(replay, quiet=as_json)
    totals = json.dumps(msgspec.to_builtins(status.describe()))
    click.echo(totals if as_json else _summarize(status, len(delivered)))
    sys.exit(0 if status.state == "done" and not status.failed else 1)


def _check_secret(secret: str | None) -> None:
    try:
        check_standard_secret(secret or "")
    except ValueError as error:
        raise SettingsError(f"--secret: {error}") from None


def _read_records(
    master: MasterClient,
    ids: tuple[str, ...],
    since: int | None,
    until: int | None,
    source: str | None,
) -> Iterator[Record]:
    for webhook in ids:
        path = f"/webhooks/{quote(webhook, safe='')}"
        yield decode_line(master.read(path, {"raw": "1"}))
    if since is not None:
        query = {
            "since": str(since),
            "end": "" if until is None else str(until),
            "source": source or "",
            "raw": "1",
            "upto": "now",
        }
        yield from map(decode_line, master.read_feed(query))


def _read_delivered(results: Path | None) -> set[Pair]:
    """Return the pairs of the webhooks that an earlier run delivered."""
    delivered: set[Pair] = set()
    try:
        text = results.read_bytes() if results is not None and results.exists() else b""
    except OSError as error:
        raise SettingsError(f"--results: {error}") from error
    for line in text.splitlines():
        try:
            result = msgspec.json.decode(line, type=ResultDocument)
            if result.ok:
                delivered.add(parse_id(result.id))
        except (msgspec.MsgspecError, ValueError, RecursionError, BadRequest):
            continue  # a line cut by a crash: its webhook is sent again
    return delivered


class _ResultFile:
    """A line of JSON for each result, written before the next webhook is sent.

    Raises ``SettingsError`` if the file cannot be opened, ``Unavailable`` if it cannot be written.
    """

    def __init__(self, path: Path | None) -> None:
        try:
            self._file = None if path is None else path.open("a+b", buffering=0)
            if self._file is not None and self._file.seek(0, SEEK_END):
                self._file.seek(-1, SEEK_END)
                if self._file.read(1) != b"\n":  # a crash has cut the last line
                    self._file.write(b"\n")
        except OSError as error:
            raise SettingsError(f"--results: {error}") from error

    def __enter__(self) -> _ResultFile:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, result: Result) -> None:
        if self._file is not None:
            line = msgspec.json.encode(result.describe()) + b"\n"
            try:
                if self._file.write(line) < len(line):
                    raise OSError("no room for the whole line")
            except OSError as error:
                raise Unavailable(f"--results: {error}") from error


def _run(replay: Replay, *, quiet: bool) -> ReplayStatus:
    """Run until the end or Ctrl-C, showing progress."""
    console = Console(stderr=True)
    columns = TextColumn("{task.completed} sent, last result: {task.fields[result]}", markup=False)
    bars = Progress(
        columns, console=console, transient=True, disable=quiet or not console.is_terminal
    )
    with bars:
        task = bars.add_task("", result="")
        add = replay.report

        def report(result: Result) -> None:
            add(result)
            outcome = result.outcome
            bars.update(task, advance=1, result=str(outcome.status or outcome.reason))

        replay.report = report
        try:
            return replay.run()
        except KeyboardInterrupt:
            replay.stop()
            return replay.run()


def _summarize(status: ReplayStatus, skipped: int) -> str:
    by_status = ", ".join(
        f"{count} × {code or 'no answer'}" for code, count in sorted(status.by_status.items())
    )
    lines = [f"{status.delivered} delivered, {status.failed} failed ({by_status or 'none sent'})."]
    if status.failures:
        first = status.failures[0]
        why = first.outcome.reason or f"status {first.outcome.status}"
        lines.append(f"First failure: {format_id(first.pair)}: {printable(why)}")
    if skipped:
        lines.append(f"{skipped} skipped: delivered before.")
    if status.state == "stopped":
        lines.append("Stopped before the end.")
    elif status.problem:
        lines.append(f"Ended early. {status.problem}")
    return "\n".join(lines)
