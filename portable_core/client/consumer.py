"""The position of a consumer, kept by the master."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from urllib.parse import quote

import msgspec

from portable_core.client.following import find_delay
from portable_core.client.master import TIMEOUT_S, FeedRejected, FeedUnavailable, Master
from portable_core.errors import AnswerInvalid

CONSUMERS_PATH = "/consumers"

_MAX_BYTES = 65_536


class _PositionDocument(msgspec.Struct):
    position: str


class ConsumerPosition:
    """The position of the consumer ``name``, registered at the master.

    Status, metrics and console of the master show the lag of the consumer. A master that does not
    respond is retried without limit. Methods raise ``FeedRejected`` and ``AnswerInvalid``.
    """

    def __init__(
        self,
        url: str,
        name: str,
        token: str = "",
        *,
        timeout_s: float = TIMEOUT_S,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._master = Master(url, token, tls)
        self._path = f"{self._master.path}{CONSUMERS_PATH}/{quote(name, safe='')}"
        self._http = self._master.connect(timeout_s)

    def load(self) -> str | None:
        """Return the position; None if the consumer is not registered."""
        try:
            return self._ask_again("GET", b"") or None
        except FeedRejected as error:
            if error.answered == 404:
                return None
            raise

    def save(self, position: str) -> None:
        """Save a position; durable on return. The first one registers the consumer."""
        self._ask_again("PUT", json.dumps({"position": position}).encode())

    def try_to_save(self, position: str) -> None:
        """Save a position without a retry. Raises ``FeedUnavailable``."""
        self._ask("PUT", json.dumps({"position": position}).encode())

    def _ask_again(self, method: str, body: bytes) -> str:
        failures = 0
        while True:
            try:
                return self._ask(method, body)
            except FeedUnavailable as error:
                failures += 1
                time.sleep(find_delay(failures, error))

    def _ask(self, method: str, body: bytes) -> str:
        headers = {"Accept": "application/json", **self._master.headers}
        try:
            self._http.request(method, self._path, body=body, headers=headers)
            response = self._http.getresponse()
            if response.status != 200:
                raise self._master.explain_status(response)
            document = msgspec.json.decode(response.read(_MAX_BYTES), type=_PositionDocument)
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            raise self._master.explain_silence(error) from error
        except msgspec.MsgspecError as error:
            raise AnswerInvalid(f"{self._master.url} is not a master: {error}") from error
        finally:
            self._http.close()  # the next position may come much later
        return document.position
