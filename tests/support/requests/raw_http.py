"""HTTP over bare sockets: requests that no client library would send, and what came back."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

#: Longer than any answer may take; nothing is measured with it.
PATIENCE_S = 90.0

NO_ANSWER = 0


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """``status`` is ``NO_ANSWER`` where the connection was closed without one; header names are
    lower case. ``cookies``: the pairs ``name=value`` that are set, without those deleted."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    cookies: tuple[str, ...] = ()

    @property
    def detail(self) -> str:
        """What the problem document in the body says. Raises ``ValueError`` if it is none."""
        if self.headers.get("content-type") != "application/problem+json":
            raise ValueError(f"{self.status} {self.headers} {self.body[:200]!r} is no problem")
        document = json.loads(self.body)
        if document["status"] != self.status or not document["title"]:
            raise ValueError(f"{self.status} is answered with {document}")
        return str(document["detail"])


def connect(port: int) -> socket.socket:
    """A connection whose every wait ends after ``PATIENCE_S``."""
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
    """Send a body for as long as the server lets it, answered or not, and read one answer.

    Returns the answer, and how many bytes of the body were sent.
    """
    sent = 0
    answers: list[RawAnswer] = []
    with connect(port) as connection:
        # Read at once: what was answered is lost when the server resets the connection later.
        reader = threading.Thread(target=lambda: answers.append(read_answer(connection)))
        reader.start()
        with contextlib.suppress(OSError):
            connection.sendall(head)
            for piece in pieces:
                connection.sendall(piece)
                sent += len(piece)
        reader.join(PATIENCE_S)
    return answers[0], sent


def read_answer(connection: socket.socket) -> RawAnswer:
    """Read one answer, whole. A wait that takes too long is an error of the test: ``TimeoutError``.

    An answer that is cut is one with the part of the body that came.
    """
    response = http.client.HTTPResponse(connection)
    try:
        response.begin()
    except (http.client.HTTPException, ConnectionError):
        return RawAnswer(NO_ANSWER)
    headers = {name.lower(): value for name, value in response.getheaders()}
    cookies = list_cookies(response)
    try:
        body = response.read()
    except http.client.IncompleteRead as error:
        body = error.partial
    except ConnectionError:
        body = b""
    return RawAnswer(response.status, headers, body, cookies)


def list_cookies(response: http.client.HTTPResponse) -> tuple[str, ...]:
    """Return the cookies that a response sets, as ``name=value``, without those it deletes."""
    pairs = (value.partition(";")[0] for value in response.msg.get_all("set-cookie", ()))
    return tuple(pair for pair in pairs if not pair.endswith("="))


def measure_resident(group: int) -> tuple[int, int]:
    """The resident memory of all processes of a group in bytes: now, and the most it ever was."""
    now = peak = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # a process may end while it is looked at
            if int((folder / "stat").read_text().rpartition(")")[2].split()[2]) == group:
                lines = (line.split() for line in (folder / "status").read_text().splitlines())
                sizes = {words[0]: int(words[1]) * 1024 for words in lines if words[-1] == "kB"}
                now += sizes.get("VmRSS:", 0)
                peak += sizes.get("VmHWM:", 0)
    return now, peak
