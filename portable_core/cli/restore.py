"""``webhook-sync restore``: make a store from a backup."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from portable_core.cli.backup import describe_size
from portable_core.cli.options import examples
from portable_core.cli.output import printable
from portable_core.text import format_time


@click.command(
    "restore",
    short_help="Make a store from a backup.",
    epilog=examples(
        "webhook-sync restore /backup/master /var/lib/webhook-sync/master",
        "webhook-sync restore /backup/master ./restored --json",
    ),
)
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.argument("target", metavar="TARGET", type=click.Path(path_type=Path))
@click.option(
    "--forward-state",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to restore the state of a forward command that was copied with this option.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def restore_command(folder: Path, target: Path, forward_state: Path | None, as_json: bool) -> None:
    """Make a store in the empty folder TARGET from the backup in DIR, after checking its digests.

    Stop the node first, and start it with STORE=sqlite:TARGET afterwards. Every master compares a
    restored slave from its first record and shows what may be lost; a restored master fetches from
    its slaves what came after the backup. Consumers continue at their positions.

    An interrupted restore is begun again by the next one; no node opens the store before.

    Exit code 0 for a complete restore, 1 without one, or if a file was damaged in the store.
    """
    from portable_core.adapters.sqlite.restore import Restore

    report = Restore(folder, target, forward_state=forward_state).run()
    counts = {"files": report.files, "bytes": report.bytes}
    if as_json:
        click.echo(json.dumps({"started": report.started, **counts, "damaged": report.damaged}))
    else:
        click.echo(f"restored {describe_size(counts)} into {printable(str(target))}")
        click.echo(
            f"Backup of {format_time(report.started, ' UTC')}: what only this node acknowledged "
            "since then is not in it."
        )
    if report.forward_left:
        click.echo(
            "Not restored: the state of a forward command. Name its file with --forward-state.",
            err=True,
        )
    for damage in report.damaged:
        click.echo(f"Damaged when the backup was made: {printable(damage)}", err=True)
    sys.exit(1 if report.damaged else 0)
