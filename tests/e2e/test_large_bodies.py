"""A body far beyond the limit: 413, and the node's memory does not grow with it.

``pytest -s`` prints the figures. ``BODY_BYTES=1073741824`` makes the bodies of 1 GiB.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from portable_core.demo.processes import Kind, NodeProcess
from tests.support.nodes.sync_nodes import Nodes, start
from tests.support.requests.bad_requests import ask, post
from tests.support.requests.raw_http import exchange, measure_resident, pour

MIB = 2**20
BODY_BYTES = int(os.environ.get("BODY_BYTES", 128 * MIB))
GROWTH = 8 * MIB

PIECE = 64 * 1024


def make_node(nodes: Nodes, name: str) -> NodeProcess:
    if name == "master":
        return nodes.make_master({})
    return nodes.make_slave(name, "function" if name == "function" else "container")


def make_pieces(framing: str, head: bytes = b'{"bad":"') -> Iterator[bytes]:
    """One endless string, that begins like a payload."""
    text = b"x" * PIECE
    for number in range(BODY_BYTES // PIECE):
        piece = head + text[len(head) :] if number == 0 else text
        yield piece if framing == "Content-Length" else b"%x\r\n%b\r\n" % (len(piece), piece)


def make_header(framing: str) -> str:
    if framing == "chunked":
        return "Transfer-Encoding: chunked"
    return f"Content-Length: {BODY_BYTES}"


@pytest.mark.parametrize("framing", ["Content-Length", "chunked"])
@pytest.mark.parametrize("name", ["slave", "function", "master"])
def test_a_body_beyond_the_limit(tmp_path: Path, name: str, framing: str) -> None:
    """The sender goes on sending after it was answered, for as long as the node lets it."""
    with Nodes(tmp_path) as nodes:
        node = make_node(nodes, name)
        start(node)
        for number in range(100):  # what a node needs to work at all counts for nothing here
            assert exchange(node.port, post(b'{"n":%d}' % number)).status == 200
        before, _ = measure_resident(node.pid)
        head = ask(
            "POST", "/webhook", "Content-Type: application/json", framing=(make_header(framing),)
        )
        answer, sent = pour(node.port, head, make_pieces(framing))
        after, peak = measure_resident(node.pid)
        print(
            f"{name}, {framing}: {answer.status} to a body of {BODY_BYTES / MIB:.0f} MiB, "
            f"of which {sent / MIB:.1f} MiB left the sender; resident memory {before / MIB:.1f} "
            f"MiB, then {after / MIB:.1f} MiB, at most {peak / MIB:.1f} MiB"
        )
        assert answer.status == 413
        assert "26214400" in answer.detail
        assert peak - before < GROWTH
        assert exchange(node.port, post(b'{"n":"last"}')).status == 200
        node.stop()
        assert len(nodes.read(node)) == 101


#: What a file in a form begins with: a form without limit would put the file on the disk.
FILE = b'--B\r\nContent-Disposition: form-data; name="x"; filename="x"\r\n\r\n'


@pytest.mark.parametrize("kind", ["container", "function"])
def test_a_form_beyond_the_limit(tmp_path: Path, kind: Kind) -> None:
    """Anybody may send a form to the login: a large one is not read on beyond the limit."""
    with Nodes(tmp_path) as nodes:
        node = nodes.make_master({}, kind, CONSOLE_TOKEN="a-console-token-of-length")
        start(node)
        for framing in ("Content-Length", "chunked"):
            for media_type, begin in (
                ("multipart/form-data; boundary=B", FILE),
                ("application/x-www-form-urlencoded", b"csrf="),
            ):
                head = ask(
                    "POST", "/login", f"Content-Type: {media_type}", framing=(make_header(framing),)
                )
                answer, sent = pour(node.port, head, make_pieces(framing, begin))
                print(f"{kind}, {framing}: {answer.status}, {sent / MIB:.1f} MiB were sent")
                if framing == "chunked" and begin != FILE:
                    assert answer.status == 403  # read up to the limit, and no form of the console
                else:
                    assert answer.status == 413
                    assert answer.detail
                assert exchange(node.port, ask("GET", "/login")).status == 200
