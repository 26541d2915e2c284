"""Requests that are read without llhttp: llhttp reads the same from each of them."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from portable_core.adapters.edge.limits import EdgeLimits
from portable_core.adapters.edge.parser import RequestParser
from portable_core.adapters.edge.plain import read_plain
from portable_core.adapters.edge.request import Rejected, Request

LIMITS = EdgeLimits()
MAX_BODY = 50_000


class _Received:
    """What llhttp makes of some bytes."""

    def __init__(self, data: bytes) -> None:
        self.requests: list[Request] = []
        self.body = b""
        self.ended = 0
        parser = RequestParser(self, LIMITS)
        while data:
            data = parser.feed(data)

    def make_request(self) -> Request:
        return Request(None)  # type: ignore[arg-type]  # a parser needs no connection

    def receive_head(self, request: Request) -> None:
        self.requests.append(request)

    def receive_data(self, request: Request, data: bytes) -> None:
        self.body += data

    def receive_end(self, request: Request) -> None:
        self.ended += 1


def _check(data: bytes) -> bool:
    """Return whether ``data`` is plain; llhttp must then agree about every part of it."""
    plain = read_plain(data, LIMITS, MAX_BODY)
    if plain is None:
        return False
    received = _Received(data)
    (request,) = received.requests
    assert received.ended == 1
    assert request.method == b"POST"
    assert request.target == plain.target
    assert request.headers == plain.headers == list(plain.fields.items())
    assert request.length == len(plain.body)
    assert received.body == plain.body
    assert request.keep
    assert (request.http10, request.chunked, request.expect) == (False, False, False)
    return True


_COMMON = (
    b"POST /webhook/github?a=%20b HTTP/1.1\r\nHost: hooks.example\r\nUser-Agent: GitHub-Hookshot/2f"
    b"\r\nAccept: */*\r\nContent-Type: application/json\r\nX-GitHub-Event: push\r\n"
    b'X-Empty:\r\nX-Latin: caf\xe9 \t\r\nContent-Length: 7\r\n\r\n{"a":1}'
)
_LINES = st.sampled_from(
    (
        b"Host: a",
        b"host:b",
        b"Content-Length: 2",
        b"Content-Length: +2",
        b"Content-Length: 2, 2",
        b"Content-Length:",
        b"content-length: 002",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding : chunked",
        b"Connection: close",
        b"Connection: keep-alive",
        b"Expect: 100-continue",
        b"Upgrade: h2c",
        b"TE: trailers",
        b"X-A: b",
        b" folded",
        b"\tfolded",
        b"no colon",
        b": no name",
        b"X B: c",
        b"X-A: \x00",
        b"X-A: a\rb",
        b"X-A: a\nContent-Length: 3",
        b"X-A: \x7f\x80\xff",
        b"",
    )
)
_FIRST = st.sampled_from(
    (
        b"POST /webhook HTTP/1.1",
        b"POST /webhook/a?b#c HTTP/1.1",
        b"POST /web\x80 HTTP/1.1",
        b"POST  /webhook HTTP/1.1",
        b"POST /webhook  HTTP/1.1",
        b"POST /a b HTTP/1.1",
        b"POST http://a/webhook HTTP/1.1",
        b"POST /webhook HTTP/1.0",
        b"POST /webhook",
        b"post /webhook HTTP/1.1",
        b"PUT /webhook HTTP/1.1",
        b"\r\nPOST /webhook HTTP/1.1",
    )
)
_requests = st.builds(
    lambda first, lines, body: b"\r\n".join([first, b"Host: h", *lines, b"", body]),
    _FIRST,
    st.lists(_LINES, max_size=4),
    st.sampled_from((b"{}", b"", b"{}{}", b"{}\r\n", b"{}POST /webhook HTTP/1.1\r\n")),
)


@given(_requests)
@example(b"POST /webhook HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}")
def test_what_is_read_quickly_is_what_llhttp_reads(data: bytes) -> None:
    _check(data)


@given(st.data())
def test_no_changed_byte_is_read_otherwise(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(_COMMON)))
    removed = data.draw(st.integers(0, 3))
    added = data.draw(st.binary(max_size=3) | st.sampled_from((b"\r\n", b"\n", b":", b" ")))
    _check(_COMMON[:at] + added + _COMMON[at + removed :])


def test_common_requests_are_read_quickly() -> None:
    assert _check(_COMMON)
    many = b"".join(b"X-%d: y\r\n" % n for n in range(100))
    assert _check(_COMMON.replace(b"X-Empty:\r\n", many))


@pytest.mark.parametrize(
    "line",
    [
        b"Transfer-Encoding: chunked",
        b"Connection: close",
        b"Expect: 100-continue",
        b"Upgrade: h2c",
        b"Content-Length: 7",
        b"Host: b",
        b"X-Empty: again",
    ],
)
def test_what_needs_interpretation_is_left_to_llhttp(line: bytes) -> None:
    data = _COMMON.replace(b"Accept: */*", line)
    assert read_plain(data, LIMITS, MAX_BODY) is None


def test_limits_are_left_to_llhttp() -> None:
    size = _COMMON.index(b"\r\n\r\n")
    assert read_plain(_COMMON, EdgeLimits(head_bytes=size), 7) is not None
    assert read_plain(_COMMON, EdgeLimits(head_bytes=size - 1), 7) is None
    assert read_plain(_COMMON, EdgeLimits(headers=7), 7) is None
    assert read_plain(_COMMON, LIMITS, 6) is None
    with pytest.raises(Rejected):
        _Received(_COMMON.replace(b"X-Empty", b"X Empty"))
