"""``webhook-sync backup``: copy the store of a node that may be running."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import click

from portable_core.cli.options import env_file_option, examples, read_env
from portable_core.cli.output import printable
from portable_core.errors import SettingsError
from portable_core.store_kinds import parse_store
from portable_core.text import format_time

#: The process leaves the processor to the node.
_NICE = 10


@click.command(
    "backup",
    short_help="Copy the store of a node that may be running.",
    epilog=examples(
        "STORE=sqlite:./data webhook-sync backup /backup/master",
        "webhook-sync backup /backup/master --env-file /etc/webhook-sync/master.env",
        "webhook-sync backup /backup/master --check",
    ),
)
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@env_file_option
@click.option(
    "--forward-state",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="State of a forward command, to be copied too. The one of FORWARD_URL always is.",
)
@click.option("--check", is_flag=True, help="Only read the backup, and compare its digests.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def backup_command(
    folder: Path, env_file: Path | None, forward_state: Path | None, check: bool, as_json: bool
) -> None:
    """Copy the SQLite store that STORE names into DIR, consistently; the node may run meanwhile.

    Everything that was acknowledged before the start of the command is in the backup. DIR then has
    this backup instead of the one before: files that have not changed are not copied again. An
    interrupted backup leaves the one before as it was.

    Exit code 0 for a complete backup, 1 without one, or if a file of the store is damaged.
    """
    from portable_core.adapters.sqlite.backup import Backup
    from portable_core.adapters.sqlite.restore import check_backup

    if check:
        manifest = check_backup(folder)
        begun, damaged = manifest.started, manifest.damaged
        counts = {"files": len(manifest.copies), "bytes": sum(c.size for c in manifest.copies)}
    else:
        source = find_store(read_env(env_file))
        with suppress(OSError):
            os.nice(_NICE)
        report = Backup(source, folder, forward_state=forward_state).run()
        begun, damaged = report.started, report.damaged
        counts = {
            "files": report.files,
            "bytes": report.bytes,
            "copied": report.copied,
            "copied_bytes": report.copied_bytes,
        }
    if as_json:
        click.echo(json.dumps({"started": begun, **counts, "damaged": damaged}))
    else:
        click.echo(f"backup of {format_time(begun, ' UTC')}: {describe_size(counts)}")
        if "copied" in counts:
            click.echo(f"copied now: {counts['copied']} files, {counts['copied_bytes']:,} bytes")
        for damage in damaged:
            click.echo(f"Damaged in the store: {printable(damage)}", err=True)
    sys.exit(1 if damaged else 0)


def describe_size(counts: Mapping[str, int]) -> str:
    return f"{counts['files']} files, {counts['bytes']:,} bytes"


def find_store(env: Mapping[str, str]) -> Path:
    """Return the folder of the SQLite store that ``STORE`` names. Raise ``SettingsError``."""
    text = env.get("STORE", "")
    if not text:
        raise SettingsError(
            "STORE: is not set. Set it to the store of the node, or use --env-file."
        )
    try:
        address = parse_store(text)
    except ValueError as error:
        raise SettingsError(f"STORE: {error}") from error
    if address.kind.name != "sqlite":
        raise SettingsError(
            f"STORE: only a sqlite: store has files to copy (got {text}). For Firestore, use its "
            "own backups."
        )
    return Path(address.path).expanduser()
