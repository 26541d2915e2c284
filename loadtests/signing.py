"""Valid signatures for the sources of a node: the sender's side of ``SOURCES``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from portable_core.errors import SettingsError
from portable_core.sources.signatures import (
    parse_sources,
    sign_github,
    sign_hmac,
    sign_standard,
    sign_stripe,
)

#: (message id, seconds since the epoch, body) -> headers
Signer = Callable[[str, int, bytes], Mapping[str, str]]

_SCHEMES: Mapping[str, Callable[[str, str, int, bytes], Mapping[str, str]]] = {
    "github": lambda secret, name, now, body: sign_github(secret, body),
    "stripe": lambda secret, name, now, body: sign_stripe(secret, now, body),
    "standard": sign_standard,
}


def make_signers(text: str) -> dict[str, Signer]:
    """By source, from what a node has in ``SOURCES``. Raises ``SettingsError``."""
    parse_sources(text)
    signers: dict[str, Signer] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        source, _, rest = entry.partition("=")
        scheme, _, secret = rest.partition(":")
        if scheme in _SCHEMES:
            signers[source] = partial(_SCHEMES[scheme], secret)
        elif scheme.startswith("hmac-sha256@"):
            signers[source] = partial(_sign_hmac, secret, scheme.partition("@")[2])
        else:
            raise SettingsError(f"SOURCES: nothing can be sent to the scheme {scheme}")
    return signers


def _sign_hmac(secret: str, header: str, name: str, now: int, body: bytes) -> Mapping[str, str]:
    return sign_hmac(secret, header, body)
