"""Malformed signature headers: each is refused, and told what is wrong with it."""

from __future__ import annotations

import base64

import pytest

from portable_core.sources.schemes import (
    sign,
    sign_standard,
)
from tests.unit.test_signatures import BODY, KEY, NOW_S, SIGNED, admits, refusal

GITHUB_HEX = sign("github:a", BODY)["X-Hub-Signature-256"].removeprefix("sha256=")


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


V1 = sign("stripe:a", BODY, NOW_S)["Stripe-Signature"].partition(",v1=")[2]


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
