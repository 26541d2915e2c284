"""The addresses to which webhooks may be replayed, compared as a server may read them.

Servers disagree about paths: some decode twice, drop ``;x`` from a segment, treat ``\\`` as
``/``, or map other characters to a dot. An address that one of them may read as another address is
rejected.
"""

from __future__ import annotations

import ipaddress
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import SplitResult, unquote_to_bytes, urlsplit

from portable_core.errors import BadRequest, Forbidden

_DEFAULT_PORTS = {"http": 80, "https": 443}

#: A path that is still encoded after this many rounds is rejected.
_MAX_ROUNDS = 4


class _Target(NamedTuple):
    scheme: str
    host: str
    port: int | None
    segments: tuple[str, ...]


def check_target(url: str, allowed: Sequence[str] | None) -> str:
    """Return ``url`` if it is a valid target that begins with one of ``allowed``.

    None allows every target. Raises ``BadRequest``, ``Forbidden``.
    """
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  # raises ValueError for an invalid port
    except ValueError as error:
        raise BadRequest(f"invalid address {url[:200]!r}: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadRequest(f"{url[:200]!r} is not an http:// or https:// address")
    if parts.username is not None or not url.isascii() or not url.isprintable() or " " in url:
        raise BadRequest(
            "the address contains a user name, a space, or a character that is not printable ASCII"
        )
    if allowed is None:
        return url
    try:
        target = _normalise(parts)
    except ValueError as error:
        raise Forbidden(f"REPLAY_TARGETS does not allow {url[:200]!r}: {error}") from None
    if not any(_begins_with(target, beginning) for beginning in allowed):
        raise Forbidden(f"REPLAY_TARGETS does not allow {url[:200]!r}, only {', '.join(allowed)}")
    return url


def _begins_with(target: _Target, address: str) -> bool:
    try:
        beginning = _normalise(urlsplit(address.rstrip("/")))
    except ValueError:
        return False
    segments = beginning.segments
    return target[:3] == beginning[:3] and target.segments[: len(segments)] == segments


def _normalise(parts: SplitResult) -> _Target:
    """Return the parts of an address that are compared.

    Raises ``ValueError`` for a path that servers read in different ways.
    """
    host = _normalise_host(parts.hostname or "")
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    return _Target(parts.scheme, host, port, tuple(_split_path(parts.path)))


def _normalise_host(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return host.lower().encode("idna").decode()
    except UnicodeError:
        return host.lower()


def _split_path(path: str) -> list[str]:
    """Return the decoded segments of a path, without the first slash."""
    segments = path.removeprefix("/").split("/")
    return [_read_segment(segment) for segment in segments] if path else []


def _read_segment(segment: str) -> str:
    decoded = segment
    for _ in range(_MAX_ROUNDS):
        before = decoded
        try:
            decoded = unquote_to_bytes(before).decode()
        except UnicodeDecodeError:
            raise ValueError("its path contains encoded bytes that are not UTF-8") from None
        if decoded == before:
            break
    else:
        raise ValueError("its path is encoded several times")
    plain = unicodedata.normalize("NFKC", decoded)
    if any(char in "/\\?#" or not char.isprintable() for char in plain):
        raise ValueError(
            "its path contains a backslash, an encoded separator or a control character"
        )
    name = plain.partition(";")[0]
    if name and not name.strip(" ."):
        raise ValueError("its path contains a dot segment")
    return decoded
