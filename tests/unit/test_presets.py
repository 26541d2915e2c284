"""Every preset: an external vector, every refusal, every handshake, and the table of them all."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import pytest

from portable_core.errors import Unauthorized
from portable_core.sources.decision import Admit, Decision, Refuse
from portable_core.sources.handshakes import Answer
from portable_core.sources.hmac_signature import HmacForm
from portable_core.sources.json_web_token import CLOCK_SKEW_S
from portable_core.sources.jwt_signature import JwtForm
from portable_core.sources.pages import write_document
from portable_core.sources.presets import PRESETS, read_presets
from portable_core.sources.public_key import PublicKeyForm
from portable_core.sources.signatures import parse_sources
from portable_core.sources.static_secret import TokenForm
from tests.support.provider_pages import PAGE
from tests.support.senders import EVERY_SENDER as SENDERS
from tests.support.senders import ROWS, VECTORS, Sent, from_vector, load_vectors

HANDSHAKES: dict[str, dict[str, Any]] = json.loads((VECTORS / "handshakes.json").read_text())
SIGNED = [name for name in SENDERS if ROWS[name].form is not None]
WITH_HMAC = [name for name in SIGNED if isinstance(ROWS[name].form, HmacForm)]
WITH_KEY = [name for name in SIGNED if isinstance(ROWS[name].form, PublicKeyForm)]
WITH_JWT = [name for name in SIGNED if isinstance(ROWS[name].form, JwtForm)]
#: Presets whose signature is of the body.
COVERED = WITH_HMAC + WITH_KEY + [n for n in WITH_JWT if not ROWS[n].form.secret_values]  # type: ignore[union-attr]


def decide(sent: Sent, offset_s: float = 0, setting: str = "") -> Decision:
    colon = ":" if sent.secret else ""
    sources = parse_sources(setting or f"s={sent.preset}{colon}{sent.secret}")
    sources = sources.use_keys(lambda address, key_id: sent.keys.get(key_id))
    return sources.decide("s", sent.request, round((sent.now_s + offset_s) * 1000))


def refusal(sent: Sent, offset_s: float = 0, setting: str = "") -> str:
    decision = decide(sent, offset_s, setting)
    assert isinstance(decision, Refuse)
    assert isinstance(decision.error, Unauthorized)
    message = str(decision.error)
    assert "\n" not in message
    for secret in (sent.secret, *sent.headers.values()):
        assert len(secret) < 4 or secret not in message
    return message


def other_secret(sent: Sent) -> str:
    form = ROWS[sent.preset].form
    if isinstance(form, TokenForm):
        return "other:secret"
    if isinstance(form, PublicKeyForm):  # that of another vector cannot be: keys differ in kind
        keys = {
            "ed25519": "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "ecdsa-p256-sha256": (
                "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40"
                "Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q=="
            ),
        }
        return keys[form.columns.algorithm]
    if isinstance(form, JwtForm):
        return " ".join(["other"] * len(form.columns.expected)) or "other"
    assert isinstance(form, HmacForm)
    return {"whsec": "whsec_AAAA", "hex": "00ff", "base64": "AAAA", "text": "other"}[
        form.columns.key
    ]


@pytest.mark.parametrize("name", SENDERS)
def test_a_request_of_the_provider_is_admitted(name: str) -> None:
    origin, vectors = load_vectors(name)
    if name in WITH_HMAC + WITH_KEY + WITH_JWT:
        assert origin, "a signature needs an external vector"
    for vector in vectors:
        assert decide(from_vector(name, vector)) == Admit()
    assert decide(SENDERS[name]) == Admit()


@pytest.mark.parametrize("name", SIGNED)
def test_another_secret_is_refused(name: str) -> None:
    sent = SENDERS[name]
    setting = f"s={name}:{other_secret(sent)}"
    assert "does not match" in refusal(sent, setting=setting)
    both = f"{setting},s={name}:{sent.secret}"
    assert decide(sent, setting=both) == Admit()


@pytest.mark.parametrize("name", COVERED)
def test_an_altered_body_is_refused(name: str) -> None:
    sent = SENDERS[name]
    if name == "mailgun":  # signs no more than time and token
        changed = sent.body.replace(b'"token":"c', b'"token":"d')
    elif name == "adyen":  # signs eight fields
        changed = sent.body.replace(b'"value":1130', b'"value":1131')
    elif ROWS[name].body == "form":
        changed = sent.body + b"&more=1"
    else:
        changed = sent.body + b" "
    assert changed != sent.body
    assert "does not match" in refusal(replace(sent, body=changed))


def test_an_item_that_is_not_signed_is_refused() -> None:
    sent = SENDERS["adyen"]
    document = json.loads(sent.body)
    document["notificationItems"].append({"NotificationRequestItem": {"eventCode": "REFUND"}})
    message = refusal(replace(sent, body=json.dumps(document).encode()))
    assert message == "body:/notificationItems/1: is there, and the signature does not cover it"


@pytest.mark.parametrize("name", ["twilio", "mandrill"])
def test_the_signature_of_an_address_alone_admits_no_body(name: str) -> None:
    sent = SENDERS[name]
    form = ROWS[name].form
    assert form is not None
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    bare = replace(sent, body=b"", headers=kind)
    headers = {**kind, **form.make(sent.secret).sign(bare.request, 0, "m")}
    assert decide(replace(bare, headers=headers)) == Admit()
    for body in (b"--x--", b'{"forged":1}', b"a=" + b"1" * 5_000_000):
        forged = replace(sent, body=body, headers=headers)
        assert refusal(forged) == "form: the body is not a form that can be read"
    fields = b"&".join(b"a%d=1" % n for n in range(1001))
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    forged = replace(sent, body=fields, headers={**headers, **kind})
    assert refusal(forged) == "form: the body is not a form that can be read"


@pytest.mark.parametrize("name", WITH_HMAC + WITH_KEY)
def test_an_old_request_is_refused(name: str) -> None:
    form = ROWS[name].form
    assert isinstance(form, HmacForm | PublicKeyForm)
    tolerance_s = form.content.columns.tolerance_s
    sent = SENDERS[name]
    assert bool(sent.now_s) == bool(form.content.columns.timestamp)
    for offset_s in (-tolerance_s - 1, tolerance_s + 1):
        if sent.now_s:
            assert "signed more than" in refusal(sent, offset_s)
        else:
            assert decide(sent, offset_s) == Admit()
    assert decide(sent, tolerance_s - 1) == Admit()


@pytest.mark.parametrize("name", WITH_JWT)
def test_an_old_or_foreign_token_is_refused(name: str) -> None:
    sent = SENDERS[name]
    form = ROWS[name].form
    assert isinstance(form, JwtForm)
    (header,) = (n for n in sent.headers if n.lower() == form.read.name.lower())
    start = sent.headers[header][: len(form.columns.prefix)]
    text = sent.headers[header][len(start) :]
    head, claims, signature = text.split(".")
    for offset_s in (-CLOCK_SKEW_S - 1, 24 * 3600):
        assert "has expired or is not valid yet" in refusal(sent, offset_s)
    for other in (
        f"{head}.{claims}",
        f"{head}.{claims}.",
        f"eyJhbGciOiJub25lIn0.{claims}.",
        f"eyJhbGciOiJub25lIn0.{claims}.{signature}",
        f"{head}.{claims}.{signature[:-4]}AAAA",
        f"{head}.{claims[:-2]}AA.{signature}",
        f"{head}.{claims}.{signature}=",
        "..",
        "",
    ):
        refusal(replace(sent, headers={**sent.headers, header: start + other}))
    if form.columns.keys:
        assert "not published" in refusal(replace(sent, keys={}))


@pytest.mark.parametrize("name", SIGNED)
def test_a_missing_repeated_or_long_value_is_refused(name: str) -> None:
    sent = SENDERS[name]
    form = ROWS[name].form
    assert isinstance(form, HmacForm | PublicKeyForm | TokenForm | JwtForm)
    if isinstance(form, TokenForm | JwtForm):
        read = [form.read]
    else:
        content = form.content
        read = [content.read, *content.signed.values, *filter(None, [content.timestamp])]
    for value in read:
        if value.place == "header":
            headers = {k: v for k, v in sent.headers.items() if k.lower() != value.name.lower()}
            assert len(headers) == len(sent.headers) - 1
            assert refusal(replace(sent, headers=headers)).startswith(f"{value}: missing")
            twice = refusal(replace(sent, repeated=value.name))
            assert twice == f"{value}: occurs 2 times"
            long = {**headers, value.name: "a" * 100_000}
            assert refusal(replace(sent, headers=long)).startswith(f"{value}: longer than")
        elif value.place == "query":
            assert refusal(replace(sent, query="")).startswith(f"{value}: missing")
            assert "occurs 2" in refusal(replace(sent, query=f"{sent.query}&{sent.query}"))
            long_query = urlencode({value.name: "a" * 100_000})
            assert "longer than" in refusal(replace(sent, query=long_query))
        elif not value.optional:
            assert value.place == "body"
            assert "body:" in refusal(replace(sent, body=b"{}"))
            assert "missing" in refusal(replace(sent, body=b"{}"))


def greet(name: str) -> tuple[Sent, dict[str, Any]]:
    """The handshake of a preset as its provider sends it, and what it expects."""
    expected = HANDSHAKES[name]
    sent = SENDERS[name]
    _, vectors = load_vectors(name)
    challenge = vectors[0].get("challenge", {}) if vectors else {}
    body = challenge.get("body", expected.get("body", ""))
    if not isinstance(body, str):
        body = json.dumps(body)
    headers = {**challenge.get("headers", {}), **expected.get("headers", {})}
    response = challenge.get("response", expected["response"])
    sent = Sent(
        name,
        sent.secret,
        headers,
        body.encode(),
        expected.get("query", ""),
        sent.now_s,
        expected.get("method", "POST"),
    )
    if expected.get("signed"):
        form = ROWS[name].form
        assert form is not None
        signed = form.make(sent.secret).sign(sent.request, sent.now_s, "m")
        sent = replace(sent, headers={**headers, **signed})
    return sent, {**expected, "response": response}


def test_every_handshake_of_the_table_is_tested() -> None:
    assert set(HANDSHAKES) == {name for name, p in PRESETS.items() if p.row.handshakes}


@pytest.mark.parametrize("name", HANDSHAKES)
def test_a_handshake_is_answered(name: str) -> None:
    sent, expected = greet(name)
    answer = decide(sent)
    assert isinstance(answer, Answer), answer
    headers = dict(answer.headers)
    assert (answer.status, answer.body.decode()) == (expected["status"], expected["response"])
    assert headers["X-Content-Type-Options"] == "nosniff"
    if "type" in expected:
        assert headers["Content-Type"] == expected["type"]
    assert expected.get("answered", {}).items() <= headers.items()
    assert answer.reveal == expected.get("reveal", "")


@pytest.mark.parametrize("name", [n for n, h in HANDSHAKES.items() if h.get("signed")])
def test_a_signed_handshake_needs_the_signature(name: str) -> None:
    sent, _ = greet(name)
    refusal(replace(sent, headers=HANDSHAKES[name].get("headers", {})))


@pytest.mark.parametrize("name", HANDSHAKES)
def test_a_webhook_is_no_handshake(name: str) -> None:
    assert decide(SENDERS[name]) == Admit()


def test_the_table_has_no_blanks(capsys: pytest.CaptureFixture[str]) -> None:
    rows = []
    for name, preset in PRESETS.items():
        row, page = preset.row, preset.page
        kind = "none" if row.form is None else type(row.form).__name__.removesuffix("Form")
        origin = load_vectors(name)[0] or page.vector
        handshake = f"tested: {HANDSHAKES[name]['origin']}" if row.handshakes else "none"
        rule = row.rule.text or "default"
        event, id_ = (
            source.partition(":")[0] or "-" for source in (page.event_source, page.id_source)
        )
        rows.append((name, kind, origin, handshake, row.body, rule, event, id_, page.facts))
        if kind in ("Hmac", "PublicKey", "Jwt"):
            assert load_vectors(name)[1], f"{name} has no external vector"
    for row_ in rows:
        assert all(row_), f"{row_[0]} has a blank"
    with capsys.disabled():
        print("\npreset | signature | vector | handshake | body | identity | event | id | facts")
        for row_ in rows:
            print(" | ".join(row_))


def test_the_pages_are_in_step_with_the_table() -> None:
    assert PAGE.read_text() == write_document(PRESETS), "make providers"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[p]\nbody = "xml"\npage.title = "P"\npage.facts = "f"', r"\[p\] body: must be"),
        ('[p]\nbody = "any"', r"\[p\] page: missing"),
        ('[p]\npage.title = "P"', r"\[p\] page.facts: missing"),
        (
            '[p]\nevent = ["body:/type"]\npage.title = "P"\npage.facts = "f"',
            r"\[p\] page.event_source: missing",
        ),
        (
            '[p]\nid = ["body:/id"]\npage.title = "P"\npage.facts = "f"',
            r"\[p\] page.id_source: missing",
        ),
        (
            '[p]\npage.title = "P"\npage.facts = "f"\npage.id_source = "library: l"',
            r"\[p\] page.id_source: there is no column id",
        ),
        (
            '[p]\nid = ["body:/id"]\npage.title = "P"\npage.facts = "f"\npage.id_source = "memory"',
            r"\[p\] page.id_source: must begin with one of documentation, library, code",
        ),
    ],
)
def test_a_wrong_table_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_presets(text)
