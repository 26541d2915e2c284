"""``webhook-sync completion``: print a shell's completion script."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from portable_core.cli.options import examples


@click.command(
    "completion",
    epilog=examples(
        'eval "$(webhook-sync completion bash)"',
        'eval "$(webhook-sync completion zsh)"',
        "webhook-sync completion fish > ~/.config/fish/completions/webhook-sync.fish",
    ),
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion_command(ctx: click.Context, shell: str) -> None:
    """Print the script that completes commands and options in SHELL."""
    complete = get_completion_class(shell)
    assert complete is not None  # noqa: S101  # click knows all three
    root = ctx.find_root().command
    click.echo(complete(root, {}, "webhook-sync", "_WEBHOOK_SYNC_COMPLETE").source())
