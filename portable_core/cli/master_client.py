"""Requests of the commands to a running master."""

from __future__ import annotations

import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import suppress
from http.client import HTTPException, HTTPMessage
from typing import IO, Any, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec

from portable_core.cli.options import NodeSilent
from portable_core.cli.responses import DOUBT, parse_response
from portable_core.documents import Problem
from portable_core.errors import AnswerInvalid, BadRequest, SettingsError, Unavailable
from portable_core.settings_text import expand_home
from portable_core.webhooks.feed import NDJSON
from portable_core.webhooks.replay_targets import check_target

T = TypeVar("T")

TIMEOUT_S = 60.0

_RETRIES = 5  # without a line between them
_PAUSE_S = 0.5  # before the first retry; each further one waits as much longer
_RESULTS = (400, 404, 409)
_UNKNOWN = (404, 405, 501)  # no such path, or no such method


class _RefuseRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect may lead to another host, which must not get the token."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> None:
        raise NodeSilent(
            f"{req.host} answered {code}, a redirect to {urlsplit(newurl).netloc}. Redirects are "
            "not followed; use the final address."
        )


def make_opener() -> urllib.request.OpenerDirector:
    """Return the sender of requests to nodes: by the rule of outgoing requests, with ``CA_FILE``.

    It raises ``NodeSilent`` for a redirect.
    """
    from portable_core.adapters.http.tls import make_tls

    return urllib.request.build_opener(
        urllib.request.ProxyHandler({}),
        urllib.request.HTTPSHandler(context=make_tls(read_ca_file())),
        _RefuseRedirects,
    )


def read_ca_file() -> str:
    """Return the value of ``CA_FILE``, which commands read as nodes do."""
    return expand_home(os.environ.get("CA_FILE", "").strip(), "", os.environ.get("HOME", ""))


class MasterClient:
    """A running master at ``url``; requests carry the first of its tokens.

    A subclass for another node has another ``option`` and ``role``, which messages name. Raises
    ``SettingsError`` for an invalid address or token.
    """

    option = "--master"
    role = "master"
    doubt = DOUBT

    def __init__(self, url: str, token: str | None) -> None:
        try:
            check_target(url, None)
        except BadRequest as error:
            raise SettingsError(f"{self.option}: {error}") from error
        self.url = url.rstrip("/")
        self._opener = make_opener()
        self.token = (token or "").split(",")[0].strip()
        if not (self.token.isascii() and self.token.isprintable()):
            raise SettingsError("--token: contains characters that are not printable ASCII")

    def open(
        self,
        path: str,
        query: Mapping[str, str],
        accept: str,
        *,
        method: str = "GET",
        body: bytes | None = None,
    ) -> Any:
        """Return the response to a request.

        Raises ``NodeSilent`` without a response or for a rejected request, and ``Unavailable`` if
        the master lacks the item or finds the request invalid; both have the master's reason.
        """
        parameters = {name: value for name, value in query.items() if value}
        headers = {"Accept": accept}
        if body is not None:
            headers["Content-Type"] = "application/octet-stream"
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        request = urllib.request.Request(  # noqa: S310  # the scheme was checked
            f"{self.url}{path}" + (f"?{urlencode(parameters)}" if parameters else ""),
            data=body,
            headers=headers,
            method=method,
        )
        try:
            return self._opener.open(request, timeout=TIMEOUT_S)
        except urllib.error.HTTPError as error:
            detail, is_result = _read_detail(error, self.doubt)
            failure = Unavailable if is_result else NodeSilent
            raise failure(f"{self.url} answered {error.code}: {detail}") from error
        except urllib.error.URLError as error:
            raise self._explain_silence(error.reason) from error
        except (OSError, UnicodeError) as error:  # UnicodeError: an invalid host name
            raise self._explain_silence(error) from error
        except HTTPException as error:
            reason = repr(error)[:120]
            raise AnswerInvalid(f"{self.url} does not speak HTTP ({reason}){self.doubt}") from error

    def _explain_silence(self, reason: object) -> NodeSilent:
        return NodeSilent(
            f"{self.url} does not respond ({reason}). Is the {self.role} running, and is "
            f"{self.option} its address?"
        )

    def read(
        self,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        method: str = "GET",
        body: bytes | None = None,
    ) -> bytes:
        """Return the whole body of the response. Raises what :meth:`open` raises."""
        with self.open(path, query or {}, "application/json", method=method, body=body) as response:
            try:
                return bytes(response.read())
            except (HTTPException, OSError) as error:
                raise NodeSilent(f"{self.url}: the response was cut: {error}") from error

    def read_as(self, kind: type[T], path: str, query: Mapping[str, str] | None = None) -> T:
        """Return the document of :meth:`read` as a ``kind``. Raises ``AnswerInvalid``."""
        return parse_response(self.read(path, query), kind, self.doubt)

    def read_feed(self, query: Mapping[str, str]) -> Iterator[bytes]:
        """Yield the webhooks of ``GET /webhooks``, one line each; ``query`` sets no limit.

        A feed without its closing line was cut; it is continued after the last line received.
        Raises ``NodeSilent`` if the first request fails or the feed is cut again and again, and
        ``AnswerInvalid`` if the response is not a feed.
        """
        since = query.get("since", "")
        failures = -1  # no response yet
        while True:
            try:
                with self.open("/webhooks", {**query, "since": since}, NDJSON) as response:
                    failures = max(0, failures)
                    for line in response:
                        if not line.endswith(b"\n"):
                            break
                        position = read_position(line)
                        if position is None:
                            return
                        since, failures = position, 0
                        yield line
                problem = "it ended without its closing line"
            except (HTTPException, OSError) as error:
                problem = str(error)
            except NodeSilent as error:
                if failures < 0:
                    raise
                problem = str(error)
            failures += 1
            if failures > _RETRIES:
                raise NodeSilent(f"{self.url}: the feed was cut {failures} times: {problem}")
            time.sleep(failures * _PAUSE_S)


class _Line(msgspec.Struct):
    """A line of the feed: of a webhook, or the closing line, which has ``end``."""

    id: str = ""
    end: bool = False


def read_position(line: bytes) -> str | None:
    """Return the id of a line's webhook; None for the closing line. Raises ``AnswerInvalid``."""
    document = parse_response(line, _Line)
    if not document.id and not document.end:
        raise AnswerInvalid(f"the response is invalid: id: missing{DOUBT}")
    return None if document.end else document.id


def _read_detail(error: urllib.error.HTTPError, doubt: str) -> tuple[str, bool]:
    """Return the detail of a problem document, or the reason of the status; and whether it is the
    result of the request: a node lacks the item, or finds the request invalid.

    ``doubt`` is added if the status is that of an unknown path and no node has sent it.
    """
    detail, kind = error.reason, ""
    with suppress(AnswerInvalid, OSError, HTTPException):
        problem = parse_response(error.read(), Problem)
        detail, kind = " ".join(problem.detail.split()) or detail, problem.type
    ours = kind.startswith("urn:webhook-sync:")
    if not ours and error.code in _UNKNOWN:
        detail += doubt
    return detail, ours and error.code in _RESULTS
