"""``webhook-sync serve``: run a node under the container's server."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from portable_core.cli.options import env_file_option, examples, read_env
from portable_core.cli.output import printable
from portable_core.errors import SettingsError
from portable_core.settings import Role, Settings


@click.command(
    "serve",
    epilog=examples(
        "SYNC_TOKENS=secret STORE=sqlite:./data webhook-sync serve --role slave",
        "webhook-sync serve --role master --host 127.0.0.1 --port 8081",
        "webhook-sync serve --role master --sync-every 60",
        "webhook-sync serve --role master --check",
    ),
)
@click.option(
    "--role", type=click.Choice(["slave", "master"]), required=True, help="Role of the node."
)
@click.option("--host", help="Name or IP address to listen on; default: HOST, else all addresses.")
@click.option("--port", help="Port to listen on; default: PORT, else 8080.")
@click.option(
    "--sync-every",
    metavar="SECONDS",
    help="Sync by itself so often (master); default: SYNC_EVERY_S, else only on request.",
)
@env_file_option
@click.option(
    "--check",
    is_flag=True,
    help="Only check the settings and the store, and print what is wrong. Nothing is changed; a "
    "running node is not disturbed.",
)
def serve_command(
    role: str,
    host: str | None,
    port: str | None,
    sync_every: str | None,
    env_file: Path | None,
    check: bool,
) -> None:
    """Run a slave or a master. All settings come from the environment, or from a file.

    With --check, exit code 0 if a node would start, 1 with one line per problem otherwise.
    """
    from portable_core.wiring import check_role

    checked = check_role(role)
    env = read_env(env_file)
    if port is not None:
        env["PORT"] = port
    if sync_every is not None:
        if checked != "master":
            raise click.UsageError("--sync-every is an option of a master")
        env["SYNC_EVERY_S"] = sync_every
    if check:
        _check(checked, env, host)
    else:
        from portable_core.serve import serve

        settings = Settings.from_env(checked, env)
        check_forward_options(settings.forward_options)
        serve(settings, settings.host if host is None else host)


def check_forward_options(options: Sequence[str]) -> None:
    """Raise ``SettingsError`` for options that ``forward`` does not accept."""
    if not options:  # the command and its display load 35 modules
        return
    from portable_core.cli.forward import forward_command

    try:
        arguments = ["http://localhost/", *options]
        forward_command.make_context("forward", arguments, help_option_names=["-h", "--help"])
    except click.UsageError as error:
        raise SettingsError(f"FORWARD_OPTIONS: {error.format_message()}") from None
    except click.exceptions.Exit:
        raise SettingsError("FORWARD_OPTIONS: asks for help. Remove that option.") from None


def _check(role: Role, env: Mapping[str, str], host: str | None) -> None:
    from portable_core.preflight import check_node

    faults, warnings = check_node(role, env, host)
    settings, _ = Settings.examine(role, env)
    try:
        check_forward_options(() if settings is None else settings.forward_options)
    except SettingsError as error:
        faults.append(str(error))
    for warning in warnings:
        click.echo(f"Warning: {printable(warning)}", err=True)
    for fault in faults:
        click.echo(printable(fault))
    sys.exit(1 if faults else 0)
