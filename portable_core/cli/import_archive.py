"""``webhook-sync import``: bring archived webhooks back into a master."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from portable_core.cli.master_client import MasterClient
from portable_core.cli.options import examples, master_options, range_options
from portable_core.cli.responses import parse_response
from portable_core.errors import SettingsError
from portable_core.sync.archiving import ArchivePlan, ImportDocument

#: A request has at most so many records, and no further one after so many bytes.
_RECORDS = 1000
_BYTES = 4 * 2**20


@click.command(
    "import",
    short_help="Bring archived webhooks back into a master.",
    epilog=examples(
        "webhook-sync import /archive/webhooks",
        "webhook-sync import /archive/webhooks --since 2026-01-01T00:00",
        "webhook-sync import /archive/webhooks --check",
    ),
)
@master_options
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@range_options
@click.option("--check", is_flag=True, help="Only read the archive, and compare its digests.")
def import_command(
    master: str, token: str | None, folder: Path, since: int | None, until: int | None, check: bool
) -> None:
    """Store the webhooks of an archive in a master, with their metadata, keys and timestamps.

    Their digests are compared. Webhooks that the master has, or that were deleted, are left out. In
    the arrival feed they come before all others, so consumers do not get them again.
    """
    from portable_core.adapters.archive_folder import ArchiveFolder

    archive = ArchiveFolder(folder)
    manifest = archive.require_manifest()
    low, high = since or 0, 2**63 if until is None else until
    chosen = [each for each in manifest.stretches if each.start < high and low < each.end]
    if check:
        for stretch in chosen:
            archive.verify(stretch)
        count = sum(stretch.records for stretch in chosen)
        click.echo(f"{len(chosen)} files with {count} webhooks are whole.")
        return
    client = MasterClient(master, token)
    algorithm = client.read_as(ArchivePlan, "/archive", {"before": "0"}).hash
    if algorithm != manifest.hash:
        raise SettingsError(
            f"HASH: the archive was made with {manifest.hash} (the master has {algorithm})."
        )
    stored = present = erased = 0
    for stretch in chosen:
        archive.verify(stretch)
        lines = (
            line for record, line in archive.read(stretch) if low <= record.pair.timestamp < high
        )
        for body in _divide(lines):
            done = parse_response(client.read("/import", method="POST", body=body), ImportDocument)
            stored, present, erased = (
                stored + done.stored,
                present + done.present,
                erased + done.erased,
            )
    click.echo(f"{stored} webhooks stored, {present} were there, {erased} were deleted before.")


def _divide(lines: Iterator[bytes]) -> Iterator[bytes]:
    block: list[bytes] = []
    size = 0
    for line in lines:
        block.append(line)
        size += len(line)
        if len(block) >= _RECORDS or size >= _BYTES:
            yield b"".join(block)
            block, size = [], 0
    if block:
        yield b"".join(block)
