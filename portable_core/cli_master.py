"""What the commands have in common that ask a running master: its address, its answers, times."""

from __future__ import annotations

import http.client
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

import click

from portable_core.errors import AnswerInvalid, SettingsError, Unavailable
from portable_core.feed import NDJSON

TIMEOUT_S = 60.0

_RETRIES = 5  # without a line between them
_PAUSE_S = 0.5  # before the first of them; before each other one so much longer
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_Command = TypeVar("_Command", bound=Callable[..., object])


class Master:
    """A running master at ``url``, asked with one of its tokens."""

    def __init__(self, url: str, token: str | None) -> None:
        if urlsplit(url).scheme not in ("http", "https"):
            raise SettingsError(f"--master: must be an http:// or https:// address, not {url!r}")
        self.url = url.rstrip("/")
        self.token = (token or "").split(",")[0].strip()

    def open(self, path: str, query: Mapping[str, str], accept: str) -> Any:
        """The answer to ``GET path``. Raises ``Unavailable`` with what the master says."""
        asked = {name: value for name, value in query.items() if value}
        headers = {"Accept": accept}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        request = urllib.request.Request(  # noqa: S310  # the scheme was checked
            f"{self.url}{path}" + (f"?{urlencode(asked)}" if asked else ""), headers=headers
        )
        try:
            return urllib.request.urlopen(request, timeout=TIMEOUT_S)  # noqa: S310
        except urllib.error.HTTPError as error:
            detail = _read_detail(error)
            raise Unavailable(f"{self.url} answered {error.code}: {detail}") from error
        except OSError as error:
            raise Unavailable(
                f"{self.url} does not answer ({error}); is the master running? (--master names it)"
            ) from error

    def read_json(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        with self.open(path, query or {}, "application/json") as answer:
            document: dict[str, Any] = json.load(answer)
            return document

    def read_feed(self, query: Mapping[str, str]) -> Iterator[bytes]:
        """The webhooks of ``GET /webhooks``, a line each, of a query without a limit.

        A feed that was cut, which is one without its closing line, is taken up after the last line
        that came. Raises ``Unavailable`` where the master does not answer at first, or ends it
        again and again; ``AnswerInvalid`` for what is no feed.
        """
        since = query.get("since", "")
        failures = -1  # so far not even begun
        while True:
            try:
                with self.open("/webhooks", {**query, "since": since}, NDJSON) as answer:
                    failures = max(0, failures)
                    for line in answer:
                        if not line.endswith(b"\n"):
                            break
                        position = _read_position(line)
                        if position is None:
                            return
                        since, failures = position, 0
                        yield line
                problem = "it ended without its closing line"
            except (http.client.HTTPException, OSError) as error:
                problem = str(error)
            except Unavailable as error:
                if failures < 0:
                    raise
                problem = str(error)
            failures += 1
            if failures > _RETRIES:
                raise Unavailable(f"{self.url}: the feed was cut {failures} times: {problem}")
            time.sleep(failures * _PAUSE_S)


def _read_position(line: bytes) -> str | None:
    """The id of a line's webhook; None for the closing line."""
    try:
        document = json.loads(line)
        return None if document.get("end") is True else str(document["id"])
    except (ValueError, KeyError, AttributeError, RecursionError) as error:
        raise AnswerInvalid(
            f"a line of the feed cannot be read ({error!r}); is --master a master?"
        ) from error


def _read_detail(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["detail"])
    except (ValueError, KeyError, TypeError):
        return error.reason


def master_options(command: _Command) -> _Command:
    """Add ``--master`` and ``--token``."""
    command = click.option(
        "--token", envvar="SYNC_TOKENS", help="One of its SYNC_TOKENS; default: that variable."
    )(command)
    return click.option(
        "--master",
        envvar="MASTER_URL",
        default="http://127.0.0.1:8080",
        show_default=True,
        help="Address of the master; default: MASTER_URL.",
    )(command)


class Moment(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions alone
    """``2026-01-31T09:05`` (UTC where no zone is named), ``2h`` (ago), or milliseconds."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | None:
        text = str(value).strip()
        ago = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
        if ago:
            return round(time.time() * 1000) - int(ago[1]) * _UNITS[ago[2]] * 1000
        if re.fullmatch(r"[0-9]{1,16}", text):
            return int(text)
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            self.fail(f"{text!r} is neither 2026-01-31T09:05 nor 2h nor milliseconds", param, ctx)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return round(moment.timestamp() * 1000)


MOMENT = Moment()


def range_options(command: _Command) -> _Command:
    """Add ``--since`` and ``--until``."""
    command = click.option("--until", type=MOMENT, help="Up to this time; default: the end.")(
        command
    )
    return click.option(
        "--since", type=MOMENT, help="From this time: 2026-01-31T09:05, 2h (ago), or ms."
    )(command)


def format_moment(milliseconds: int | None) -> str:
    """For tables: UTC, to the second."""
    if milliseconds is None:
        return "–"
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
