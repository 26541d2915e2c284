"""Webhook signatures by scheme: published vectors, the providers' own libraries, every refusal."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks
import stripe

from portable_core.errors import Unauthorized
from portable_core.sources.request import Headers
from portable_core.sources.schemes import (
    sign,
    sign_standard,
)
from portable_core.sources.signatures import parse_sources
from portable_core.sources.values import MAX_CHARACTERS

VECTORS = Path(__file__).parents[1] / "vectors" / "signatures"

NOW_S = 1_767_225_600
BODY = '{"name":"Zoë","n":[1,2.50],"quote":"\\ud83d"}'.encode()
KEY = "whsec_" + base64.b64encode(bytes(range(24))).decode()
OTHER_KEY = "whsec_" + base64.b64encode(bytes(range(1, 25))).decode()


def give(*pairs: tuple[str, str]) -> Headers:
    """Headers as a web framework gives them: all values of a name, which counts in any case."""
    return lambda name: [value for key, value in pairs if key.lower() == name.lower()]


def admits(
    setting: str, headers: Mapping[str, str], body: bytes = BODY, now_s: int = NOW_S
) -> bool:
    try:
        parse_sources(setting).verify("s", give(*headers.items()), body, now_s * 1000)
    except Unauthorized:
        return False
    return True


def refusal(setting: str, *pairs: tuple[str, str], now_s: float = NOW_S) -> str:
    with pytest.raises(Unauthorized) as caught:
        parse_sources(setting).verify("s", give(*pairs), BODY, round(now_s * 1000))
    return str(caught.value)


def load(name: str) -> Iterable[dict[str, Any]]:
    document = json.loads((VECTORS / name).read_text())
    assert document["origin"]
    vectors: list[dict[str, Any]] = document["vectors"]
    return vectors


@pytest.mark.parametrize("vector", load("github.json"))
def test_github_vectors(vector: dict[str, Any]) -> None:
    body = vector["body"].encode()
    assert sign(f"github:{vector['secret']}", body) == vector["headers"]
    assert admits(f"s=github:{vector['secret']}", vector["headers"], body)
    assert not admits(f"s=github:{vector['secret']}", vector["headers"], body + b"\n")
    assert not admits(f"s=github:{vector['secret']}.", vector["headers"], body)


@pytest.mark.parametrize("vector", load("standard.json"))
def test_standard_vectors(vector: dict[str, Any]) -> None:
    setting, headers = f"s=standard:{vector['secret']}", vector["headers"]
    body, now_s = vector["body"].encode(), vector["now_s"]
    assert admits(setting, headers, body, now_s)
    assert not admits(setting, headers, body + b"\n", now_s)
    assert not admits(setting, {**headers, "webhook-id": "msg_other"}, body, now_s)
    assert not admits(setting, {**headers, "webhook-timestamp": str(now_s + 1)}, body, now_s)
    assert not admits(f"s=standard:{OTHER_KEY}", headers, body, now_s)
    made = sign_standard(vector["secret"], headers["webhook-id"], now_s, body)
    assert made["webhook-signature"] in headers["webhook-signature"].split(" ")


@pytest.mark.parametrize("vector", load("hmac-sha256.json"))
def test_hmac_vectors(vector: dict[str, Any]) -> None:
    secret = bytes.fromhex(vector["key"]).decode("utf-8", "surrogateescape")
    body, digest = bytes.fromhex(vector["body"]), vector["hmac"]
    setting = f"s=hmac-sha256@X-Sig:{secret}"
    assert sign(f"hmac-sha256@X-Sig:{secret}", body) == {"X-Sig": digest}
    in_base64 = base64.b64encode(bytes.fromhex(digest)).decode()
    for form in (digest, digest.upper(), f"sha256={digest}", in_base64):
        assert admits(setting, {"X-Sig": form}, body)
        assert not admits(setting, {"X-Sig": form}, body + b"\0")


def test_stripe_agrees_with_stripes_own_library() -> None:
    for secret in ("whsec_test_secret", "é:=;"):
        for body in (BODY, b"{}", b'{"a": "\xf0\x9f\x8e\x89"}'):
            theirs = stripe.WebhookSignature.generate_signature_header(body.decode(), secret, NOW_S)
            assert sign(f"stripe:{secret}", body, NOW_S) == {"Stripe-Signature": theirs}
            assert admits(f"s=stripe:{secret}", {"Stripe-Signature": theirs}, body)
            assert not admits(f"s=stripe:{secret}!", {"Stripe-Signature": theirs}, body)
            ours = sign(f"stripe:{secret}", body, NOW_S)["Stripe-Signature"]
            assert stripe.WebhookSignature.verify_header(body, ours, secret)


def test_standard_agrees_with_the_standards_own_library() -> None:
    now_s = int(datetime.now(tz=UTC).timestamp())
    library = standardwebhooks.Webhook(KEY)
    for message_id in ("msg_1", "a.b-c", "~"):
        theirs = {
            "webhook-id": message_id,
            "webhook-timestamp": str(now_s),
            "webhook-signature": library.sign(
                message_id, datetime.fromtimestamp(now_s, tz=UTC), BODY.decode()
            ),
        }
        assert sign_standard(KEY, message_id, now_s, BODY) == theirs
        assert admits(f"s=standard:{KEY}", theirs, BODY, now_s)
        library.verify(BODY, sign_standard(KEY, message_id, now_s, BODY), json_parse=False)


@pytest.mark.parametrize("key", ["whsec_AAECAwQFBgcICQoLDA0ODw==", "whsec_AAECAwQFBgcICQoLDA0ODw"])
def test_a_standard_key_may_come_without_padding(key: str) -> None:
    library = standardwebhooks.Webhook(key)
    headers = sign_standard(key, "m", NOW_S, BODY)
    moment = datetime.fromtimestamp(NOW_S, tz=UTC)
    assert headers["webhook-signature"] == library.sign("m", moment, BODY.decode())
    assert admits(f"s=standard:{key}", headers)


#: By scheme: a setting, the headers of a sender with its secret, those with another secret.
FORMS = ("github", "stripe", "standard", "hmac-sha256@Header-Name")
SIGNED = {
    form.partition("@")[0]: (
        f"s={form}:{KEY}",
        sign(f"{form}:{KEY}", BODY, NOW_S, "msg_1"),
        sign(f"{form}:{OTHER_KEY}", BODY, NOW_S, "msg_1"),
    )
    for form in FORMS
}
OTHERS = {form.partition("@")[0]: f"s={form}:{OTHER_KEY}" for form in FORMS}


@pytest.mark.parametrize("scheme", SIGNED)
def test_two_secrets_admit_both_while_one_is_rotated(scheme: str) -> None:
    setting, right, wrong = SIGNED[scheme]
    assert admits(setting, right)
    assert not admits(setting, wrong)
    for both in (f"{setting},{OTHERS[scheme]}", f"{OTHERS[scheme]}, {setting}"):
        assert admits(both, right)
        assert admits(both, wrong)


@pytest.mark.parametrize("scheme", SIGNED)
def test_two_schemes_admit_both_while_a_sender_moves(scheme: str) -> None:
    setting, right, wrong = SIGNED[scheme]
    for other, (other_setting, other_right, _) in SIGNED.items():
        if other != scheme:
            both = f"{other_setting},{setting}"
            assert admits(both, right)
            assert admits(both, other_right)
            assert not admits(both, wrong)


@pytest.mark.parametrize("scheme", SIGNED)
def test_a_missing_header_is_named(scheme: str) -> None:
    setting, right, _ = SIGNED[scheme]
    for name in right:
        rest = [(key, value) for key, value in right.items() if key != name]
        assert refusal(setting, *rest).startswith(f"{name}: missing")


@pytest.mark.parametrize("scheme", SIGNED)
def test_a_header_that_comes_twice_is_refused_even_if_both_are_right(scheme: str) -> None:
    setting, right, _ = SIGNED[scheme]
    for name, value in right.items():
        assert refusal(setting, *right.items(), (name, value)) == f"{name}: occurs 2 times"
        # What a server makes of two headers that it joins (RFC 9110, section 5.3).
        assert not admits(setting, {**right, name: f"{value},{value}"})
        if name != "webhook-signature":  # which is a list with spaces anyway
            assert not admits(setting, {**right, name: f"{value}, {value}"})


@pytest.mark.parametrize("scheme", SIGNED)
def test_a_header_too_long_is_refused(scheme: str) -> None:
    setting, right, _ = SIGNED[scheme]
    for name, value in right.items():
        longer = value + "0" * (MAX_CHARACTERS - len(value) + 1)
        assert refusal(setting, *{**right, name: longer}.items()).startswith(f"{name}: longer than")


@pytest.mark.parametrize("scheme", SIGNED)
def test_a_changed_body_is_refused(scheme: str) -> None:
    setting, right, _ = SIGNED[scheme]
    for body in (b"", BODY[:-1], BODY + b" ", BODY.replace(b"1", b"2"), BODY.upper()):
        assert not admits(setting, right, body)


@pytest.mark.parametrize("scheme", SIGNED)
def test_no_message_tells_what_was_configured_or_sent(scheme: str) -> None:
    setting, right, wrong = SIGNED[scheme]
    secret = setting.partition(":")[2]
    garbage = dict.fromkeys(right, "<script>\r\nSet-Cookie: x")
    for headers in ({}, wrong, garbage, {**right, **dict.fromkeys(list(right)[-1:], "v1,t=x")}):
        message = refusal(setting, *headers.items())
        assert "\n" not in message
        for value in (secret if len(secret) > 1 else "", *right.values(), *headers.values()):
            assert not value or value not in message


@pytest.mark.parametrize(
    ("scheme", "header"),
    [("stripe", "Stripe-Signature"), ("standard", "webhook-timestamp")],
)
def test_a_replayed_request_is_refused(scheme: str, header: str) -> None:
    setting, right, _ = SIGNED[scheme]
    tolerance_s = 300
    for offset in (-tolerance_s, 0, tolerance_s):
        assert admits(setting, right, now_s=NOW_S + offset)
    for beyond in (-86_400, -tolerance_s - 0.001, tolerance_s + 0.001, 86_400):
        message = refusal(setting, *right.items(), now_s=NOW_S + beyond)
        assert message.startswith(f"{header}: signed more than 300 s")
