"""``webhook-sync webhooks delete``: delete webhooks for good."""

from __future__ import annotations

from urllib.parse import quote

import click

from portable_core.cli.master_client import MasterClient
from portable_core.cli.options import examples, master_options
from portable_core.cli.output import printable
from portable_core.cli.responses import parse_response
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
def delete_webhooks(master: str, token: str | None, webhooks: tuple[str, ...]) -> None:
    """Delete webhooks for good: on the master, and with the next sync on its slaves.

    Payload and metadata are erased, also in the quarantine and among the dead letters of the
    master. The pair and the key stay, so that no sync brings the webhook back. Copies in backups,
    in archives and at consumers stay.
    """
    client = MasterClient(master, token)
    for webhook in webhooks:
        path = f"/webhooks/{quote(webhook, safe='')}"
        done = parse_response(client.read(path, method="DELETE"), DeletionDocument)
        more = [
            f"{count} {name}"
            for count, name in (
                (done.quarantined, "in quarantine"),
                (done.dead_letters, "dead letters"),
            )
            if count
        ]
        state = "deleted" if done.records else "was deleted before"
        click.echo(", ".join([f"{printable(done.webhook)}: {state}", *more]))
