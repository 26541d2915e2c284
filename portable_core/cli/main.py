"""The command ``webhook-sync``. Each subcommand is a module that is loaded when it is called.

Exit codes: 0 all went well; 1 the answer is no (a malformed payload, a broken promise, a failed or
late slave, a webhook that is missing or was not delivered), a node does not answer, a setting is
wrong, or the output cannot be written; 2 the command line is not understood (click's own); 3, of
``verify`` alone: there was no comparison, or none to its end, so that nothing is said of what is
missing.
"""

from __future__ import annotations

import errno
import sys
from importlib import import_module
from typing import Any

import click

from portable_core.cli.answers import drop_output, printable
from portable_core.errors import WebhookSyncError

_COMMANDS = {
    "completion": "portable_core.cli.completion",
    "demo": "portable_core.demo.command",
    "hash": "portable_core.cli.hash",
    "replay": "portable_core.cli.replay",
    "serve": "portable_core.cli.serve",
    "status": "portable_core.cli.status",
    "sync": "portable_core.cli.sync",
    "verify": "portable_core.cli.verify",
    "webhooks": "portable_core.cli.webhooks",
}


class _LazyGroup(click.Group):
    """Finds subcommands in :data:`_COMMANDS`; turns errors of the core into one line and exit 1."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(import_module(_COMMANDS[cmd_name]), f"{cmd_name}_command")
        assert isinstance(command, click.Command)  # noqa: S101  # each module defines its command
        return command

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command. What it prints is not kept back for Python's own end, which would fail."""
        try:
            try:
                return super().main(*args, **extra)
            finally:
                if sys.stdout is not None:
                    sys.stdout.flush()
        except OSError as error:
            drop_output()
            if error.errno != errno.EPIPE:  # whoever reads it has seen enough
                click.echo(f"Error: {error}", err=True)
            sys.exit(1)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except WebhookSyncError as error:
            raise click.ClickException(printable(str(error), keep="\n")) from error


_EXIT_CODES = """Exit codes: 0 all went well; 1 the answer is no (something is missing, late, failed
or malformed), a node does not answer, a setting is wrong, or the output cannot be written; 2 the
command line is not understood; 3 verify could not compare."""


@click.group(cls=_LazyGroup, epilog=_EXIT_CODES)
@click.version_option(package_name="webhook-sync")
def main() -> None:
    """Redundant webhook receivers that lose nothing."""
