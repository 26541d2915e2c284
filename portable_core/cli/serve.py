"""``webhook-sync serve``: run a node under the container's server."""

from __future__ import annotations

import os

import click

from portable_core.cli.options import examples
from portable_core.settings import Settings


@click.command(
    "serve",
    epilog=examples(
        "SYNC_TOKENS=secret STORE=sqlite:./data webhook-sync serve --role slave",
        "webhook-sync serve --role master --host 127.0.0.1",
    ),
)
@click.option(
    "--role", type=click.Choice(["slave", "master"]), required=True, help="Role of the node."
)
@click.option("--host", default="0.0.0.0", show_default=True, help="IP address to listen on.")  # noqa: S104  # a container listens on all its addresses
def serve_command(role: str, host: str) -> None:
    """Run a slave or a master. All settings come from the environment."""
    from portable_core.serve import serve
    from portable_core.wiring import check_role

    checked = check_role(role)
    serve(checked, Settings.from_env(checked, os.environ), host)
