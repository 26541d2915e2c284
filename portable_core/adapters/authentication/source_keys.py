"""The public keys with which senders of webhooks sign JSON Web Tokens: JWK sets (RFC 7517)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import ssl
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from portable_core.adapters.authentication.key_set import KeySet
from portable_core.errors import Unavailable
from portable_core.sources.encodings import ENCODINGS


class SourceKeys:
    """The keys of all sources, by address and key ID. Safe to use from any number of threads.

    A thread fetches them when the node starts, before they expire, and for an unknown key ID. On an
    event loop, :meth:`find` waits for nothing: a webhook whose key is not there yet is refused with
    503, and its sender sends it again.
    """

    def __init__(
        self,
        addresses: Collection[str],
        monotonic: Callable[[], float] = time.monotonic,
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._sets = {
            address: KeySet(address, monotonic, tls=tls, setting="SOURCES", read=read_jwk_set)
            for address in addresses
        }
        self._wanted: set[str] = set()
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._run_by = 0

    def begin(self) -> None:
        """Start to fetch the keys, once in each process."""
        with self._lock:
            if self._run_by != os.getpid():
                self._run_by = os.getpid()
                threading.Thread(target=self._run, name="source-keys", daemon=True).start()

    def find(self, address: str, key_id: str) -> str | None:
        """Return a key as PEM; None if the address has no such key.

        Raises ``Unavailable`` if the keys could not be fetched, or are about to be.
        """
        keys = self._sets[address]
        key, known = keys.find_known(key_id)
        if known:
            return key
        if not _is_on_loop():
            return keys.find(key_id)
        self._wanted.add(address)
        self.begin()
        self._wake.set()
        raise Unavailable("the keys of this source are being fetched; send the webhook again")

    def count(self, address: str) -> int:
        """Return the number of keys of an address. Raises ``Unavailable``."""
        return self._sets[address].fetch_again()

    def _run(self) -> None:
        while True:
            self._wake.clear()
            due = [keys.renew() for keys in self._sets.values()]
            while self._wanted:
                with contextlib.suppress(Unavailable):  # logged; the next webhook asks again
                    self._sets[self._wanted.pop()].fetch_again()
            self._wake.wait(max(min(due, default=60.0), 1.0))


def _is_on_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def read_jwk_set(document: bytes) -> Mapping[str, str]:
    """Return the keys for signatures of a JWK set, as PEM by key ID. Raises ``ValueError``.

    Keys of other kinds than RSA and P-256 are left out (RFC 7517, section 5).
    """
    try:
        parsed = json.loads(document)
    except RecursionError:
        raise ValueError("the response has too many levels") from None
    keys = parsed.get("keys") if isinstance(parsed, dict) else None
    if not isinstance(keys, list):
        raise ValueError("the response is not a JWK set")
    found = {}
    for key in keys:
        if not isinstance(key, dict) or key.get("use", "sig") != "sig":
            continue
        if isinstance(key.get("kid"), str) and (pem := _read_key(key)):
            found[key["kid"]] = pem
    return found


def _read_key(key: Mapping[str, Any]) -> str:
    numbers: rsa.RSAPublicNumbers | ec.EllipticCurvePublicNumbers
    if key.get("kty") == "RSA":
        numbers = rsa.RSAPublicNumbers(_read_integer(key, "e"), _read_integer(key, "n"))
    elif key.get("kty") == "EC" and key.get("crv") == "P-256":
        numbers = ec.EllipticCurvePublicNumbers(
            _read_integer(key, "x"), _read_integer(key, "y"), ec.SECP256R1()
        )
    else:
        return ""
    made = numbers.public_key()
    return made.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def _read_integer(key: Mapping[str, Any], name: str) -> int:
    text = key.get(name)
    raw = ENCODINGS["base64url-unpadded"].decode(text) if isinstance(text, str) else None
    if raw is None:
        raise ValueError(f"the response has a key whose {name} is not a number")
    return int.from_bytes(raw)
