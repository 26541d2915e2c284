"""Requests that break a rule, and how each must be answered: what the tables are made of.

A case is a whole request in bytes. ``status`` is the answer; ``says`` a regular expression for the
``detail`` of its problem document, which names the fault. Where the bytes are no HTTP, the server's
parser answers before any code of this project: such a case has ``says`` None, and any of
``REFUSALS`` will do, a connection closed without an answer included. (RFC 9112, section 2.2, asks
for no more, and each server has its own way.) In a ``function``,
functions-framework answers a few paths itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from portable_core.demo.processes import Kind

TOKEN = "a-token-for-tests"

#: What a server may make of bytes that are no HTTP. 0 is a connection closed without an answer;
#: 408 comes for a request that never ends, 431 for a header section that is too large, 501 for a
#: transfer coding that it does not know, 505 for a version of HTTP.
REFUSALS = frozenset({0, 400, 404, 405, 408, 414, 431, 501, 505})

#: The payload of a request that a server may take.
MEANT = b'{"meant":1}'


@dataclass(frozen=True, slots=True)
class Case:
    """``end``: the sender closes its side after it, as one does that dies in the middle.

    ``refused_by``: the server of this kind answers itself, with any of ``REFUSALS``.
    """

    request: bytes
    status: int = 400
    says: str | None = None
    end: bool = False
    refused_by: Kind | None = None


def ask(
    method: str,
    path: str,
    *headers: str,
    body: bytes = b"",
    framing: tuple[str, ...] | None = None,
    version: str = "HTTP/1.1",
) -> bytes:
    """A request; ``framing`` stands in the place of a right ``Content-Length``."""
    if framing is None:
        framing = (f"Content-Length: {len(body)}",)
    lines = (f"{method} {path} {version}", "Host: node", *headers, *framing)
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def post(body: bytes, *headers: str, path: str = "/webhook") -> bytes:
    return ask("POST", path, *(headers or ("Content-Type: application/json",)), body=body)


def known(method: str, path: str, *headers: str, body: bytes = b"") -> bytes:
    """A request with the right token."""
    return ask(method, path, f"Authorization: Bearer {TOKEN}", *headers, body=body)


def framed(*framing: str, body: bytes = b'{"bad":1}') -> bytes:
    return ask("POST", "/webhook", body=body, framing=framing)


def chunked(text: bytes, *headers: str) -> bytes:
    return ask("POST", "/webhook", *headers, body=text, framing=("Transfer-Encoding: chunked",))
