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
from portable_core.signatures import (
    MAX_HEADER_CHARACTERS,
    STANDARD_TOLERANCE_S,
    STRIPE_TOLERANCE_S,
    Headers,
    parse_sources,
    sign_github,
    sign_hmac,
    sign_standard,
    sign_stripe,
)

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
    assert sign_github(vector["secret"], body) == vector["headers"]
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
    assert sign_hmac(secret, "X-Sig", body) == {"X-Sig": digest}
    in_base64 = base64.b64encode(bytes.fromhex(digest)).decode()
    for form in (digest, digest.upper(), f"sha256={digest}", in_base64):
        assert admits(setting, {"X-Sig": form}, body)
        assert not admits(setting, {"X-Sig": form}, body + b"\0")


def test_stripe_agrees_with_stripes_own_library() -> None:
    for secret in ("whsec_test_secret", "é:=;"):
        for body in (BODY, b"{}", b'{"a": "\xf0\x9f\x8e\x89"}'):
            theirs = stripe.WebhookSignature.generate_signature_header(body.decode(), secret, NOW_S)
            assert sign_stripe(secret, NOW_S, body) == {"Stripe-Signature": theirs}
            assert admits(f"s=stripe:{secret}", {"Stripe-Signature": theirs}, body)
            assert not admits(f"s=stripe:{secret}!", {"Stripe-Signature": theirs}, body)
            ours = sign_stripe(secret, NOW_S, body)["Stripe-Signature"]
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


SIGNED = {
    "github": ("s=github:a", sign_github("a", BODY), sign_github("b", BODY)),
    "stripe": ("s=stripe:a", sign_stripe("a", NOW_S, BODY), sign_stripe("b", NOW_S, BODY)),
    "standard": (
        f"s=standard:{KEY}",
        sign_standard(KEY, "msg_1", NOW_S, BODY),
        sign_standard(OTHER_KEY, "msg_1", NOW_S, BODY),
    ),
    "hmac": ("s=hmac-sha256@X-Sig:a", sign_hmac("a", "X-Sig", BODY), sign_hmac("b", "X-Sig", BODY)),
}
OTHERS = {
    "github": "s=github:b",
    "stripe": "s=stripe:b",
    "standard": f"s=standard:{OTHER_KEY}",
    "hmac": "s=hmac-sha256@X-Sig:b",
}


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
        assert refusal(setting, *right.items(), (name, value)) == f"{name}: comes 2 times"
        # What a server makes of two headers that it joins (RFC 9110, section 5.3).
        assert not admits(setting, {**right, name: f"{value},{value}"})
        if name != "webhook-signature":  # which is a list with spaces anyway
            assert not admits(setting, {**right, name: f"{value}, {value}"})


@pytest.mark.parametrize("scheme", SIGNED)
def test_a_header_too_long_is_refused(scheme: str) -> None:
    setting, right, _ = SIGNED[scheme]
    for name, value in right.items():
        longer = value + "0" * (MAX_HEADER_CHARACTERS - len(value) + 1)
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
    ("scheme", "header", "tolerance_s"),
    [
        ("stripe", "Stripe-Signature", STRIPE_TOLERANCE_S),
        ("standard", "webhook-timestamp", STANDARD_TOLERANCE_S),
    ],
)
def test_a_replayed_request_is_refused(scheme: str, header: str, tolerance_s: int) -> None:
    setting, right, _ = SIGNED[scheme]
    assert tolerance_s == 300
    for offset in (-tolerance_s, 0, tolerance_s):
        assert admits(setting, right, now_s=NOW_S + offset)
    for beyond in (-86_400, -tolerance_s - 0.001, tolerance_s + 0.001, 86_400):
        message = refusal(setting, *right.items(), now_s=NOW_S + beyond)
        assert message.startswith(f"{header}: signed more than 300 s")


GITHUB_HEX = sign_github("a", BODY)["X-Hub-Signature-256"].removeprefix("sha256=")


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("", "not an HMAC"),
        ("sha256=", "not an HMAC"),
        (GITHUB_HEX, "not an HMAC"),
        (f"sha256={GITHUB_HEX[:-1]}", "not an HMAC"),
        (f"sha256={GITHUB_HEX}0", "not an HMAC"),
        (f"sha1={GITHUB_HEX}", "not an HMAC"),
        (f"sha256=sha256={GITHUB_HEX}", "not an HMAC"),
        ("sha256=" + "٣" * 64, "not an HMAC"),
        (base64.b64encode(bytes.fromhex(GITHUB_HEX)).decode(), "not an HMAC"),
        ("sha256=" + "0" * 63 + "\n", "not an HMAC"),
        ("sha256=" + "0" * 64, "does not match"),
    ],
)
def test_malformed_github_headers(value: str, fault: str) -> None:
    assert fault in refusal("s=github:a", ("X-Hub-Signature-256", value))


V1 = sign_stripe("a", NOW_S, BODY)["Stripe-Signature"].partition(",v1=")[2]


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("", "has 0 timestamps"),
        (f"v1={V1}", "has 0 timestamps"),
        (f"t={NOW_S},t={NOW_S},v1={V1}", "has 2 timestamps"),
        (f"t=,v1={V1}", "not a whole number"),
        (f"t=-{NOW_S},v1={V1}", "not a whole number"),
        (f"t={NOW_S}.0,v1={V1}", "not a whole number"),
        (f"t=1{'0' * 5000},v1={V1}", "not a whole number"),
        (f"t=١٧,v1={V1}", "not a whole number"),
        (f"t=1e9,v1={V1}", "not a whole number"),
        (f"t=nan,v1={V1}", "not a whole number"),
        (f"t={NOW_S}", "has no signature v1="),
        (f"t={NOW_S},v1=", "has no signature v1="),
        (f"t={NOW_S},v0={V1}", "has no signature v1="),
        (f"t={NOW_S},v1={V1[:-2]}", "has no signature v1="),
        (f"t={NOW_S},v1={V1[:-1]}é", "has no signature v1="),
        (f"t={NOW_S},v1={'0' * 64}", "does not match"),
        (f"t={NOW_S - 1},v1={V1}", "does not match"),
        (",".join([f"t={NOW_S}"] + ["v1=" + "0" * 64] * 100), "does not match"),
        ("," * 5000, "has 0 timestamps"),
    ],
)
def test_malformed_stripe_headers(value: str, fault: str) -> None:
    assert fault in refusal("s=stripe:a", ("Stripe-Signature", value))


def test_a_stripe_header_may_hold_other_signatures_beside_the_right_one() -> None:
    zeros = "0" * 64
    for value in (
        f"t={NOW_S},v1={zeros},v1={V1}",
        f"v1={V1},v0={zeros},t={NOW_S}",
        f"t={NOW_S},v1=short,v1={V1},v2=é",
    ):
        assert admits("s=stripe:a", {"Stripe-Signature": value})


RIGHT_V1 = SIGNED["standard"][1]["webhook-signature"]


@pytest.mark.parametrize(
    ("header", "value", "fault"),
    [
        ("webhook-id", "", "not printable ASCII"),
        ("webhook-id", "a b", "not printable ASCII"),
        ("webhook-id", "é", "not printable ASCII"),
        ("webhook-id", "\0", "not printable ASCII"),
        ("webhook-id", "other", "does not match"),
        ("webhook-timestamp", "", "not a whole number"),
        ("webhook-timestamp", f"{NOW_S}.5", "not a whole number"),
        ("webhook-timestamp", f" {NOW_S}", "not a whole number"),
        ("webhook-timestamp", f"+{NOW_S}", "not a whole number"),
        ("webhook-timestamp", "inf", "not a whole number"),
        ("webhook-timestamp", "9" * 400, "not a whole number"),
        ("webhook-timestamp", "9" * 15, "signed more than"),
        ("webhook-signature", "", "has no signature v1,"),
        ("webhook-signature", "v1", "has no signature v1,"),
        ("webhook-signature", "v1,", "has no signature v1,"),
        ("webhook-signature", RIGHT_V1[:-1], "has no signature v1,"),
        ("webhook-signature", RIGHT_V1.replace("v1", "v1a"), "has no signature v1,"),
        ("webhook-signature", RIGHT_V1.replace("v1,", "v1,,"), "has no signature v1,"),
        ("webhook-signature", "v1,é", "has no signature v1,"),
        ("webhook-signature", "v1," + "!" * 44, "has no signature v1,"),
        ("webhook-signature", " ".join(["v1," + "A" * 43 + "="] * 100), "does not match"),
    ],
)
def test_malformed_standard_headers(header: str, value: str, fault: str) -> None:
    headers = {**SIGNED["standard"][1], header: value}
    message = refusal(f"s=standard:{KEY}", *headers.items())
    assert message.startswith(f"{header}: ") or header == "webhook-id"
    assert fault in message


def test_a_standard_header_may_hold_other_signatures_beside_the_right_one() -> None:
    for value in (
        f"v1a,{'A' * 86}== {RIGHT_V1}",
        f"{RIGHT_V1} v2,é v1 ,",
        f"v1,{'A' * 43}=  v1,short {RIGHT_V1}",
    ):
        assert admits(f"s=standard:{KEY}", {**SIGNED["standard"][1], "webhook-signature": value})


@pytest.mark.parametrize(
    "value", ["", "é" * 64, "A" * 44, "=" * 44, "0" * 65, "sha256=" + "A" * 43]
)
def test_malformed_hmac_headers(value: str) -> None:
    assert "not an HMAC-SHA256" in refusal("s=hmac-sha256@X-Sig:a", ("X-Sig", value))


def test_impossible_arguments_of_the_signing_functions() -> None:
    for message_id in ("", "a b", "é"):
        with pytest.raises(ValueError, match="message id"):
            sign_standard(KEY, message_id, NOW_S, BODY)
    for secret in ("", "whsec_", "whsec_é", KEY[6:]):
        with pytest.raises(ValueError, match="whsec_ and base64"):
            sign_standard(secret, "m", NOW_S, BODY)
