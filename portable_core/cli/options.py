"""Options that several commands share, and the examples below a command's help."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from portable_core.errors import SettingsError, Unavailable
from portable_core.text import parse_time

#: The exit code of a command that got no result from a node.
NO_ANSWER = 3


class NodeSilent(Unavailable):
    """A node does not respond, rejects the request, or breaks off its response."""


#: The seconds of each unit of a duration.
UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_Command = TypeVar("_Command", bound=Callable[..., object])


def examples(*lines: str) -> str:
    """Return the epilog of a command's help: example invocations, one per line."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


def master_options(command: _Command) -> _Command:
    """Add ``--master`` and ``--token``."""
    command = click.option(
        "--token", envvar="SYNC_TOKENS", show_envvar=True, help="Token of the master."
    )(command)
    return click.option(
        "--master",
        metavar="URL",
        envvar="MASTER_URL",
        show_envvar=True,
        default="http://127.0.0.1:8080",
        show_default=True,
        help="Address of the master.",
    )(command)


class Moment(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions alone
    """A time: ``2026-01-31T09:05`` (UTC unless it names a zone), ``2h`` (ago), or milliseconds.

    A time before the Unix epoch counts as the epoch.
    """

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | None:
        text = str(value).strip()
        ago = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
        if ago:
            return max(0, round(time.time() * 1000) - int(ago[1]) * UNIT_SECONDS[ago[2]] * 1000)
        try:
            return parse_time(text)
        except ValueError as error:
            reason = f": {error}" if text.isdecimal() else ""
            self.fail(
                f"invalid time {text!r}{reason}. Use 2026-01-31T09:05 (UTC), 2h (two hours ago) or "
                "milliseconds since the Unix epoch.",
                param,
                ctx,
            )


MOMENT = Moment()


def range_options(command: _Command) -> _Command:
    """Add ``--since`` and ``--until``."""
    command = click.option("--until", type=MOMENT, help="End of the time range, exclusive.")(
        command
    )
    return click.option(
        "--since",
        type=MOMENT,
        help="Start of the time range: 2026-01-31T09:05 (UTC), 2h (ago), or milliseconds.",
    )(command)


def source_option(command: _Command) -> _Command:
    """Add ``--source``."""
    return click.option("--source", help='Only webhooks of this source; "-" for no source.')(
        command
    )


def env_file_option(command: _Command) -> _Command:
    """Add ``--env-file``."""
    return click.option(
        "--env-file",
        type=click.Path(dir_okay=False, path_type=Path),
        help="File with settings, one NAME=VALUE per line; the environment has precedence.",
    )(command)


def read_env(env_file: Path | None) -> dict[str, str]:
    """Return the environment, with the settings of a file that it does not set."""
    return {**(parse_env_file(env_file) if env_file else {}), **os.environ}


def parse_env_file(path: Path) -> dict[str, str]:
    """Return the settings of a file, as systemd reads one: comments, and quotes around a value.

    Raises ``SettingsError`` for a line that is not ``NAME=VALUE``.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"--env-file: {path} cannot be read: {error}") from error
    found = {}
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line[0] in "#;":
            continue
        name, equals, value = line.partition("=")
        if not equals or not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name):
            raise SettingsError(f"--env-file: {path}: line {number} is not NAME=VALUE")
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        found[name] = value
    return found
