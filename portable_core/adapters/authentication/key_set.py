"""Public keys that an issuer of tokens publishes: fetch and keep them."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import requests
from google.auth import exceptions
from google.auth.transport.requests import Request
from requests.adapters import HTTPAdapter

from portable_core.errors import Unavailable

logger = logging.getLogger(__name__)

#: Keys are fetched again after the ``max-age`` of their response, within these bounds, and for an
#: unknown key ID, at most once in ``UNKNOWN_KEY_S``. All in seconds.
MIN_AGE_S, DEFAULT_AGE_S, MAX_AGE_S = 60, 300, 86_400
UNKNOWN_KEY_S = 60

#: How long before they expire keys are fetched again, where a thread does it, in seconds.
RENEW_S = 30

#: Time until the next attempt after the keys could not be fetched, in seconds.
RETRY_S = 5

#: Timeout of the server of the keys, in seconds.
TIMEOUT_S = 5

_MAX_AGE = re.compile(r"(?:^|[\s,])max-age=\"?([0-9]{1,9})", re.IGNORECASE)
_AGE = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class _Keys:
    """Public keys as PEM, by key ID, and when they expire (monotonic seconds)."""

    by_id: Mapping[str, str]
    expires: float


class KeySet:
    """The keys that a server publishes as a JSON object of PEM certificates or public keys.

    Keys are fetched when first needed, cached as long as ``Cache-Control`` allows (RFC 9111,
    section 5.2.2.1), and shared by all threads: one thread fetches, while the others use the keys
    they have. ``monotonic`` returns seconds that never decrease; ``setting`` is where the address
    comes from, for the log; ``read`` returns the keys of a response, or raises ``ValueError``.
    """

    def __init__(
        self,
        url: str,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        tls: ssl.SSLContext | None = None,
        setting: str = "OIDC_CERTS_URL",
        read: Callable[[bytes], Mapping[str, str]] | None = None,
    ) -> None:
        self._url = url
        self._setting = setting
        self._read = read or read_pem_keys
        self._tls = tls
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._keys = _Keys({}, float("-inf"))
        self._tried = float("-inf")
        self._failed = False

    def find(self, key_id: str) -> str | None:
        """Return the key with this ID, None for an unknown ID. Raises ``Unavailable``."""
        keys = self._keys
        if key_id not in keys.by_id or self._monotonic() >= keys.expires:
            with self._lock:
                keys = self._refresh()
        return keys.by_id.get(key_id)

    def find_known(self, key_id: str) -> tuple[str | None, bool]:
        """Return the key with this ID, and whether that can be said without a fetch.

        Never waits. Raises ``Unavailable`` shortly after the keys could not be fetched.
        """
        keys, now = self._keys, self._monotonic()
        fresh = now < keys.expires
        if fresh and key_id in keys.by_id:
            return keys.by_id[key_id], True
        if self._failed and 0 <= now - self._tried < RETRY_S:
            raise make_unavailable()
        return None, fresh and now - self._tried < UNKNOWN_KEY_S

    def fetch_again(self) -> int:
        """Fetch the keys, unless that was just done; return their number.

        Raises ``Unavailable``, whose cause is the reason.
        """
        with self._lock:
            return len(self._refresh().by_id)

    def renew(self) -> float:
        """Fetch the keys if they expire soon; return the seconds until that is due again."""
        with self._lock:
            keys, now = self._keys, self._monotonic()
            if now >= keys.expires - RENEW_S and not (self._failed and now - self._tried < RETRY_S):
                self._tried = float("-inf")  # not too soon after the last time
                with contextlib.suppress(Unavailable):
                    keys = self._refresh()
            return RETRY_S if self._failed else keys.expires - RENEW_S - self._monotonic()

    def _refresh(self) -> _Keys:
        now = self._monotonic()
        if self._failed and now - self._tried < RETRY_S:
            raise make_unavailable()
        if not self._failed and now - self._tried < UNKNOWN_KEY_S and now < self._keys.expires:
            return self._keys  # another thread has just fetched them
        self._failed = True
        try:
            self._keys = self._fetch(now)
        except (exceptions.GoogleAuthError, ValueError, RecursionError, OSError) as error:
            # Only the log has the reason: the caller is not authenticated yet.
            logger.warning("%s %s: %s", self._setting, self._url, shorten(error))
            raise make_unavailable() from error
        finally:
            # The end of the attempt: threads that waited for a failed one must not each start
            # another.
            self._tried = self._monotonic()
        self._failed = False
        return self._keys

    def _fetch(self, now: float) -> _Keys:
        response = make_request(self._tls)(self._url, timeout=TIMEOUT_S, allow_redirects=False)
        if response.status != 200:
            raise ValueError(f"the response has status {response.status}")
        by_id = self._read(response.data)
        match = _MAX_AGE.search(response.headers.get("cache-control", ""))
        age = response.headers.get("age", "")
        seconds = int(match[1]) if match else DEFAULT_AGE_S
        seconds -= int(age) if _AGE.fullmatch(age) else 0
        return _Keys(by_id, now + min(max(seconds, MIN_AGE_S), MAX_AGE_S))


def read_pem_keys(document: bytes) -> Mapping[str, str]:
    """Return the keys of a JSON object of PEM by key ID. Raises ``ValueError``."""
    by_id = json.loads(document)
    if not isinstance(by_id, dict) or not all(isinstance(key, str) for key in by_id.values()):
        raise ValueError("the response is not a JSON object of PEM keys by key ID")
    return by_id


def make_request(tls: ssl.SSLContext | None = None) -> Request:
    """Return the transport of google-auth, which uses no proxy of the environment."""
    session = requests.Session()
    session.trust_env = False
    if tls is not None:
        session.mount("https://", _Https(tls))
    return Request(session=session)


class _Https(HTTPAdapter):
    """Connections over TLS with a context of their own."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._tls = tls
        super().__init__()

    def init_poolmanager(self, *args: Any, **extra: Any) -> Any:
        return super().init_poolmanager(*args, **extra, ssl_context=self._tls)


def make_unavailable() -> Unavailable:
    """Return the error for keys that could not be fetched."""
    error = Unavailable("the keys of tokens cannot be fetched; the reason is in this node's log")
    error.retry_after = RETRY_S
    return error


def shorten(error: Exception) -> str:
    """Return an error as one short line."""
    return " ".join(str(error).split())[:300] or type(error).__name__
