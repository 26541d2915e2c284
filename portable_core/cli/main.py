"""The command ``webhook-sync``. A subcommand's module is imported when the subcommand is called.

The exit codes are in the help of the command (:data:`_EPILOG`): 1 is a result, 3 means no result.
"""

from __future__ import annotations

import errno
import sys
from importlib import import_module
from typing import Any

import click

from portable_core.cli.options import NO_ANSWER, NodeSilent, examples
from portable_core.cli.output import drop_output, printable
from portable_core.errors import AnswerInvalid, WebhookSyncError

_COMMANDS = {
    "archive": "portable_core.cli.archive",
    "backup": "portable_core.cli.backup",
    "completion": "portable_core.cli.completion",
    "consumers": "portable_core.cli.consumers",
    "dead-letters": "portable_core.cli.dead_letters",
    "demo": "portable_core.cli.demo",
    "doctor": "portable_core.cli.doctor",
    "forward": "portable_core.cli.forward",
    "hash": "portable_core.cli.hash",
    "import": "portable_core.cli.import_archive",
    "init": "portable_core.cli.init",
    "losses": "portable_core.cli.losses",
    "masters": "portable_core.cli.masters",
    "quarantine": "portable_core.cli.quarantine",
    "redeliver": "portable_core.cli.redeliver",
    "repair": "portable_core.cli.repair",
    "replay": "portable_core.cli.replay",
    "restore": "portable_core.cli.restore",
    "send": "portable_core.cli.send",
    "serve": "portable_core.cli.serve",
    "slaves": "portable_core.cli.slaves",
    "sources": "portable_core.cli.sources",
    "status": "portable_core.cli.status",
    "sync": "portable_core.cli.sync",
    "verify": "portable_core.cli.verify",
    "webhooks": "portable_core.cli.webhooks",
}


class _LazyGroup(click.Group):
    """The commands of :data:`_COMMANDS`; an error of the core becomes one line and exit code 1."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(
            import_module(_COMMANDS[cmd_name]), f"{cmd_name.replace('-', '_')}_command"
        )
        assert isinstance(command, click.Command)  # noqa: S101  # each module defines its command
        return command

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command and flush its output; report output that cannot be written in one line."""
        try:
            try:
                return super().main(*args, **extra)
            finally:
                if sys.stdout is not None:
                    sys.stdout.flush()
        except OSError as error:
            drop_output()
            if error.errno != errno.EPIPE:  # the reader has closed the pipe on purpose
                click.echo(f"Error: {error}", err=True)
            sys.exit(1)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except WebhookSyncError as error:
            silent = isinstance(error, (NodeSilent, AnswerInvalid))
            failure = _NoAnswer if silent else click.ClickException
            raise failure(printable(str(error), keep="\n")) from error


class _NoAnswer(click.ClickException):
    exit_code = NO_ANSWER


_EPILOG = f"""{
    examples(
        "webhook-sync demo",
        "webhook-sync status --master https://master.example",
        "webhook-sync verify --slave slave-1 --since 24h",
        "webhook-sync replay https://shop.example/webhooks --since 2h",
    )
}

\b
Exit codes:
  0  Success.
  1  The check failed (a webhook is missing, malformed or not delivered; a
     slave failed or is late), a setting is wrong, or the output cannot be
     written.
  2  The command line is invalid.
  3  No result: a node does not respond or rejects the request, its response
     is invalid, or a comparison could not be completed."""


@click.group(
    cls=_LazyGroup, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(package_name="webhook-sync")
def main() -> None:
    """Redundant webhook receivers that lose nothing."""
