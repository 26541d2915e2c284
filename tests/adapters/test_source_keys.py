"""The keys of senders' tokens: fetched in time, and waited for only where a thread may wait."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import google.auth.crypt
import google.auth.jwt
import google.auth.transport
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from google.oauth2 import id_token

from portable_core.adapters.authentication.key_set import MIN_AGE_S, RENEW_S, UNKNOWN_KEY_S
from portable_core.adapters.authentication.source_keys import SourceKeys, read_jwk_set
from portable_core.doctor import examine
from portable_core.errors import Unavailable
from portable_core.sources.decision import Admit, Refuse
from portable_core.sources.encodings import ENCODINGS
from portable_core.sources.request import SourceRequest
from portable_core.sources.signatures import parse_sources
from portable_core.sources.source_file import make_secret_reader, read_sources_file
from tests.support.nodes.oidc_issuer import Answer, Request, make_jwk, make_key, serve

AUDIENCE = "https://node.example/webhook/s"
ACCOUNT = "push@project.iam.gserviceaccount.com"

#: How long a slow server takes for its response, in seconds.
SLOW_S = 0.4

encode = ENCODINGS["base64url-unpadded"].encode


class Publisher:
    """A server of a JWK set."""

    def __init__(self, *names: str) -> None:
        self.publish(*names)
        self.asked = 0
        self.status = 200
        self.slow_s = 0.0

    def publish(self, *names: str) -> None:
        self.document = json.dumps({"keys": [make_jwk(name) for name in names]}).encode()

    def __call__(self, request: Request) -> Answer:
        self.asked += 1
        time.sleep(self.slow_s)
        return Answer(self.document, self.status, {"Cache-Control": f"max-age={MIN_AGE_S}"})


class Keys:
    """The keys of a publisher, with a clock that only ``time`` moves."""

    def __init__(self, publisher: Publisher, url: str) -> None:
        self.publisher, self.url, self.time = publisher, f"{url}/keys", 1000.0
        self.keys = SourceKeys([self.url], lambda: self.time)

    def find(self, key_id: str) -> str | None:
        return self.keys.find(self.url, key_id)

    def find_on_loop(self, key_id: str) -> str | None:
        """Ask on an event loop until there is an answer; the first one never waits."""

        async def ask() -> str | None:
            for _ in range(200):
                started = time.perf_counter()
                try:
                    return self.find(key_id)
                except Unavailable:
                    await asyncio.sleep(0.02)
                finally:
                    assert time.perf_counter() - started < SLOW_S
            raise AssertionError("the keys never came")

        return asyncio.run(ask())


@contextmanager
def publish(*names: str) -> Iterator[Keys]:
    publisher = Publisher(*names)
    with serve(publisher) as url:
        yield Keys(publisher, url)


def test_a_thread_waits_for_the_keys_and_fetches_them_once() -> None:
    with publish("k1", "k2") as keys:
        for name in ("k1", "k2", "k1"):
            assert (keys.find(name) or "").startswith("-----BEGIN PUBLIC KEY-----")
        assert keys.find("k3") is None
        assert keys.publisher.asked == 1


def test_an_event_loop_never_waits() -> None:
    with publish("k1") as keys:
        keys.publisher.slow_s = SLOW_S
        assert keys.find_on_loop("k1")
        assert keys.publisher.asked == 1
        assert keys.find_on_loop("k2") is None
        keys.publisher.publish("k1", "k2")
        keys.time += UNKNOWN_KEY_S
        assert keys.find_on_loop("k2")


def test_keys_are_there_before_the_first_webhook_and_renewed_before_they_expire() -> None:
    with publish("k1") as keys:
        keys.keys.begin()
        deadline = time.monotonic() + 10
        while not keys.publisher.asked and time.monotonic() < deadline:
            time.sleep(0.01)
        (key_set,) = keys.keys._sets.values()
        assert 0 < key_set.renew() <= MIN_AGE_S - RENEW_S
        assert keys.publisher.asked == 1
        keys.time += MIN_AGE_S - RENEW_S
        key_set.renew()
        assert keys.publisher.asked == 2
        keys.publisher.status = 500
        keys.time += MIN_AGE_S - RENEW_S
        key_set.renew()
        assert keys.find("k1"), "an old key is good until it expires"
        keys.time += RENEW_S
        with pytest.raises(Unavailable, match="cannot be fetched"):
            keys.find("k1")


def test_other_kinds_of_keys_are_left_out() -> None:
    numbers = ec.derive_private_key(7, ec.SECP256R1()).public_key().public_numbers()
    point = {"x": encode(numbers.x.to_bytes(32)), "y": encode(numbers.y.to_bytes(32))}
    document: dict[str, list[Any]] = {
        "keys": [
            make_jwk("rsa"),
            make_jwk("encryption", use="enc"),
            {"kty": "EC", "crv": "P-256", "kid": "ec", **point},
            {"kty": "OKP", "crv": "Ed25519", "kid": "okp", "x": "AA"},
            {**make_jwk("x"), "kid": 7},
            "no key",
        ]
    }
    assert set(read_jwk_set(json.dumps(document).encode())) == {"rsa", "ec"}
    for wrong in (b"[]", b"{}", b'{"keys":[{"kty":"RSA","kid":"k","n":"!","e":"AQAB"}]}'):
        with pytest.raises(ValueError, match="the response"):
            read_jwk_set(wrong)


def make_pubsub_token(**changed: object) -> str:
    now = int(time.time())
    claims = {
        "aud": AUDIENCE,
        "email": ACCOUNT,
        "email_verified": True,
        "exp": now + 3600,
        "iat": now,
        "iss": "https://accounts.google.com",
        **changed,
    }
    signer = google.auth.crypt.RSASigner(make_key("k1"), "k1")  # type: ignore[no-untyped-call]
    claims = {name: value for name, value in claims.items() if value is not None}
    return bytes(google.auth.jwt.encode(signer, claims)).decode()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("changed", "by_google"),
    [
        ({}, True),
        ({"iss": "accounts.google.com"}, True),
        ({"iss": "https://accounts.example.com"}, False),
        ({"aud": "https://other.example"}, False),
        ({"exp": int(time.time()) - 3600, "iat": int(time.time()) - 7200}, False),
        ({"iat": int(time.time()) + 3600, "exp": int(time.time()) + 7200}, False),
        ({"exp": None}, None),
        ({"email": "other@project.iam.gserviceaccount.com"}, None),
        ({"email_verified": False}, None),
        ({"email_verified": "true"}, None),
        ({"email": None}, None),
    ],
)
def test_tokens_count_as_with_the_library_of_the_provider(
    changed: dict[str, object], by_google: bool | None
) -> None:
    """None: the library leaves the claim to its caller."""
    document = json.dumps({"keys": [make_jwk("k1")]}).encode()
    keys = read_jwk_set(document)
    sources = parse_sources(f"s=pubsub-oidc:{ACCOUNT} {AUDIENCE}")
    token = make_pubsub_token(**changed)
    headers = {"authorization": [f"bearer {token}"]}
    request = SourceRequest(lambda name: headers.get(name.lower(), []), b'{"message":{}}')
    now_ms = int(time.time() * 1000)
    decided = sources.use_keys(lambda _, key_id: keys.get(key_id)).decide("s", request, now_ms)
    assert isinstance(decided, Admit if by_google else Refuse), decided

    class Fetched(google.auth.transport.Response):
        status, headers, data = 200, {}, document

    if by_google is not None:
        try:
            id_token.verify_oauth2_token(  # type: ignore[no-untyped-call]
                token, lambda *_, **__: Fetched(), AUDIENCE, clock_skew_in_seconds=10
            )
        except Exception:  # noqa: BLE001  # of google-auth, or of the library that it uses
            assert not by_google
        else:
            assert by_google


def test_missing_keys_are_not_a_wrong_signature() -> None:
    def find(address: str, key_id: str) -> str | None:
        raise Unavailable("no keys")

    both = f"s=pubsub-oidc:{ACCOUNT} {AUDIENCE},s=pubsub:secret"
    token = make_pubsub_token()
    request = SourceRequest(lambda _: [f"Bearer {token}"], b"{}")
    for setting in (both.partition(",")[0], both):
        decided = parse_sources(setting).use_keys(find).decide("s", request, _now_ms())
        assert isinstance(decided, Refuse)
        assert decided.error.status == 503
    request = SourceRequest(lambda _: [f"Bearer {token}"], b"{}", query="token=secret")
    assert parse_sources(both).use_keys(find).decide("s", request, _now_ms()) == Admit()


def _now_ms() -> int:
    return int(time.time() * 1000)


def test_a_source_of_one_s_own_has_keys_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "sources.toml"
    private = ec.derive_private_key(7, ec.SECP256R1())
    numbers = private.public_key().public_numbers()
    point = {"x": encode(numbers.x.to_bytes(32)), "y": encode(numbers.y.to_bytes(32))}
    document = {"keys": [{"kty": "EC", "crv": "P-256", "kid": "k", **point}]}
    publisher = Publisher()
    publisher.document = json.dumps(document).encode()
    with serve(publisher) as url:
        file.write_text(
            f'[s]\nsecrets = ["env:EXPECTED"]\nsignature.jwt = {{ read = "header:X-Token", '
            f'algorithm = "ES256", keys = "{url}/keys", expected = ["aud"], '
            "digests = { body_sha256 = {} } }\n"
        )
        rows = read_sources_file(str(file))
        sources = parse_sources("").join(rows, make_secret_reader({"EXPECTED": "me"}))
        sources = sources.use_keys(SourceKeys(sources.key_addresses).find)
        signer = google.auth.crypt.EsSigner(private, "k")
        now = int(time.time())
        body = b'{"a":1}'
        digest = "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"
        claims = {"aud": ["you", "me"], "exp": now + 60, "iat": now, "body_sha256": digest}
        made = google.auth.jwt.encode(signer, claims)  # type: ignore[no-untyped-call]
        token = bytes(made).decode()
        for sent, expected in ((body, Admit), (body + b" ", Refuse)):
            request = SourceRequest(lambda _: [token], sent)
            assert isinstance(sources.decide("s", request, _now_ms()), expected)


def test_the_doctor_names_keys_that_cannot_be_fetched(tmp_path: Path) -> None:
    publisher = Publisher("k1", "k2")
    with serve(publisher) as url:
        file = tmp_path / "sources.toml"
        file.write_text(
            f'[s]\nsecrets = ["env:EXPECTED"]\nsignature.jwt = {{ keys = "{url}/keys", '
            'expected = ["aud"] }\n'
        )
        env = {"STORE": f"sqlite:{tmp_path / 'store'}", "SYNC_TOKENS": "t" * 20, "EXPECTED": "me"}
        env |= {"SOURCES_FILE": str(file), "OTHER_VARIABLES": "EXPECTED"}

        def examine_keys() -> list[tuple[str, str]]:
            return [(f.level, f.text) for f in examine("slave", env) if f.subject == "keys"]

        assert examine_keys() == [("ok", f"{url}/keys: 2 keys")]
        publisher.status = 404
        ((level, text),) = examine_keys()
        assert level == "fault"
        assert "the response has status 404. Webhooks of its sources get a 503." in text


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ('{ keys = "https://x/", algorithm = "HS256" }', "keys, expected: must be set for"),
        ("{}", "keys, expected: must be set for"),
        ('{ keys = "http://x/", expected = ["aud"] }', "keys: must begin with https://"),
        ('{ keys = "https://x/" }', "expected: must name a claim"),
        ('{ algorithm = "none" }', "algorithm: must be"),
        ('{ algorithm = "HS256", claims = { iss = ["{body}"] } }', "read, claims or digests"),
    ],
)
def test_a_wrong_column_is_refused(column: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "sources.toml"
    file.write_text(f"[s]\nsignature.jwt = {column}\n")
    with pytest.raises(ValueError, match=rf"\[s\] signature.jwt.{message}"):
        read_sources_file(str(file))
