"""Every kind of outgoing request: no proxy of the environment, and authorities of ``CA_FILE``."""

from __future__ import annotations

import datetime
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from portable_core.adapters.authentication.key_set import KeySet
from portable_core.adapters.http.client import HttpMasterClient, HttpSlaveClient
from portable_core.adapters.http.sender import connect
from portable_core.adapters.http.tls import make_tls
from portable_core.cli.master_client import MasterClient
from portable_core.errors import SettingsError, WebhookSyncError
from portable_core.settings import Settings
from portable_core.wiring import build_node

SECRET = "a-secret-token"


class Site:
    """An HTTP server on the loopback interface that keeps the paths and headers it gets."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.url = ""


@contextmanager
def run_site(tls: ssl.SSLContext | None = None) -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.seen.append(f"{self.requestline}\n{self.headers}")
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(b"{}")
            self.close_connection = True

        do_POST = do_CONNECT = do_GET  # noqa: N815  # the names that http.server looks for

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    site.url = f"http{'s' * (tls is not None)}://127.0.0.1:{server.server_port}"
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def read_master(url: str, ca: str) -> object:
    """A command; it reads ``CA_FILE`` itself."""
    return MasterClient(url, SECRET).read("/status")


def describe_slave(url: str, ca: str) -> object:
    """The client of a master, as wiring builds it."""
    env = {"STORE": "memory:", "SYNC_TOKENS": SECRET, "SLAVES": f"a={url}", "CA_FILE": ca}
    node = build_node(Settings.from_env("master", env))
    assert node.master is not None
    client = node.master.clients["a"]
    assert isinstance(client, HttpSlaveClient)
    with client:
        return client.describe()


def hand_over(url: str, ca: str) -> object:
    with HttpMasterClient("a", url, dict, tls=make_tls(ca)) as client:
        return client.hand_over([b"x"], "application/json", 5.0)


def deliver(url: str, ca: str) -> object:
    """A replay."""
    with connect(url, make_tls(ca)) as connection:
        outcome = connection.post({}, b"{}")
    if not outcome.ok:
        raise WebhookSyncError(outcome.reason)
    return outcome


def fetch_keys(url: str, ca: str) -> object:
    return KeySet(url, tls=make_tls(ca)).find("x")


Act = Callable[[str, str], object]
ACTS: list[Act] = [read_master, describe_slave, hand_over, deliver, fetch_keys]


def attempt(act: Act, url: str, ca: str = "") -> str:
    """Act, and return the message of the error; empty without one."""
    try:
        act(url, ca)
    except WebhookSyncError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("act", ACTS)
def test_no_request_goes_to_a_proxy_of_the_environment(
    act: Act, monkeypatch: pytest.MonkeyPatch
) -> None:
    with run_site() as proxy, run_site() as site:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
            monkeypatch.setenv(name.lower(), proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        attempt(act, site.url)
        attempt(act, "https://127.0.0.1:9")
    assert (proxy.seen, len(site.seen)) == ([], 1)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of a private authority for 127.0.0.1, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "private")])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).serial_number(1)
    builder = builder.public_key(key.public_key()).not_valid_before(now - day)
    built = (
        builder.not_valid_after(now + day).add_extension(address, False).sign(key, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8
    pem = serialization.Encoding.PEM
    path = tmp_path_factory.mktemp("tls") / "private.pem"
    path.write_bytes(
        built.public_bytes(pem) + key.private_bytes(pem, form, serialization.NoEncryption())
    )
    return path


@pytest.mark.parametrize("act", ACTS)
def test_a_private_authority_is_trusted_by_ca_file(
    act: Act, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with run_site(context) as site:
        assert attempt(act, site.url)
        assert site.seen == []
        monkeypatch.setenv("CA_FILE", str(certificate))
        attempt(act, site.url, str(certificate))
        assert len(site.seen) == 1


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_a_wrong_ca_file_keeps_a_node_from_starting(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    env: dict[str, Any] = {"STORE": "memory:", "SYNC_TOKENS": SECRET, "CA_FILE": str(path)}
    with pytest.raises(SettingsError, match=r"^CA_FILE: .* cannot be read .*PEM"):
        build_node(Settings.from_env("slave", env))
