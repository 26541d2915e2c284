"""``webhook-sync dead-letters``: the webhooks that ``forward`` could not deliver."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from portable_core.cli.forward import make_target, secret_option, timeout_option
from portable_core.cli.options import examples
from portable_core.cli.output import printable
from portable_core.errors import SettingsError
from portable_core.text import format_time
from portable_core.webhooks.dead_letters import StoredDeadLetter, retry_dead_letter
from portable_core.webhooks.feed import encode_line
from portable_core.webhooks.payload_text import indent

if TYPE_CHECKING:
    from portable_core.adapters.delivery_state import DeliveryFile

_STATE = click.option(
    "--state",
    type=click.Path(dir_okay=False, path_type=Path),
    default="forward.sqlite3",
    show_default=True,
    help="The file of forward.",
)
_WHOLE = 2**62
_ALL = click.option("--all", "every", is_flag=True, help="All dead letters.")


@click.group(
    "dead-letters",
    epilog=examples(
        "webhook-sync dead-letters list --state shop.sqlite3",
        "webhook-sync dead-letters retry --all --url https://shop.example/webhooks",
        "webhook-sync dead-letters drop 1795481383002-3696577821",
    ),
)
def dead_letters_command() -> None:
    """List, show, retry and drop the webhooks that forward could not deliver."""


def _open(path: Path) -> DeliveryFile:
    from portable_core.adapters.delivery_state import DeliveryFile

    if not path.exists():
        raise SettingsError(f"--state: no such file (got {printable(str(path))})")
    return DeliveryFile(path, exclusive=False)


@dead_letters_command.command(
    "list",
    epilog=examples(
        "webhook-sync dead-letters list",
        "webhook-sync dead-letters list --state shop.sqlite3 --json | jq .reason",
    ),
)
@_STATE
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one dead letter per line.")
def list_dead_letters(state: Path, as_json: bool) -> None:
    """List the dead letters, oldest webhook first, one per line."""
    with closing(_open(state)) as file:
        for letter in file.list_dead_letters():
            click.echo(json.dumps(_to_json(letter)) if as_json else _describe(letter))


def _to_json(letter: StoredDeadLetter) -> dict[str, object]:
    meta = letter.record.meta
    return {
        "id": letter.id,
        "key": meta.key,
        "source": meta.source,
        "event": letter.event,
        "attempts": letter.attempts,
        "status": letter.status,
        "reason": letter.reason,
        "at": letter.died,
        "size": len(letter.record.payload),
    }


def _describe(letter: StoredDeadLetter) -> str:
    columns = (
        f"{printable(letter.id):24}",
        format_time(letter.died),
        f"{printable(letter.record.meta.source) or '–':12}",
        f"{printable(letter.event) or '–':20}",
        f"{letter.attempts:>4} requests",
        printable(f"{letter.status or ''} {letter.reason}".strip()),
    )
    return "  ".join(columns)


@dead_letters_command.command(
    "show",
    epilog=examples(
        "webhook-sync dead-letters show 1795481383002-3696577821",
        "webhook-sync dead-letters show 1795481383002-3696577821 --raw > payload.json",
    ),
)
@_STATE
@click.argument("webhook", metavar="ID")
@click.option("--raw", is_flag=True, help="Write only the payload, byte for byte.")
@click.option("--json", "as_json", is_flag=True, help="Print a line of the feed, with the payload.")
def show_dead_letter(state: Path, webhook: str, raw: bool, as_json: bool) -> None:
    """Show one dead letter: its last outcome, its kept headers and its payload."""
    if raw and as_json:
        raise click.UsageError("--raw and --json exclude each other")
    with closing(_open(state)) as file:
        (letter,) = file.list_dead_letters([webhook])
    record = letter.record
    if raw:
        sys.stdout.buffer.write(record.payload)
        return
    if as_json:
        click.echo(encode_line(record, raw=True), nl=False)
        return
    click.echo(_describe(letter))
    for name, value in sorted(record.meta.headers.items()):
        click.echo(f"{printable(name)}: {printable(value)}")
    text, _ = indent(record.payload, _WHOLE)
    click.echo(printable(text, keep="\n"))


@dead_letters_command.command(
    "retry",
    epilog=examples(
        "webhook-sync dead-letters retry --all --url https://shop.example/webhooks",
        "webhook-sync dead-letters retry --all --exec 'python3 handle.py'",
    ),
)
@_STATE
@click.argument("ids", metavar="[ID]...", nargs=-1)
@_ALL
@click.option("--url", help="Address of the receiver.")
@click.option("--exec", "command", metavar="COMMAND", help="Run this command instead.")
@secret_option
@timeout_option
def retry_dead_letters(
    state: Path,
    ids: tuple[str, ...],
    every: bool,
    url: str | None,
    command: str | None,
    secret: str | None,
    timeout: float | None,
) -> None:
    """Send dead letters once more, one after the other, and remove those that are delivered.

    Exit code 0 if all were delivered, 1 otherwise.
    """
    _check_selection(ids, every)
    target = make_target(url, command, secret, timeout)
    failed = delivered = 0
    with closing(_open(state)) as file, target() as send:
        for letter in file.list_dead_letters(None if every else ids):
            outcome = retry_dead_letter(file, send, letter)
            if outcome.ok:
                delivered += 1
                continue
            failed += 1
            why = f"{outcome.status or ''} {outcome.reason}".strip()
            click.echo(f"{printable(letter.id)}  {printable(why)}")
    click.echo(f"{delivered} delivered, {failed} failed.")
    sys.exit(1 if failed else 0)


@dead_letters_command.command(
    "drop",
    epilog=examples(
        "webhook-sync dead-letters drop 1795481383002-3696577821",
        "webhook-sync dead-letters drop --all --state shop.sqlite3",
    ),
)
@_STATE
@click.argument("ids", metavar="[ID]...", nargs=-1)
@_ALL
def drop_dead_letters(state: Path, ids: tuple[str, ...], every: bool) -> None:
    """Remove dead letters without sending them."""
    _check_selection(ids, every)
    with closing(_open(state)) as file:
        letters = file.list_dead_letters(None if every else ids)
        dropped = sum(file.drop_dead_letter(letter.id) for letter in letters)
    click.echo(f"{dropped} dropped.")


def _check_selection(ids: tuple[str, ...], every: bool) -> None:
    if bool(ids) == every:
        raise click.UsageError("name dead letters with either IDs or --all")
