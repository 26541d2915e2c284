"""``webhook-sync completion bash|zsh|fish``: what makes a shell complete its commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion_command(ctx: click.Context, shell: str) -> None:
    """Print the script that completes commands and options in SHELL.

    For bash: eval "$(webhook-sync completion bash)"
    """
    complete = get_completion_class(shell)
    assert complete is not None  # noqa: S101  # click knows all three
    root = ctx.find_root().command
    click.echo(complete(root, {}, "webhook-sync", "_WEBHOOK_SYNC_COMPLETE").source())
