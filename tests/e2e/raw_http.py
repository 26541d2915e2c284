"""HTTP over bare sockets: requests that no client library would send, and what came back."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

#: Longer than any answer may take; nothing is measured with it.
PATIENCE_S = 20.0


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """``status`` is 0 where the connection was closed without an answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, object]:
        """The problem document of the body. Raises ``ValueError`` if it is none."""
        if self.headers.get("content-type") != "application/problem+json":
            raise ValueError(f"{self.status} {self.headers} {self.body[:200]!r} is no problem")
        document: dict[str, object] = json.loads(self.body)
        return document


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)


def exchange(port: int, request: bytes, *, end: bool = False) -> RawAnswer:
    """Send ``request`` as it is and read one answer; ``end`` closes the sending side after it."""
    with connect(port) as connection:
        with contextlib.suppress(OSError):  # a server may answer and close before it has read all
            connection.sendall(request)
            if end:
                connection.shutdown(socket.SHUT_WR)
        return read_answer(connection)


def pour(port: int, head: bytes, pieces: Iterable[bytes]) -> tuple[RawAnswer, int]:
    """Send a body in pieces until the server answers or closes; the answer, and the bytes sent."""
    sent = 0
    with connect(port) as connection:
        connection.sendall(head)
        for piece in pieces:
            try:
                connection.sendall(piece)
            except OSError:
                break
            sent += len(piece)
            if _has_answer(connection):
                break
        return read_answer(connection), sent


def _has_answer(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return len(connection.recv(1, socket.MSG_PEEK)) >= 0
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(PATIENCE_S)


def read_answer(connection: socket.socket) -> RawAnswer:
    """Read one answer with a length, or up to the connection's end."""
    data = b""
    for piece in _receive(connection):
        data += piece
        head, gap, body = data.partition(b"\r\n\r\n")
        if gap:
            status, headers = _parse_head(head)
            if len(body) >= int(headers.get("content-length", 2**62)):
                return RawAnswer(status, headers, body)
    head, gap, body = data.partition(b"\r\n\r\n")
    if not gap:
        return RawAnswer(0, {}, data)
    return RawAnswer(*_parse_head(head), body)


def _receive(connection: socket.socket) -> Iterator[bytes]:
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65536):
            yield piece


def _parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = (line.partition(":") for line in lines)
    return int(first.split()[1]), {name.lower(): value.strip() for name, _, value in fields}


def read_resident_bytes(group: int) -> int:
    """The anonymous resident memory of all processes of a group, in bytes."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # a process may end while it is looked at
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[2]) == group:
                status = (folder / "status").read_text()
                total += sum(
                    int(line.split()[1]) * 1024
                    for line in status.splitlines()
                    if line.startswith("RssAnon:")
                )
    return total
