"""What the tests of the HTTP client share: clients, requests, slaves and bodies."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import termios
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from portable_core.adapters.http.client import HttpSlaveClient
from portable_core.errors import SlaveError
from portable_core.ports import SlaveInfo, SyncRequest
from tests.support.nodes.hostile_slave import MSGPACK, UUID, HostileSlave, Talk

Handler = Callable[[Talk], None]

INFO = SlaveInfo(UUID, 3, None, 1000, 1001, 120_000, "crc32c", ("application/json", MSGPACK))
TOKEN = {"Authorization": "Bearer correct-horse"}


def connect(url: str, *, idle_s: float = 10.0, connect_s: float = 5.0) -> HttpSlaveClient:
    return HttpSlaveClient(
        "alpha", url, credentials=lambda: TOKEN, idle_s=idle_s, connect_s=connect_s
    )


def ask(body: Iterable[bytes] = (b"pairs",)) -> SyncRequest:
    return SyncRequest(5, 9_007_199_254_740_991, 120_000, "crc32c", MSGPACK, body)


def exchange(client: HttpSlaveClient, body: Iterable[bytes] = (b"pairs",)) -> bytes:
    with client.exchange(ask(body)) as answer:
        return b"".join(answer.chunks)


def echo(talk: Talk) -> None:
    talk.read_head()
    talk.send_head()
    for chunk in talk.read_body():
        talk.send_chunk(chunk)
    talk.end()


def read_rss() -> int:
    """The resident memory of this process in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


#: Half of an answer, or the whole of one.
HALF = bytes(range(256)) * 1200


class Endless:
    """A request's body without end, which tells where it was pulled and closed."""

    def __init__(self, pause: Callable[[], object] = lambda: None) -> None:
        self.threads: set[str] = set()
        self.closed = threading.Event()
        self.body = self._generate(pause)

    def _generate(self, pause: Callable[[], object]) -> Iterator[bytes]:
        self.threads.add(str(threading.get_ident()))
        try:
            while True:
                yield b"x" * 10_000
                pause()
        finally:
            self.threads.add(str(threading.get_ident()))
            self.closed.set()


@contextlib.contextmanager
def serve(handler: Handler, **options: float) -> Iterator[HttpSlaveClient]:
    """A client of a slave that does this."""
    with HostileSlave(handler) as slave, connect(slave.url, **options) as client:
        yield client


def read_all(talk: Talk) -> None:
    talk.read_head()
    for _ in talk.read_body():
        pass


def receive_until_error(
    client: HttpSlaveClient, body: Iterable[bytes] = (b"pairs",), pause_s: float = 0.0
) -> tuple[bytes, SlaveError]:
    """What came before the error, and the error."""
    received = bytearray()
    with client.exchange(ask(body)) as answer:
        try:
            for chunk in answer.chunks:
                received += chunk
                time.sleep(pause_s)
        except SlaveError as error:
            return bytes(received), error
    raise AssertionError("there was no error")


def wait_until_received(talk: Talk) -> None:
    """Until the client's kernel has all that was sent."""
    while struct.unpack("i", fcntl.ioctl(talk.sock, termios.TIOCOUTQ, b"\0" * 4))[0]:
        time.sleep(0.001)


def say_nothing(talk: Talk) -> None:
    talk.wait_for_end()


def say_garbage(talk: Talk) -> None:
    talk.send(b"SSH-2.0-OpenSSH_9.6\r\n" * 3)
