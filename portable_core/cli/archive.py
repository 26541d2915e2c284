"""``webhook-sync archive``: move old webhooks of a master into compressed files."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import click
import msgspec

from portable_core.cli.master_client import MasterClient
from portable_core.cli.options import MOMENT, examples, master_options
from portable_core.cli.output import printable
from portable_core.cli.responses import parse_response
from portable_core.errors import Unavailable
from portable_core.records import Record
from portable_core.sync.archiving import ArchivedStretch, ArchivePlan, RemovedDocument
from portable_core.text import format_size, format_time
from portable_core.webhooks.archived import Stretch, split_days
from portable_core.webhooks.feed import decode_line

_PATH = "/archive"

#: Attempts to remove a stretch while a sync runs, and the pause between two of them in seconds.
_ATTEMPTS = 60
_PAUSE_S = 2.0


@click.command(
    "archive",
    short_help="Move old webhooks of a master into compressed files.",
    epilog=examples(
        "webhook-sync archive /archive/webhooks --before 90d",
        "webhook-sync archive /archive/webhooks --before 2026-01-01T00:00 --keep",
    ),
)
@master_options
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--before",
    required=True,
    type=MOMENT,
    help="Archive what is older: 2026-01-31T09:05 (UTC), 90d (ago), or milliseconds.",
)
@click.option("--keep", is_flag=True, help="Remove nothing from the master.")
def archive_command(master: str, token: str | None, folder: Path, before: int, keep: bool) -> None:
    """Move the webhooks of a master before a time into DIR, day by day.

    Each day is one file of JSON lines, compressed with Zstandard. It is durable and was read again
    before the master removes its records. An interrupted command can be run again. What a slave or
    a registered consumer still needs stays; the last lines name it.

    Exit code 0 if all whole hours before the time are archived, 1 if some are still needed.
    """
    from portable_core.adapters.archive_folder import ArchiveFolder

    client, archive = MasterClient(master, token), ArchiveFolder(folder)
    plan = client.read_as(ArchivePlan, _PATH, {"before": str(before)})
    with archive.hold():
        manifest = archive.open_for(plan.store, plan.hash)
        for start, end in split_days(plan.end if plan.start is None else plan.start, plan.end):
            records = _read(client, start, end)
            first = next(records, None)
            if first is None:
                continue
            manifest, stretch = archive.write(manifest, start, end, chain([first], records))
            removed = 0 if keep else _remove(client, stretch)
            click.echo(_describe(stretch, removed))
    for name, text in plan.waits.items():
        click.echo(f"{printable(name) or 'master'}: {printable(text)}", err=True)
    click.get_current_context().exit(1 if plan.waits else 0)


def _read(client: MasterClient, start: int, end: int) -> Iterator[Record]:
    query = {"since": str(start), "end": str(end), "raw": "1", "upto": "now"}
    return (decode_line(line) for line in client.read_feed(query))


def _remove(client: MasterClient, stretch: Stretch) -> int:
    """Ask the master to remove a stretch, again while a sync runs; return how many it removed."""
    request = ArchivedStretch(stretch.start, stretch.end, stretch.records, stretch.pairs)
    body = msgspec.json.encode(request)
    for attempt in range(_ATTEMPTS):
        try:
            response = client.read(_PATH, method="POST", body=body)
            return parse_response(response, RemovedDocument).removed
        except Unavailable as error:
            if "archive:" in str(error) or attempt == _ATTEMPTS - 1:
                raise
            time.sleep(_PAUSE_S)
    raise AssertionError("unreachable")


def _describe(stretch: Stretch, removed: int) -> str:
    window = f"{format_time(stretch.start)} to {format_time(stretch.end)}"
    size = format_size(stretch.bytes)
    return f"{window}: {stretch.records} webhooks, {size}, {removed} removed, {stretch.file}"
