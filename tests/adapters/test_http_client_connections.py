"""The HTTP client when no connection comes about, and over TLS."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from portable_core.adapters.http.client import HttpSlaveClient
from portable_core.adapters.http.connection import ExchangeConnector
from portable_core.errors import SlaveError, SlaveUnreachable
from tests.support.nodes.hostile_slave import HostileSlave, Talk
from tests.support.nodes.http_clients import (
    HALF,
    Endless,
    ask,
    connect,
    echo,
    exchange,
    read_all,
    receive_until_error,
    say_garbage,
    say_nothing,
    wait_until_received,
)


def test_nobody_listens() -> None:
    closed = threading.Event()

    def body() -> Iterator[bytes]:
        yield b""  # pragma: no cover  # never read
        closed.set()

    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
    pairs = body()
    with connect(url) as client, pytest.raises(SlaveUnreachable) as failed:
        exchange(client, pairs)
    assert str(failed.value) == (
        f"slave alpha ({url}): no connection (Connection refused). Is the node running?"
    )
    assert next(pairs, None) is None  # it was closed all the same


def test_addresses_that_cannot_be_used() -> None:
    for url, message in (
        ("http://slave.invalid", "host name cannot be resolved"),
        ("http://127.0.0.1:99999", "Are address and token correct"),
        ("http://", "Are address and token correct"),
        ("ftp://127.0.0.1", "connection broke|are address"),
    ):
        with connect(url) as client, pytest.raises(SlaveUnreachable, match=message):
            client.describe()
    with connect("http://me:password@127.0.0.1:1") as client:
        with pytest.raises(SlaveUnreachable) as failed:
            client.describe()
        assert "password" not in str(failed.value)


def test_a_connection_that_is_never_accepted() -> None:
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as server,
        contextlib.ExitStack() as full,
    ):
        for _ in range(3):  # the queue holds one; Linux drops what comes then
            waiting = full.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        within = pytest.raises(SlaveUnreachable, match=r"no connection within 0.4 s")
        with connect(url, connect_s=0.4) as client, within:
            exchange(client, [])


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that signs itself, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "slave")])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "slave.pem"
    path.write_bytes(
        built.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


@pytest.fixture
def server_tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_certificates_are_verified(server_tls: ssl.SSLContext) -> None:
    untrusted = pytest.raises(SlaveUnreachable, match=r"certificate is not trusted: .*self.signed")
    with HostileSlave(echo, server_tls) as slave, connect(slave.url) as client, untrusted:
        exchange(client)


def test_https_to_a_plain_port_and_back(server_tls: ssl.SSLContext) -> None:
    with HostileSlave(say_garbage) as slave:
        hint = pytest.raises(SlaveUnreachable, match="Does the address speak https")
        with connect(slave.url.replace("http", "https")) as client, hint:
            exchange(client)
    with (
        HostileSlave(echo, server_tls) as slave,
        connect(slave.url.replace("https", "http")) as client,
        pytest.raises(SlaveError),
    ):
        exchange(client)


def test_a_handshake_that_never_ends() -> None:
    with (
        HostileSlave(say_nothing) as slave,
        connect(slave.url.replace("http", "https"), connect_s=0.4) as client,
        pytest.raises(SlaveUnreachable, match=r"no connection within 0.4 s"),
    ):
        exchange(client)


def test_tls_streams_breaks_and_ends_likewise(
    server_tls: ssl.SSLContext, certificate: Path
) -> None:
    trusting = ssl.create_default_context(cafile=str(certificate))

    def handle(talk: Talk) -> None:
        head = talk.read_head()
        talk.send_head()
        for chunk in talk.read_body():
            talk.send_chunk(chunk)
            if b"x-break" in head.lower():
                talk.send_chunk(HALF)
                wait_until_received(talk)
                talk.reset()
                return
        talk.end()

    extra: dict[str, str] = {}
    with (
        HostileSlave(handle, server_tls) as slave,
        HttpSlaveClient(
            "a", slave.url, credentials=lambda: extra, idle_s=10, tls=trusting
        ) as client,
    ):
        blocks = [bytes([number]) * 100_000 for number in range(160)]
        assert exchange(client, blocks) == b"".join(blocks)
        body = Endless()
        with client.exchange(ask(body.body)) as answer:
            next(answer.chunks)
        assert body.closed.is_set()
        extra["X-Break"] = "1"
        for _ in range(5):
            received, error = receive_until_error(client, Endless().body)
            assert received.endswith(HALF)
            assert set(received.removesuffix(HALF)) == {ord("x")}
            assert type(error) is SlaveUnreachable
        slave.wait()


def test_a_tls_connection_that_was_closed_twice_can_be_ended(
    server_tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def abort(self: Any) -> None:
        """Abort as in Python 3.11.2, which Debian 12 has."""
        self._closed = True
        self._ssl_protocol._abort()

    monkeypatch.setattr("asyncio.sslproto._SSLProtocolTransport.abort", abort)

    async def request(url: str) -> int:
        link = ExchangeConnector(ssl.create_default_context(cafile=certificate), lambda: None)
        async with aiohttp.ClientSession(connector=link) as session:
            response = await session.get(url)
            response.close()
            assert link.transport is not None
            link.transport.close()
            link.end(reset=False)
            return response.status

    def handle(talk: Talk) -> None:
        talk.read_head()
        talk.send_head()

    with HostileSlave(handle, server_tls) as slave:
        assert asyncio.run(request(slave.url)) == 200


def test_the_end_of_a_tls_connection_does_not_overtake_what_a_slow_caller_has_yet_to_read(
    server_tls: ssl.SSLContext, certificate: Path
) -> None:
    trusting = ssl.create_default_context(cafile=str(certificate))
    whole = HALF * 12

    def handle(talk: Talk) -> None:
        read_all(talk)
        talk.send_head()
        for at in range(0, len(whole), 10_000):
            talk.send_chunk(whole[at : at + 10_000])
        talk.end()  # and the connection is closed at once

    with (
        HostileSlave(handle, server_tls) as slave,
        HttpSlaveClient("a", slave.url, credentials=dict, idle_s=10, tls=trusting) as client,
    ):
        for _ in range(10):
            received = bytearray()
            with client.exchange(ask()) as answer:
                for chunk in answer.chunks:
                    received += chunk
                    time.sleep(0.001)
            assert received == whole
