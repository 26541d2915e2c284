"""An issuer of ID tokens with keys of its own, which it publishes on the loopback interface.

Tokens are put together here by hand, so that one can be wrong in any way.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

AUDIENCE = "https://slave.example"
ACCOUNT = "master@project.iam.gserviceaccount.com"


class Answer(NamedTuple):
    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = {}


class Request(NamedTuple):
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@contextmanager
def serve(answer: Callable[[Request], Answer]) -> Iterator[str]:
    """An HTTP server on a free port whose answers ``answer`` gives; the address of its root."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            made = answer(Request(self.command, self.path, headers, body))
            self.send_response(made.status)
            for name, value in made.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(made.body)))
            self.end_headers()
            self.wfile.write(made.body)

        do_POST = do_GET  # noqa: N815  # the name that http.server looks for

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@cache
def make_key(name: str) -> rsa.RSAPrivateKey:
    """A private key of that name, the same throughout one test run (making one takes a while)."""
    return rsa.generate_private_key(65537, 2048)


def make_certificate(key: rsa.RSAPrivateKey) -> str:
    """The key in a certificate, as Google publishes them."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "federated-signon")])
    now = datetime.now(tz=UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    builder = builder.public_key(key.public_key()).serial_number(1)
    builder = builder.not_valid_before(now).not_valid_after(now + timedelta(days=1))
    certificate = builder.sign(key, hashes.SHA256())
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def make_public_pem(key: rsa.RSAPrivateKey) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


def make_jwk(name: str, **more: object) -> dict[str, object]:
    """The public key of that name as a JSON Web Key, with the name as its key ID."""
    n = make_key(name).public_key().public_numbers().n
    return {"kty": "RSA", "kid": name, "n": encode_part(n.to_bytes(256)), "e": "AQAB", **more}


def encode_part(part: object) -> str:
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def make_claims(**changes: object) -> dict[str, object]:
    """The claims of a right token; a change to None takes one away."""
    now = int(time.time())
    claims: dict[str, object] = {
        "iss": "https://accounts.google.com",
        "aud": AUDIENCE,
        "azp": "1234567890",
        "sub": "1234567890",
        "email": ACCOUNT,
        "email_verified": True,
        "iat": now,
        "exp": now + 3600,
    }
    claims.update(changes)
    return {name: value for name, value in claims.items() if value is not None}


def make_token(
    claims: object, *, key: str = "k1", header: Mapping[str, object] | None = None
) -> str:
    """A token with these claims, signed with RS256 by the key of that name."""
    full = {"alg": "RS256", "kid": key, "typ": "JWT"} if header is None else header
    signed = f"{encode_part(full)}.{encode_part(claims)}"
    signature = make_key(key).sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{signed}.{encode_part(signature)}"


class Issuer:
    """What the key server answers, changeable at any time, and how often it was asked."""

    def __init__(self) -> None:
        self.publish("k1")
        self.asked = 0
        #: While it is clear, the server keeps those who ask waiting.
        self.open = threading.Event()
        self.open.set()

    def publish(self, *names: str, headers: Mapping[str, str] | None = None) -> None:
        """The keys of these names, which double as key ids."""
        keys = {name: make_certificate(make_key(name)) for name in names}
        default = {"Cache-Control": "public, max-age=20000, must-revalidate"}
        self.answer = Answer(
            json.dumps(keys).encode(), headers=default if headers is None else headers
        )

    def __call__(self, request: Request) -> Answer:
        self.asked += 1
        assert self.open.wait(30)
        return self.answer
