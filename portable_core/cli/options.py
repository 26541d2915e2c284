"""Options that several commands share, and the examples below a command's help."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any, TypeVar

import click

from portable_core.errors import Unavailable
from portable_core.text import parse_time

#: The exit code of a command that got no result from a node.
NO_ANSWER = 3


class NodeSilent(Unavailable):
    """A node does not respond, rejects the request, or breaks off its response."""


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
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
            return max(0, round(time.time() * 1000) - int(ago[1]) * _UNITS[ago[2]] * 1000)
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
