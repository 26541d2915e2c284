"""Providers and running nodes, in both servers: handshakes with curl, and providers' libraries."""

from __future__ import annotations

import base64
import gzip
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import standardwebhooks
import stripe
import svix.webhooks
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from slack_sdk.signature import SignatureVerifier
from twilio.request_validator import RequestValidator

from portable_core.demo.processes import Kind, NodeProcess
from portable_core.sources.presets import PRESETS
from tests.support.nodes.oidc_issuer import (
    ACCOUNT,
    AUDIENCE,
    Answer,
    Request,
    make_claims,
    make_jwk,
    make_token,
)
from tests.support.nodes.oidc_issuer import serve as serve_keys
from tests.support.nodes.sync_nodes import Nodes, start, sync
from tests.support.senders import PUBLIC_URL, SENDERS, Sent
from tests.unit.test_presets import HANDSHAKES, greet

STANDARD = "whsec_" + base64.b64encode(bytes(range(24))).decode()
PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(32))
SECRETS = {
    "stripe": "whsec_x",
    "standard": STANDARD,
    "svix": STANDARD,
    "slack": "8f742231",
    "twilio": "12345",
    "asana": "not-known-yet",
    "discord": PRIVATE.public_key().public_bytes_raw().hex(),
}
BODY = b'{"id":1,"name":"Zo\xc3\xab"}'


@pytest.fixture(scope="module", params=["container", "function"])
def node(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    kind: Kind = request.param
    secrets = {name: SENDERS[name].secret for name in HANDSHAKES} | SECRETS
    entries = [f"{name}={name}:{secret}" for name, secret in secrets.items()]
    with Nodes(tmp_path_factory.mktemp(kind)) as nodes:
        slave = nodes.make_slave(kind=kind, SOURCES=",".join(entries), PUBLIC_URL=PUBLIC_URL)
        start(slave)
        yield nodes, slave


def curl(slave: NodeProcess, sent: Sent, tmp_path: Path) -> tuple[int, dict[str, str], str]:
    """Send with curl; the status, the headers by name in lower case, and the body."""
    body = tmp_path / "body"
    body.write_bytes(sent.body)
    method = ["-I"] if sent.method == "HEAD" else ["-X", sent.method]
    headers = [part for n, v in sent.headers.items() for part in ("-H", f"{n}: {v}")]
    data = ["--data-binary", f"@{body}"] if sent.method == "POST" else []
    query = f"?{sent.query}" if sent.query else ""
    url = f"{slave.url}/webhook/{sent.preset}{query}"
    done = subprocess.run(
        ["curl", "-sS", "-i", "--max-time", "20", *method, *headers, *data, url],
        capture_output=True,
        check=True,
    )
    head, _, answer = done.stdout.decode().partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return (
        int(first.split(" ")[1]),
        {n.lower(): v.strip() for n, _, v in pairs},
        answer,
    )


def freshen(name: str) -> tuple[Sent, dict[str, Any]]:
    """The handshake of a preset, signed now where a time is signed."""
    sent, expected = greet(name)
    form = PRESETS[name].row.form
    if sent.now_s and name != "discord":
        assert form is not None
        now_s = int(time.time())
        plain = Sent(name, sent.secret, HANDSHAKES[name].get("headers", {}), sent.body)
        secret = SECRETS.get(name, sent.secret)
        signed = form.make(secret).sign(plain.request, now_s, "m")
        sent = Sent(name, secret, {**plain.headers, **signed}, sent.body, sent.query, now_s)
    if name == "discord":
        timestamp = str(int(time.time()))
        signature = PRIVATE.sign(timestamp.encode() + sent.body).hex()
        headers = {"X-Signature-Ed25519": signature, "X-Signature-Timestamp": timestamp}
        sent = Sent(name, SECRETS[name], headers, sent.body)
    return sent, expected


@pytest.mark.parametrize("name", HANDSHAKES)
def test_a_handshake_is_answered_and_not_stored(
    node: tuple[Nodes, NodeProcess], name: str, tmp_path: Path
) -> None:
    nodes, slave = node
    sent, expected = freshen(name)
    status, headers, body = curl(slave, sent, tmp_path)
    assert (status, body) == (expected["status"], expected["response"])
    assert headers["x-content-type-options"] == "nosniff"
    if "type" in expected:
        assert headers["content-type"] == expected["type"]
    for header, value in expected.get("answered", {}).items():
        assert headers[header.lower()] == value
    assert name not in [record.meta.source for record in nodes.read(slave)]


def test_handshakes_are_logged_and_elsewhere_refused(
    node: tuple[Nodes, NodeProcess], tmp_path: Path
) -> None:
    _, slave = node
    curl(slave, freshen("asana")[0], tmp_path)
    for method in ("GET", "HEAD"):
        status, _, _ = curl(slave, Sent("stripe", "", method=method), tmp_path)
        assert status == 405
    status, headers, _ = curl(slave, Sent("stripe", "", method="OPTIONS"), tmp_path)
    assert "webhook-allowed-origin" not in headers
    status, _, _ = curl(slave, Sent("meta", "", query="hub.mode=other", method="GET"), tmp_path)
    assert status == 405
    log = slave.log.read_text()
    assert "answered a handshake with 200" in log
    assert "the provider sent this secret: b537207f20cbfa02357cf448134da559" in log


def post(slave: NodeProcess, source: str, headers: Mapping[str, str], body: bytes) -> int:
    request = urllib.request.Request(
        f"{slave.url}/webhook/{source}",
        body,
        {"Content-Type": "application/json", **headers},
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            if source == "twilio":
                assert answer.read() == b"<Response/>"
                assert answer.headers["Content-Type"] == "text/xml"
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def sign_with_libraries() -> dict[str, tuple[dict[str, str], bytes]]:
    now = int(time.time())
    moment, text = datetime.fromtimestamp(now, tz=UTC), BODY.decode()
    fields = {"MessageSid": "SM1", "Body": "Zoë & Ada", "To": "+1"}
    url = f"{PUBLIC_URL}/webhook/twilio"
    signature = stripe.WebhookSignature.generate_signature_header(text, SECRETS["stripe"], now)
    by_standard = standardwebhooks.Webhook(STANDARD).sign("msg_1", moment, text)
    by_svix = svix.webhooks.Webhook(STANDARD).sign("msg_1", moment, text)
    by_slack = SignatureVerifier(SECRETS["slack"]).generate_signature(timestamp=str(now), body=text)
    by_twilio = RequestValidator(SECRETS["twilio"]).compute_signature(url, fields)
    return {
        "stripe": ({"Stripe-Signature": signature}, BODY),
        "standard": (
            {
                "webhook-id": "msg_1",
                "webhook-timestamp": str(now),
                "webhook-signature": by_standard,
            },
            BODY,
        ),
        "svix": (
            {"svix-id": "msg_1", "svix-timestamp": str(now), "svix-signature": by_svix},
            BODY,
        ),
        "slack": (
            {"X-Slack-Request-Timestamp": str(now), "X-Slack-Signature": str(by_slack)},
            BODY,
        ),
        "twilio": (
            {
                "X-Twilio-Signature": by_twilio,
                "Content-Type": "application/x-www-form-urlencoded",
            },
            urlencode(fields).encode(),
        ),
        "discord": (
            {
                "X-Signature-Ed25519": PRIVATE.sign(f"{now}".encode() + BODY).hex(),
                "X-Signature-Timestamp": str(now),
            },
            BODY,
        ),
    }


def test_what_the_libraries_of_providers_sign_is_stored(node: tuple[Nodes, NodeProcess]) -> None:
    nodes, slave = node
    for source, (headers, body) in sign_with_libraries().items():
        assert post(slave, source, headers, body + b" ") == 401
        status = post(slave, source, headers, body)
        assert status == (204 if source == "discord" else 200), source
        stored = [r for r in nodes.read(slave) if r.meta.source == source]
        assert [record.payload for record in stored] == [body]


def test_the_command_sends_signed_samples(node: tuple[Nodes, NodeProcess]) -> None:
    _, slave = node
    for source in ("stripe", "standard", "slack", "twilio", "notion", "okta", "cloudevents"):
        command = Path(sys.executable).with_name("webhook-sync")
        sent = subprocess.run(
            [command, "send", source, "--node", slave.url],
            env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", **slave.env},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert sent.returncode == 0, sent.stdout + sent.stderr
        assert sent.stdout.startswith("200 ")


@pytest.fixture(scope="module", params=["container", "function"])
def own(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A node with sources of SOURCES_FILE, whose webhooks wait for a moment, and a key server."""
    folder = tmp_path_factory.mktemp(request.param)
    with Nodes(folder) as nodes, serve_keys(Issuer()) as keys:
        file = folder / "sources.toml"
        file.write_text(
            "[noisy]\nlimits.webhooks_per_second = 5\n[large]\nlimits.waiting_bytes = 1000\n"
            f'[push]\nsecrets = ["env:EXPECTED"]\nsignature.jwt = {{ prefix = "Bearer ", '
            f'keys = "{keys}/", claims = {{ email_verified = [true] }}, '
            'expected = ["email", "aud"] }\n'
        )
        slave = nodes.make_slave(
            kind=request.param,
            SOURCES_FILE=str(file),
            LINGER_MS="500",
            COMMIT_TIMEOUT_S="5",
            EXPECTED=f"{ACCOUNT} {AUDIENCE}",
            OTHER_VARIABLES="EXPECTED",
        )
        start(slave)
        yield nodes, slave


class Issuer:
    """A server of a JWK set with one key."""

    def __call__(self, request: Request) -> Answer:
        return Answer(json.dumps({"keys": [make_jwk("k1")]}).encode())


def test_a_noisy_source_does_not_refuse_the_others(own: tuple[Nodes, NodeProcess]) -> None:
    nodes, slave = own
    with ThreadPoolExecutor(41) as pool:
        noisy = [pool.submit(post, slave, "noisy", {}, b'{"id":%d}' % n) for n in range(40)]
        quiet = pool.submit(post, slave, "quiet", {}, b'{"id":0}')
        statuses = [status.result() for status in noisy]
    assert quiet.result() == 200
    assert set(statuses) == {200, 429}
    stored = [r for r in nodes.read(slave) if r.meta.source == "noisy"]
    assert len(stored) == statuses.count(200) >= 5


def test_waiting_bytes_of_a_source_do_not_refuse_the_others(
    own: tuple[Nodes, NodeProcess],
) -> None:
    nodes, slave = own
    with ThreadPoolExecutor(9) as pool:
        bodies = [b'{"id":%d,"text":"%s"}' % (n, b"a" * 600) for n in range(8)]
        large = [pool.submit(post, slave, "large", {}, body) for body in bodies]
        other = pool.submit(post, slave, "quiet", {}, bodies[0])
        statuses = [status.result() for status in large]
    assert other.result() == 200
    assert set(statuses) == {200, 503}
    stored = [r for r in nodes.read(slave) if r.meta.source == "large"]
    assert len(stored) == statuses.count(200)
    assert post(slave, "large", {}, bodies[7]) == 200, "once the others are stored"


def test_tokens_are_verified_with_published_keys(own: tuple[Nodes, NodeProcess]) -> None:
    _, slave = own
    right = {"Authorization": f"Bearer {make_token(make_claims())}"}
    assert post_until(slave, right) == 200
    other = make_token(make_claims(email="other@project.iam.gserviceaccount.com"))
    for token in (other, make_token(make_claims(), key="k2"), "a.b.c"):
        headers = {"Authorization": f"Bearer {token}"}
        assert post_until(slave, headers) == 401


def post_until(slave: NodeProcess, headers: Mapping[str, str]) -> int:
    """Send until the keys are there; without them the status is 503."""
    deadline = time.monotonic() + 20
    while (got := post(slave, "push", headers, b'{"id":1}')) == 503:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return got


@pytest.mark.parametrize("kind", ["container", "function"])
def test_other_bodies_are_stored_as_they_came(kind: Kind, tmp_path: Path) -> None:
    file, secret = tmp_path / "sources.toml", tmp_path / "secret"
    secret.write_text("pass-word\n")
    inside = b'{"id":1,"key":"pass-word"}'
    file.write_text(
        '[lines]\nbody = "any"\n[list]\nbody = "json"\ncompressed = true\n[form]\nbody = "form"\n'
        '[push]\nbody = "any"\nidentity.id = ["header:x-message-number"]\n'
        f'[inside]\ncompressed = true\nsecrets = ["file:{secret}"]\nidentity.id = ["body:/id"]\n'
        'signature.token = { read = "body:/key" }\n'
    )
    form = "application/x-www-form-urlencoded"
    multipart = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x--\r\n'
    packed = gzip.compress(b'[{"id":1}]')
    right = [
        ("lines", {"Content-Type": "application/x-ndjson"}, b'{"a":1}\n{"a":2}\n'),
        ("lines", {"Content-Type": "text/xml"}, b"<a>\xff</a>"),
        ("list", {}, b'[{"id":2}]'),
        ("list", {"Content-Encoding": "gzip"}, packed),
        ("list", {"Content-Encoding": "utf-8"}, b'[{"id":3}]'),
        ("list", {"Content-Encoding": ""}, b'\xef\xbb\xbf[{"id":4}]'),
        ("form", {"Content-Type": form}, b"a=1&b=%C3%A9"),
        ("form", {"Content-Type": "multipart/form-data; boundary=x"}, multipart),
        ("push", {"X-Message-Number": "1"}, b""),
        ("push", {"X-Message-Number": "2"}, b""),
        ("plain", {}, b'\xef\xbb\xbf{"id":5}'),
        ("inside", {"Content-Encoding": "gzip"}, gzip.compress(inside)),
    ]
    wrong = [
        ("plain", {}, b"[1]", 400),
        ("plain", {"Content-Type": form}, b"a=1", 400),
        ("plain", {"Content-Encoding": "gzip"}, gzip.compress(b"{}"), 415),
        ("list", {"Content-Encoding": "gzip"}, b"[1]", 400),
        ("list", {"Content-Encoding": "br"}, b"[1]", 415),
        ("list", {}, b"[1", 400),
        ("form", {}, b'{"a":1}', 400),
        ("push", {}, b"", 400),
        ("lines", {}, b"", 400),
        ("inside", {"Content-Encoding": "gzip"}, gzip.compress(b'{"id":1,"key":"x"}'), 401),
    ]
    with Nodes(tmp_path) as nodes:
        slave = nodes.make_slave(
            kind=kind, SOURCES_FILE=str(file), SPAN_S="2", COMMIT_TIMEOUT_S="0.5"
        )
        master = nodes.make_master(
            {"slave": slave.url}, SOURCES_FILE=str(file), SPAN_S="2", COMMIT_TIMEOUT_S="0.5"
        )
        start(slave, master)
        for source, headers, body in right:
            assert post(slave, source, headers, body) == 200, (source, body)
        for source, headers, body, status in wrong:
            assert post(slave, source, headers, body) == status, (source, body)
        sent = sorted((source, body) for source, _, body in right)
        assert sorted((r.meta.source, r.payload) for r in nodes.read(slave)) == sent
        time.sleep(5)
        answer = sync(master)
        assert answer.status == 200, answer.body
        assert sorted((r.meta.source, r.payload) for r in nodes.read(master)) == sent
        master.kill()
        assert nodes.read_quarantine(master) == []
        (stored,) = [r for r in nodes.read(master) if r.payload == packed]
        assert stored.meta.headers["content-encoding"] == "gzip"
