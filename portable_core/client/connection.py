"""Requests to the arrival feed of a master, on one connection while that stays open."""

from __future__ import annotations

import contextlib
import http.client
import socket
from collections.abc import Iterator
from urllib.parse import urlencode

from portable_core.client.master import TIMEOUT_S, FeedUnavailable, Master
from portable_core.errors import AnswerInvalid
from portable_core.webhooks.feed_webhook import Webhook, parse_feed_line

FEED_PATH = "/feed"

#: The longest line: a payload of 40 MiB in base64, and its headers.
MAX_LINE_BYTES = 64 * 2**20

_READ_BYTES = 256 * 1024


class FeedConnection:
    """A connection to the feed of a master, for one thread.

    - ``source``, ``event``: only webhooks of this source, of this event; None for all. An empty
      source stands for webhooks without one.
    - ``wait_s``: how long the master may wait for the next webhook.
    """

    def __init__(
        self,
        master: Master,
        *,
        source: str | None = None,
        event: str | None = None,
        wait_s: float = 20.0,
    ) -> None:
        self._master = master
        self._query = {"raw": "1", "wait": f"{wait_s:g}"}
        if source is not None:
            self._query["source"] = source or "-"
        if event is not None:
            self._query["event"] = event
        self._headers = {"Accept": "application/x-ndjson", **master.headers}
        self._http = master.connect(wait_s + TIMEOUT_S)

    def read(self, after: str | None) -> Iterator[Webhook | str]:
        """Yield the webhooks after a position, and at the end the position of the closing line.

        None is the beginning of the feed. The response ends soon after the master has no further
        webhook, or ``wait_s`` have passed. Raises

        - ``FeedUnavailable`` if the master does not respond or the response was cut,
        - ``FeedRejected`` if the master rejects the request,
        - ``AnswerInvalid`` for a response of another program.
        """
        query = urlencode(self._query if after is None else {**self._query, "after": after})
        whole = False
        try:
            target = f"{self._master.path}{FEED_PATH}?{query}"
            self._http.request("GET", target, headers=self._headers)
            response = self._http.getresponse()
            if response.status != 200:
                raise self._master.explain_status(response)
            for line in filter(None, _split_lines(response)):
                parsed = parse_feed_line(line)
                whole = isinstance(parsed, str)
                yield parsed
            if not whole:
                raise FeedUnavailable(
                    f"{self._master.url}: the feed was cut before its closing line"
                )
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            whole = False
            raise self._master.explain_silence(error) from error
        finally:
            if not whole:  # the rest of the response is not read
                self._http.close()

    def close(self) -> None:
        """End the connection; from another thread, this ends a :meth:`read` in progress."""
        sock = self._http.sock
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._http.close()


def _split_lines(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """Yield whole lines as they arrive. A last line without its line break is dropped."""
    rest: list[bytes] = []
    size = 0
    while chunk := response.read1(_READ_BYTES):
        *lines, last = chunk.split(b"\n")
        for line in lines:
            yield b"".join([*rest, line]) if rest else line
            rest, size = [], 0
        if last:
            rest.append(last)
            size += len(last)
        if size > MAX_LINE_BYTES:
            raise AnswerInvalid("a line of the feed is longer than any webhook")
