"""What the commands have in common that ask a running master: its address, its answers, times."""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from http.client import HTTPException, HTTPMessage
from typing import IO, Any, TypeVar
from urllib.parse import urlencode, urlsplit

import click

from portable_core.cli.answers import DOUBT, get, parse_document
from portable_core.errors import AnswerInvalid, BadRequest, SettingsError, Unavailable
from portable_core.sync.protocol import parse_integer
from portable_core.webhooks.feed import NDJSON
from portable_core.webhooks.replay import check_target

TIMEOUT_S = 60.0

_RETRIES = 5  # without a line between them
_PAUSE_S = 0.5  # before the first of them; before each other one so much longer
_UNKNOWN = (404, 405, 501)  # no such path, or no such method
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_Command = TypeVar("_Command", bound=Callable[..., object])


class _RefuseRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect may lead to another host, where the token does not belong."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> None:
        raise Unavailable(
            f"{req.host} answered {code}, a redirect to {urlsplit(newurl).netloc}; redirects are "
            "not followed: give --master the address that answers itself"
        )


#: Asks a master over HTTP. Raises ``Unavailable`` for a redirect.
OPENER = urllib.request.build_opener(_RefuseRedirects)


class MasterClient:
    """A running master at ``url``, asked with one of its tokens. Raises ``SettingsError``."""

    def __init__(self, url: str, token: str | None) -> None:
        try:
            check_target(url, None)
        except BadRequest as error:
            raise SettingsError(f"--master: {error}") from error
        self.url = url.rstrip("/")
        self.token = (token or "").split(",")[0].strip()
        if not (self.token.isascii() and self.token.isprintable()):
            raise SettingsError("--token: holds signs that no token may hold")

    def open(self, path: str, query: Mapping[str, str], accept: str, *, method: str = "GET") -> Any:
        """The answer to a request. Raises ``Unavailable`` with what the master says."""
        asked = {name: value for name, value in query.items() if value}
        headers = {"Accept": accept}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        request = urllib.request.Request(  # noqa: S310  # the scheme was checked
            f"{self.url}{path}" + (f"?{urlencode(asked)}" if asked else ""),
            headers=headers,
            method=method,
        )
        try:
            return OPENER.open(request, timeout=TIMEOUT_S)
        except urllib.error.HTTPError as error:
            detail = _read_detail(error)
            raise Unavailable(f"{self.url} answered {error.code}: {detail}") from error
        except urllib.error.URLError as error:
            raise self._explain_silence(error.reason) from error
        except (OSError, UnicodeError) as error:  # a name of a host that is none is the latter
            raise self._explain_silence(error) from error
        except HTTPException as error:
            told = repr(error)[:120]
            raise AnswerInvalid(f"{self.url} does not speak HTTP ({told}){DOUBT}") from error

    def _explain_silence(self, reason: object) -> Unavailable:
        return Unavailable(
            f"{self.url} does not answer ({reason}); is the master running? (--master names it)"
        )

    def read(self, path: str, query: Mapping[str, str] | None = None) -> bytes:
        """The whole body of ``GET path``, as JSON. Raises also what :meth:`open` raises."""
        with self.open(path, query or {}, "application/json") as answer:
            try:
                return bytes(answer.read())
            except (HTTPException, OSError) as error:
                raise Unavailable(f"{self.url}: the answer was cut: {error}") from error

    def read_json(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The document of :meth:`read`. Raises ``AnswerInvalid`` for what is none."""
        return parse_document(self.read(path, query))

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
            except (HTTPException, OSError) as error:
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
    document = parse_document(line)
    if document.get("end") is True:
        return None
    return get(document, "id", str)


def _read_detail(error: urllib.error.HTTPError) -> str:
    """What a refusal says, and a doubt where it knows nothing of what a master answers."""
    detail, kind = error.reason, ""
    with suppress(ValueError, KeyError, TypeError, RecursionError, OSError, HTTPException):
        problem = json.load(error)
        detail = " ".join(str(problem["detail"]).split())
        kind = str(problem["type"])
    ours = kind.startswith("urn:webhook-sync:")
    return detail if ours or error.code not in _UNKNOWN else f"{detail}{DOUBT}"


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
    """``2026-01-31T09:05`` (UTC where no zone is named), ``2h`` (ago), or milliseconds.

    Nothing was received before the epoch, at which every earlier time is taken.
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
            return parse_integer(text)
        except ValueError:
            pass
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            self.fail(f"{text!r} is neither 2026-01-31T09:05 nor 2h nor milliseconds", param, ctx)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return max(0, round(moment.timestamp() * 1000))


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
    """For tables: UTC, to the second; in milliseconds where a calendar has no name for it."""
    if milliseconds is None:
        return "–"
    try:
        moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):  # after the year 9999
        return f"{milliseconds} ms"
    return moment.strftime("%Y-%m-%d %H:%M:%S")
