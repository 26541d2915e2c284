"""``webhook-sync sources`` and what ``send`` refuses before it sends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from portable_core.cli.captured_request import parse_request
from portable_core.cli.main import main
from portable_core.errors import BadRequest
from portable_core.sources.presets import PRESETS
from portable_core.sources.schemes import sign
from tests.support.nodes.oidc_issuer import (
    ACCOUNT,
    AUDIENCE,
    Answer,
    make_claims,
    make_jwk,
    make_token,
    serve,
)

SECRET = "hunter2hunter2"
BODY = b'{"a":1}'
ENV = {"SOURCES": f"hub=github:{SECRET},pay=stripe:{SECRET},chat=slack:{SECRET},mail=mailgun:x"}


def run(*arguments: str, stdin: bytes = b"", env: dict[str, str] | None = None) -> Result:
    clean = {"SOURCES": "", "SOURCES_FILE": "", "PUBLIC_URL": "", **(env or ENV)}
    return CliRunner().invoke(main, list(arguments), input=stdin, env=clean)


def capture(headers: dict[str, str], body: bytes = BODY, target: str = "/webhook/hub") -> bytes:
    lines = [f"POST {target} HTTP/1.1", "Host: x", *(f"{n}: {v}" for n, v in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def check(source: str, request: bytes, *more: str) -> tuple[int, dict[str, str]]:
    result = run("sources", "check", source, "-", "--json", *more, stdin=request)
    assert SECRET not in result.output
    return result.exit_code, json.loads(result.stdout)


def test_the_list_shows_sources_without_secrets() -> None:
    result = run("sources", "list", "--json")
    rows = {row["source"]: row for row in map(json.loads, result.stdout.splitlines())}
    assert set(rows) == {"hub", "pay", "chat", "mail"}
    assert rows["hub"]["signature"].startswith("X-Hub-Signature-256: sha256=<hex>")
    assert rows["pay"]["identity"] == '{"without":["/pending_webhooks"]}'
    assert rows["chat"]["handshake"].startswith("signed POST")
    assert SECRET not in result.output
    assert "Every other source is open." in run("sources", "list").stdout
    assert "held to *" in run("sources", "list", env={"SOURCES": "*=closed"}).stdout


def test_the_presets_are_listed_and_shown() -> None:
    listed = run("sources", "list", "--presets", "--json").stdout.splitlines()
    assert len(listed) == len(PRESETS)
    for name, preset in PRESETS.items():
        shown = run("sources", "show", name)
        assert shown.exit_code == 0
        assert preset.page.facts in shown.stdout
    unknown = run("sources", "show", "nope")
    assert unknown.exit_code == 1
    assert "sources list --presets" in unknown.output


def test_a_captured_request_is_explained() -> None:
    right = sign(f"github:{SECRET}", BODY)
    code, report = check("hub", capture(right))
    assert (code, report["decision"]) == (0, "admitted")
    assert len(report["key"]) == 32
    code, report = check("hub", capture(right, BODY + b" "))
    assert (code, report["decision"]) == (1, "refused")
    assert "does not match" in report["reason"]
    code, report = check("hub", capture({}))
    assert report["reason"].startswith("X-Hub-Signature-256: missing")
    code, report = check("hub", capture(sign(f"github:{SECRET}", b"[1]"), b"[1]"))
    assert (code, report["decision"]) == (1, "refused")
    assert "not an object" in report["reason"]


def test_a_captured_token_is_checked_with_published_keys(tmp_path: Path) -> None:
    document = json.dumps({"keys": [make_jwk("k1")]}).encode()
    with serve(lambda request: Answer(document)) as url:
        file = tmp_path / "sources.toml"
        file.write_text(
            f'[push]\nsecrets = ["env:EXPECTED"]\nsignature.jwt = {{ prefix = "Bearer ", '
            f'keys = "{url}/", expected = ["email", "aud"] }}\n'
        )
        env = {"SOURCES_FILE": str(file), "EXPECTED": f"{ACCOUNT} {AUDIENCE}"}
        for key, code in (("k1", 0), ("k2", 1)):
            token = make_token(make_claims(), key=key)
            request = capture({"Authorization": f"Bearer {token}"}, target="/webhook/push")
            result = run("sources", "check", "push", "-", "--json", stdin=request, env=env)
            assert result.exit_code == code, result.output
    assert "not published" in result.stdout


def test_a_captured_request_is_checked_at_its_time() -> None:
    request = capture(sign(f"stripe:{SECRET}", BODY, 1_767_225_600), target="/webhook/pay")
    code, report = check("pay", request)
    assert code == 1
    assert "signed more than 300 s" in report["reason"]
    code, report = check("pay", request, "--at", "2026-01-01T00:00")
    assert code == 0


def test_a_captured_handshake_is_answered() -> None:
    body = b'{"type":"url_verification","challenge":"3eZb"}'
    signed = sign(f"slack:{SECRET}", body, 1_767_225_600)
    code, report = check("chat", capture(signed, body), "--at", "1767225600000")
    assert (code, report) == (0, {"decision": "handshake", "status": "200", "body": "3eZb"})


def test_a_source_or_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    result = run("sources", "check", "other", "-", stdin=capture({}))
    assert result.exit_code == 1
    assert "SOURCES: has no source 'other' (it has chat, hub, mail, pay)" in result.output
    result = run("sources", "check", "hub", str(tmp_path / "none.http"))
    assert "cannot be read: No such file" in result.output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "the first line must be like POST"),
        (b"{}", "the first line must be like POST"),
        (b"POST /webhook/hub HTTP/1.1\nbroken\n\n{}", "line 2 must be like Name: value"),
        (b"POST /webhook/hub HTTP/1.1\nContent-Length: 3\n\n{}", "has 2 bytes, but Content-Length"),
        (b"POST /webhook/hub HTTP/1.1\nContent-Length: 1\n\n{}", "has 2 bytes, but Content-Length"),
    ],
)
def test_what_is_no_request_is_refused(text: bytes, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        parse_request(text)


def test_a_line_break_of_an_editor_does_not_count() -> None:
    head = b"POST /webhook/hub?a=1 HTTP/1.1\nX-A: 1\nx-a: 2\nContent-Length: 2\n\n"
    captured = parse_request(head + b"{}\n")
    assert captured.body == b"{}"
    assert (captured.path, captured.query) == ("/webhook/hub", "a=1")
    assert captured.read_headers("X-a") == ["1", "2"]


def test_what_cannot_be_signed_is_not_sent() -> None:
    result = run("send", "mail")
    assert result.exit_code == 1
    assert "'mail' signs in body:/signature/signature, not in a header" in result.output
    result = run("send", "hub", "--node", "http://127.0.0.1:1")
    assert result.exit_code == 3
    assert SECRET not in result.output
