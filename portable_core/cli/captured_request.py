"""A request in a file, as HTTP/1.1 sends it (RFC 9112)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from portable_core.errors import BadRequest


@dataclass(frozen=True, slots=True)
class Captured:
    """Header names are in lower case; values and the query have a character a byte."""

    method: str
    path: str
    query: str
    headers: Mapping[str, list[str]]
    body: bytes

    def read_headers(self, name: str) -> list[str]:
        """Return all values of a header."""
        return self.headers.get(name.lower(), [])

    @property
    def first_headers(self) -> dict[str, str]:
        """The headers, with the values of repeated ones joined (RFC 9110, section 5.3)."""
        return {name: ", ".join(values) for name, values in self.headers.items()}


def parse_request(text: bytes) -> Captured:
    """Return a captured request. Raises ``BadRequest`` for any other text.

    Lines of the head may end with LF alone, as editors save them. If there is a ``Content-Length``,
    one line break that an editor has added at the end does not count.
    """
    head, body = _split(text)
    first, *lines = head.decode("latin-1").replace("\r\n", "\n").split("\n")
    parts = first.split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/"):
        raise BadRequest("the request: the first line must be like POST /webhook/hub HTTP/1.1")
    headers: defaultdict[str, list[str]] = defaultdict(list)
    for number, line in enumerate(lines, 2):
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise BadRequest(f"the request: line {number} must be like Name: value")
        headers[name.strip().lower()].append(value.strip())
    path, _, query = parts[1].partition("?")
    length = next(iter(headers.get("content-length", [])), "")
    if length.isdecimal() and body.removesuffix(b"\n").removesuffix(b"\r")[int(length) :] == b"":
        body = body[: int(length)]
    if length.isdecimal() and len(body) != int(length):
        raise BadRequest(
            f"the request: the body has {len(body)} bytes, but Content-Length is {length}. Save "
            "the bytes unchanged."
        )
    return Captured(parts[0], path, query, headers, body)


def _split(text: bytes) -> tuple[bytes, bytes]:
    for separator in (b"\r\n\r\n", b"\n\n"):
        head, found, body = text.partition(separator)
        if found:
            return head, body
    return text.rstrip(b"\r\n"), b""
