"""The address and the scheme of the client, as trusted proxies report them.

``Forwarded`` (RFC 7239) and ``X-Forwarded-For`` with ``X-Forwarded-Proto`` are understood if the
peer of the connection is trusted; from other peers they are ignored. Each proxy adds its peer at
the end, so the client is the last address that is not itself a trusted proxy.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from portable_core.settings import Network

_ELEMENT = re.compile(r'(?:[^,"]++|"(?:[^"\\]++|\\.)*+"?+)++', re.DOTALL)
_PAIR = re.compile(r'(?:[^;"]++|"(?:[^"\\]++|\\.)*+"?+)++', re.DOTALL)
_PORT = re.compile(r"^(\[[^\]]*\]|[0-9.]+):[0-9]+$")


class Client(NamedTuple):
    """The client's address, and the scheme it used: ``http`` or ``https``."""

    address: str
    scheme: str


class _Hop(NamedTuple):
    address: str
    scheme: str


def find_client(
    peer: str, headers: Iterable[tuple[bytes, bytes]], trusted: Sequence[Network]
) -> Client:
    """Return the client of a request from ``peer``, whose header names are lower case."""
    if not trusted or not _is_in(peer, trusted):
        return Client(peer, "http")
    given = list(headers)
    hops = list(_read_forwarded(_values(given, b"forwarded")))
    if not hops:
        hops = list(_read_legacy(given))
    scheme = "http"
    address = peer
    for hop in reversed(hops):
        scheme = hop.scheme or scheme
        if not hop.address:
            break
        address = hop.address
        if not _is_in(address, trusted):
            break
    return Client(address, scheme if scheme in ("http", "https") else "http")


def _values(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str:
    return ",".join(value.decode("latin-1") for given, value in headers if given == name)


def _read_forwarded(text: str) -> Iterator[_Hop]:
    for element in _ELEMENT.findall(text):
        pairs = {}
        for pair in _PAIR.findall(element):
            name, _, value = pair.partition("=")
            pairs[name.strip().lower()] = value.strip().strip('"')
        if pairs:
            yield _Hop(_clean(pairs.get("for", "")), pairs.get("proto", "").lower())


def _read_legacy(headers: Sequence[tuple[bytes, bytes]]) -> Iterator[_Hop]:
    addresses = [_clean(part) for part in _values(headers, b"x-forwarded-for").split(",")]
    schemes = [part.strip().lower() for part in _values(headers, b"x-forwarded-proto").split(",")]
    for index, address in enumerate(addresses):
        # One scheme stands for all hops; otherwise each hop has its own, counted from the end.
        place = index - len(addresses)
        scheme = schemes[place] if len(schemes) >= -place else schemes[0]
        if address or scheme:
            yield _Hop(address, scheme)


def _clean(text: str) -> str:
    """Return an address without its port and brackets; "" if it is invalid."""
    text = text.strip()
    match = _PORT.match(text)
    text = (match[1] if match else text).strip("[]")
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return ""


def _is_in(address: str, networks: Iterable[Network]) -> bool:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return any((mapped or parsed) in network for network in networks)
