"""``webhook-sync webhooks delete``: delete webhooks for good."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import click

from portable_core.cli.master_client import MasterClient
from portable_core.cli.options import examples, master_options
from portable_core.cli.output import printable
from portable_core.cli.responses import parse_response
from portable_core.records import parse_id
from portable_core.sync.erasing import DeletionDocument


@click.command(
    "delete",
    short_help="Delete webhooks for good.",
    epilog=examples(
        "webhook-sync webhooks delete 1795481383002-3696577821",
        "webhook-sync webhooks delete 1795481383002-3696577821 1795481383009-12",
    ),
)
@master_options
@click.argument("webhooks", metavar="ID...", nargs=-1, required=True)
@click.option(
    "--archive",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Delete the webhooks from this archive, too: its files are written anew.",
)
def delete_webhooks(
    master: str, token: str | None, webhooks: tuple[str, ...], archive: Path | None
) -> None:
    """Delete webhooks for good: on the master, and with the next sync on its slaves.

    Payload and metadata are erased, also in the quarantine and among the dead letters of the
    master. The pair and the key stay, so that no sync brings the webhook back. Copies in backups,
    in archives without --archive, and at consumers stay.
    """
    client = MasterClient(master, token)
    for webhook in webhooks:
        key = None if archive is None else _erase(archive, webhook)
        path = f"/webhooks/{quote(webhook, safe='')}"
        query = {} if key is None else {"key": key or "-"}
        done = parse_response(client.read(path, query, method="DELETE"), DeletionDocument)
        more = [
            f"{count} {name}"
            for count, name in (
                (done.quarantined, "in quarantine"),
                (done.dead_letters, "dead letters"),
            )
            if count
        ]
        state = "deleted" if done.records else "was deleted before"
        if key is not None:
            state = "deleted" if done.records else "deleted in the archive"
        click.echo(", ".join([f"{printable(done.webhook)}: {state}", *more]))


def _erase(archive: Path, webhook: str) -> str | None:
    """Erase a webhook in an archive; return its key, None if it is not there."""
    from portable_core.adapters.archive_folder import ArchiveFolder

    folder = ArchiveFolder(archive)
    with folder.hold():
        return folder.erase(parse_id(webhook))
