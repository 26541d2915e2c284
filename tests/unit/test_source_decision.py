"""What becomes of a request to a source: the pure decision, and the grammar of its columns."""

from __future__ import annotations

import gzip
import hmac
import json
from pathlib import Path

import pytest

from portable_core.errors import SettingsError
from portable_core.settings import Settings
from portable_core.sources.decision import Admit, Refuse
from portable_core.sources.handshakes import Answer
from portable_core.sources.request import FORM, MAX_PARSED_BYTES, SourceRequest
from portable_core.sources.signatures import Sources

NOW_MS = 1_767_225_600_000
HEAD = 'signature.hmac = { read = "header:X-Sig" }\n'


def configure(tmp_path: Path, text: str, **env: str) -> Settings:
    path = tmp_path / "sources.toml"
    path.write_text(f"[s]\n{text}")
    return Settings.from_env("slave", {"SYNC_AUTH": "none", "SOURCES_FILE": str(path), **env})


def read(tmp_path: Path, text: str) -> Sources:
    return configure(tmp_path, f'secrets = ["env:KEY"]\n{text}', KEY="key").sources


def request(
    body: bytes = b"", method: str = "POST", query: str = "", **headers: str
) -> SourceRequest:
    named = {name.replace("_", "-").lower(): value for name, value in headers.items()}

    def values(name: str) -> list[str]:
        return [named[name.lower()]] if name.lower() in named else []

    return SourceRequest(values, body, method, query)


def mac(body: bytes, key: bytes = b"key") -> str:
    return hmac.new(key, body, "sha256").hexdigest()


def test_a_signed_handshake_is_answered_only_with_a_right_signature(tmp_path: Path) -> None:
    sources = read(
        tmp_path,
        HEAD + "[[s.handshake]]\nsigned = true\n"
        'when = { "body:/type" = "hello" }\nbody = "{body:/challenge}"',
    )
    body = b'{"type":"hello","challenge":"abc"}'
    answer = sources.decide("s", request(body, X_Sig=mac(body)), NOW_MS)
    assert isinstance(answer, Answer)
    assert (answer.status, answer.body) == (200, b"abc")
    assert ("X-Content-Type-Options", "nosniff") in answer.headers
    assert ("Content-Type", "text/plain; charset=utf-8") in answer.headers
    refused = sources.decide("s", request(body, X_Sig=mac(body, b"other")), NOW_MS)
    assert isinstance(refused, Refuse)
    other = b'{"type":"event","challenge":"abc"}'
    assert sources.decide("s", request(other, X_Sig=mac(other)), NOW_MS) == Admit()
    assert sources.decide("t", request(body), NOW_MS) == Admit()  # another source has none


def test_a_value_in_a_response_is_escaped_and_bounded(tmp_path: Path) -> None:
    row = '[[s.handshake]]\nmethods = ["GET"]\nwhen = { "query:c" = "*" }\n'
    for kind, body, expected in (
        ("text/plain", "{query:c}", b'<a>"'),
        ("application/json", '{{"c":"{query:c}"}', b'{"c":"<a>\\""}'),
        ("application/xml", "<c>{query:c}</c>", b"<c>&lt;a&gt;&quot;</c>"),
    ):
        sources = read(tmp_path, f"{HEAD}{row}type = '{kind}'\nbody = '''{body}'''")
        answer = sources.answer_handshake("s", request(method="GET", query="c=%3Ca%3E%22"))
        assert answer is not None
        assert answer.body == expected
        for wrong in ("c=" + "a" * 1025, "c=a%0d%0ab", "c=a&c=b"):
            refused = sources.decide("s", request(method="GET", query=wrong), NOW_MS)
            assert isinstance(refused, Refuse)
            assert refused.error.status == 400
        assert sources.answer_handshake("s", request(method="GET", query="d=1")) is None
        assert sources.answer_handshake("s", request(method="HEAD", query="c=1")) is None


def test_no_handshake_makes_the_signature_of_a_webhook(tmp_path: Path) -> None:
    row = (
        '[[s.handshake]]\nmethods = ["GET"]\nwhen = { "query:t" = "*" }\n'
        'hmac = { of = "query:t" }\nbody = "{hmac}"'
    )
    sources = read(tmp_path, HEAD + row)
    answer = sources.answer_handshake("s", request(method="GET", query="t=abc.-_~"))
    assert answer is not None
    assert answer.body == mac(b"abc.-_~").encode()
    for forged in ("%7B%7D", "v0:1:x", "a b", "%22a%22", "[1]"):
        refused = sources.decide("s", request(method="GET", query=f"t={forged}"), NOW_MS)
        assert isinstance(refused, Refuse)
    for columns in (
        HEAD + 'body = "json"\n',  # the token 1 is a JSON value
        HEAD.replace(" }", ', signed = "{header:X-Id}" }'),
        'signature.token = { read = "header:X-Sig" }\n',
    ):
        with pytest.raises(SettingsError, match="could obtain the signature"):
            read(tmp_path, columns + row)


def test_values_in_compressed_bodies_are_read_within_a_limit(tmp_path: Path) -> None:
    token = read(
        tmp_path,
        'signature.token = { read = "body:/key" }\ncompressed = true\n'
        '[[s.handshake]]\nwhen = { "body:/challenge" = "*" }\nbody = "{body:/challenge}"',
    )

    def decide(body: bytes, coding: str = "gzip", sources: Sources = token) -> object:
        headers = {"Content_Encoding": coding, "Content_Type": FORM, "X_Sig": signature}
        decision = sources.decide("s", request(body, **headers), NOW_MS)
        return str(decision.error) if isinstance(decision, Refuse) else decision

    signature = mac(b"a1b2")
    missing = "body:/key: missing; webhooks of this source must be signed"
    plain = json.dumps({"key": "key", "text": "a" * (MAX_PARSED_BYTES - 30)}).encode()
    assert len(plain) <= MAX_PARSED_BYTES
    form = read(
        tmp_path,
        'body = "form"\ncompressed = true\n'
        'signature.hmac = { read = "header:X-Sig", signed = "{form}" }',
    )
    assert decide(gzip.compress(b"b=2&a=1"), sources=form) == Admit()
    assert "does not match" in str(decide(gzip.compress(b"b=2&a=2"), sources=form))
    assert str(decide(gzip.compress(plain))).startswith("the body is a form")  # it was read
    assert decide(gzip.compress(plain + b" " * 31)) == missing
    assert decide(gzip.compress(bytes(50 * MAX_PARSED_BYTES))) == missing
    assert decide(gzip.compress(plain)[:-1]) == missing
    assert decide(gzip.compress(b'{"key":"key"}'), coding="br") == missing
    assert "does not match" in str(decide(gzip.compress(b'{"key":"other"}')))
    answer = decide(gzip.compress(b'\xef\xbb\xbf{"challenge":"abc"}'))
    assert isinstance(answer, Answer)
    assert answer.body == b"abc"


def test_a_secret_that_the_provider_chooses_is_revealed(tmp_path: Path) -> None:
    sources = read(
        tmp_path,
        HEAD + '[[s.handshake]]\nwhen = { "header:X-Hook-Secret" = "*" }\n'
        'headers = { X-Hook-Secret = "{header:X-Hook-Secret}" }\nreveal = "header:X-Hook-Secret"',
    )
    answer = sources.decide("s", request(b"{}", X_Hook_Secret="b8d0"), NOW_MS)
    assert isinstance(answer, Answer)
    assert ("X-Hook-Secret", "b8d0") in answer.headers
    assert answer.reveal == "b8d0"


def test_secrets_come_from_variables_and_files(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("from-file\r\n")
    text = f'secrets = ["env:HOOK", "file:{file}"]\n{HEAD}'
    settings = configure(tmp_path, text, HOOK="from-env\n", SOURCES="s=github:third")
    assert settings.sources.secrets == ("third", "from-env", "from-file")
    assert {"from-env", "from-file"} <= settings.secrets()  # so that no log shows them
    for key in (b"from-env", b"from-file"):
        signed = request(b"{}", X_Sig=mac(b"{}", key))
        assert settings.sources.decide("s", signed, NOW_MS) == Admit()
    wrong = request(b"{}", X_Sig=mac(b"{}", b"from-file\n"))
    assert isinstance(settings.sources.decide("s", wrong, NOW_MS), Refuse)


@pytest.mark.parametrize(
    ("secrets", "message"),
    [
        ('["hunter2"]', r"\[s\] secrets: number 1 must be env:NAME or file:PATH"),
        ('["env:NOT_THERE"]', r"\[s\] secrets: number 1 names the variable 'NOT_THERE'"),
        ('["env:KEY", "file:/nowhere/x"]', r"\[s\] secrets: number 2 names a file that cannot"),
    ],
)
def test_a_secret_that_is_not_there_is_refused(tmp_path: Path, secrets: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as refused:
        configure(tmp_path, f"secrets = {secrets}\n{HEAD}", KEY="k")
    assert "hunter2" not in str(refused.value)


def test_a_signature_without_a_secret_is_a_warning(tmp_path: Path) -> None:
    (warning,) = configure(tmp_path, HEAD).warnings
    assert warning.startswith("SOURCES_FILE: [s] has a signature and no secret")
    assert configure(tmp_path, HEAD, SOURCES="s=github:x").warnings == ()


def test_a_signed_address_needs_the_public_one(tmp_path: Path) -> None:
    text = 'secrets = ["env:KEY"]\nsignature.hmac = { read = "header:X", signed = "{url}{body}" }'
    with pytest.raises(SettingsError, match=r"^PUBLIC_URL: missing\. .* 's' "):
        configure(tmp_path, text, KEY="k")
    configure(tmp_path, text, KEY="k", PUBLIC_URL="https://hooks.example.com")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("signature = {}", r"signature: must be one of hmac, token, public_key"),
        ('signature.hmac = { read = "cookie:a" }', r"signature\.hmac\.read: must be header:"),
        ('signature.hmac = { read = "body:a" }', r"signature\.hmac\.read: a JSON Pointer"),
        ('signature.hmac = { read = "header:A", algorithm = "md5" }', r"algorithm: .*md5"),
        ('signature.hmac = { read = "header:A", signed = "x" }', r"hmac\.signed: names nothing"),
        ('signature.hmac = { read = "header:A", signed = "{bod}" }', r"hmac\.signed: {bod} is not"),
        ('signature.hmac = { read = "header:A", signed = "{body" }', r"hmac\.signed: has a brace"),
        ('signature.hmac = { read = "header:A", timestamp = "header:T" }', r"need each other"),
        ('signature.hmac = { read = "header:A", unknown = 1 }', r"unknown"),
        ("handshake = {}", r"handshake: number 1: when: a handshake by POST needs a condition"),
        ('handshake = { methods = ["PUT"] }', r"handshake.*'PUT'"),
        ('handshake = { methods = ["GET"], type = "text/html" }', r"text/html"),
        ('handshake = { methods = ["GET"], body = "{hmac}" }', r"number 1: body: {hmac} is not"),
        ('body = "xml"', r"body: .*xml"),
        ("response = { status = 301 }", r"response\.status: .*301"),
        ('response = { status = 204, body = "x" }', r"response: 204 has no"),
    ],
)
def test_a_wrong_column_is_named(tmp_path: Path, columns: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as refused:
        configure(tmp_path, columns)
    assert str(refused.value).startswith("SOURCES_FILE: ")
    assert "[s] " in str(refused.value)


def test_columns_of_the_file_replace_those_of_a_preset(tmp_path: Path) -> None:
    settings = configure(tmp_path, 'body = "json"', SOURCES="s=stripe:x")
    row = settings.sources.row("s")
    assert row.body == "json"
    assert json.loads(row.rule.text) == {"body": "json", "without": ["/pending_webhooks"]}
