"""``webhook-sync init``: write a file with the settings of a node and fresh tokens."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import click

from portable_core.cli.options import examples, parse_env_file
from portable_core.errors import SettingsError
from portable_core.settings import Settings

_TOKEN_BYTES = 32

_NEXT = {
    "slave": """\
1. Start the slave:
     webhook-sync serve --role slave --env-file {file}
2. Let a proxy with TLS pass requests to port {port}. Enter https://ADDRESS/webhook/NAME at each
   provider, and its secret in SOURCES of {file}; then restart the slave.
3. On the machine of the master, with a copy of {file}:
     webhook-sync init master --token-from {file} --slaves NAME=https://ADDRESS
""",
    "master": """\
1. Check the settings and the slaves:
     webhook-sync doctor --role master --env-file {file}
2. Start the master; it syncs every minute:
     webhook-sync serve --role master --env-file {file}
3. Let a proxy with TLS pass requests to port {port}. Enter https://ADDRESS/webhook/NAME at each
   provider too, and its secret in SOURCES of {file}, as on the slaves.
4. Open https://ADDRESS/ and log in with CONSOLE_TOKEN of {file}.
""",
}


@click.command(
    "init",
    short_help="Write a file with the settings of a node and fresh tokens.",
    epilog=examples(
        "webhook-sync init slave",
        "webhook-sync init master --slaves a=https://a.example",
        "webhook-sync init master --token-from slave.env --slaves a=http://a:8080",
        "webhook-sync init slave --behind-proxy --file /etc/webhook-sync/slave.env",
    ),
)
@click.argument("role", type=click.Choice(["slave", "master"]))
@click.option(
    "--file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write; default: slave.env or master.env. It must not exist; its folder is made.",
)
@click.option(
    "--token-from",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File of another node, whose SYNC_TOKENS and SOURCES this node shares. Without it, a "
    "fresh token.",
)
@click.option("--slaves", default="", help="SLAVES of a master: name=url,name=url.")
@click.option("--store", help="STORE; default: a folder of SQLite files, ./data/ROLE.")
@click.option(
    "--port", default=8080, show_default=True, type=click.IntRange(1, 65535), help="PORT."
)
@click.option(
    "--behind-proxy",
    is_flag=True,
    help="Listen on 127.0.0.1 alone, and trust the headers of a proxy on this machine.",
)
def init_command(
    role: str,
    file: Path | None,
    token_from: Path | None,
    slaves: str,
    store: str | None,
    port: int,
    behind_proxy: bool,
) -> None:
    """Write a file with the settings of a slave or a master, and print what to do next.

    The file has fresh tokens and is readable for its owner alone. Everything else has a default
    that works; docs/settings.md lists all settings. "webhook-sync serve --env-file FILE" reads the
    file, as systemd (EnvironmentFile) and containers (--env-file) do.

    Exit code 1 if the file exists or a value is invalid.
    """
    if role == "slave" and slaves:
        raise click.UsageError("--slaves is an option of a master")
    path = Path(f"{role}.env") if file is None else file
    values = _read_shared(token_from) or {"SYNC_TOKENS": secrets.token_urlsafe(_TOKEN_BYTES)}
    values["STORE"] = store or f"sqlite:./data/{role}"
    values["PORT"] = str(port)
    if behind_proxy:
        values["HOST"] = values["TRUSTED_PROXIES"] = "127.0.0.1"
    if role == "master":
        values["SLAVES"] = slaves
        values["SYNC_EVERY_S"] = "60"
        values["CONSOLE_TOKEN"] = secrets.token_urlsafe(_TOKEN_BYTES)
    Settings.from_env("master" if role == "master" else "slave", values)  # raises for a wrong one
    _write(path, _format(role, values))
    click.echo(f"{path}: written. Keep it secret.\n")
    click.echo(_NEXT[role].format(file=path, port=port), nl=False)


def _read_shared(other: Path | None) -> dict[str, str]:
    """Return the settings that all nodes share, from the file of another node."""
    if other is None:
        return {}
    settings = parse_env_file(other)
    if not settings.get("SYNC_TOKENS"):
        raise SettingsError(f"--token-from: {other} has no SYNC_TOKENS")
    return {name: settings[name] for name in ("SYNC_TOKENS", "SOURCES") if settings.get(name)}


def _format(role: str, values: dict[str, str]) -> str:
    lines = [f"# Settings of a webhook-sync {role}; docs/settings.md lists all of them."]
    if "SOURCES" not in values:
        lines.append("# Senders: uncomment, and enter the secret that the provider shows.")
        lines.append("#SOURCES=hub=github:SECRET,pay=stripe:SECRET")
    lines += [f"{name}={value}" for name, value in values.items() if value]
    if role == "master" and not values["SLAVES"]:
        lines.append("#SLAVES=a=https://a.example,b=https://b.example")
    return "\n".join(lines) + "\n"


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
    except FileExistsError:
        raise SettingsError(f"--file: {path} exists. Name another file, or remove it.") from None
    except OSError as error:
        raise SettingsError(f"--file: {error}") from error
