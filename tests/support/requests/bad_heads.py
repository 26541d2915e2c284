"""Requests that are wrong before their body begins: the head, the path, the credentials."""

from __future__ import annotations

from tests.support.requests.bad_requests import MEANT, Case, ask, framed, known, post

#: Requests that are not right before their body begins (RFC 9112, sections 2 to 5).
HEADS = {
    "no HTTP": Case(b"hello\r\n\r\n"),
    "random bytes": Case(bytes(range(1, 256)) + b"\r\n\r\n", end=True),
    "TLS": Case(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(505), end=True),
    "only a method": Case(b"POST\r\n\r\n"),
    "no version": Case(b"POST /webhook\r\n\r\n"),
    "HTTP/9.9": Case(ask("POST", "/webhook", body=b"{}", version="HTTP/9.9")),
    "cut in the head": Case(b"POST /webhook HTTP/1.1\r\nHost: node\r\nConte", end=True),
    "header without a colon": Case(post(b'{"bad":1}', "Content-Type application/json")),
    "header with a space in its name": Case(post(b'{"bad":1}', "Content Type: application/json")),
    "space before the colon": Case(framed("Content-Length : 9")),
    "folded header": Case(post(b'{"bad":1}', "X-Bad: 1\r\n 2")),
    "null byte in a header": Case(post(b'{"bad":1}', "X-Bad: 1\0")),
    # section 2.2: a line feed alone may end a line
    "line feed between headers": Case(
        framed("X-Bad: 1\nContent-Length: 11", body=MEANT),
    ),
    "header of 1 MB": Case(post(b'{"bad":1}', "X-Bad: " + "x" * 2**20)),
    "1000 headers": Case(post(b'{"bad":1}', *(f"X-Bad-{n}: x" for n in range(1000)))),
    "method in lower case": Case(ask("post", "/webhook", body=b'{"bad":1}')),
    "method unknown": Case(ask("BREW", "/webhook", body=b'{"bad":1}')),
    **{
        f"{method} {path}": Case(ask(method, path, body=b'{"bad":1}'), 405, "not allowed")
        for method in ("GET", "PUT", "PATCH", "DELETE", "TRACE")
        for path in ("/webhook", "/webhook/source")
    },
    # names that some servers take for settings of their own
    **{
        f"{name} on {path}": Case(
            ask("GET", path, f"{name}: /elsewhere", f"{name.lower()}: /webhook"), status, says
        )
        for name in ("SCRIPT_NAME", "SCRIPT-NAME", "PATH_INFO", "X-Forwarded-Prefix")
        for path, status, says in (
            ("/status", 401, "credentials|token"),
            ("/elsewhere/status", 404, "was not found"),
            ("/webhook", 405, "not allowed"),
        )
    },
    "POST /health": Case(post(b'{"bad":1}', path="/health"), 405, "not allowed"),
    "POST /status": Case(known("POST", "/status"), 405, "not allowed"),
}

#: Paths that are none, or that only look like one (RFC 3986, sections 2.1 and 3.3).
_NO_SOURCE = "a source is one short name"
PATHS = {
    **{
        path: Case(post(b'{"bad":1}', path=path), 404, _NO_SOURCE)
        for path in (
            "/webhook/a/b",
            "/webhook//a",
            "/webhook/.",
            "/webhook/..",
            "/webhook/-",
            "/webhook/%2e%2e",
            "/webhook/%2E",
            "/webhook/a%2Fb",
            "/webhook/..%2Fstatus",
            "/webhook/a%5Cb",
            "/webhook/%252e",
            "/webhook/a%20b",
            "/webhook/%00",
            "/webhook/%7F",
            "/webhook/%ff",
            "/webhook/%c0%ae",
            "/webhook/%E2%80%AEbad",
            "/webhook/" + "x" * 201,
            "/webhook/../status",
            "/webhook/%2e%2e/%2e%2e/etc/passwd",
        )
    },
    **{
        path: Case(post(b'{"bad":1}', path=path), 404, "was not found")
        for path in (
            "/./webhook",
            "/status/../webhook",
            "/webhookx",
            "/webhook;bad",
            "/WEBHOOK",
            "/webhook%00",
            "/etc/passwd",
            "/.env",
        )
    },
    **{
        path: Case(post(b'{"bad":1}', path=path), 404, "begins with one slash")
        for path in ("//", "//webhook", "///webhook/a", "/%2fwebhook", "//sync")
    },
    # functions-framework's own route takes no line break
    "line break": Case(
        post(b'{"bad":1}', path="/webhook/a%0D%0AX-Bad:1"), 404, _NO_SOURCE, refused_by="function"
    ),
    "very long": Case(post(b'{"bad":1}', path="/webhook/" + "x" * 60_000), 404, _NO_SOURCE),
    "of 1 MB": Case(post(b'{"bad":1}', path="/webhook/" + "x" * 2**20)),
    "null byte": Case(post(b'{"bad":1}', path="/webhook/\0")),
    "space": Case(post(b'{"bad":1}', path="/web hook")),
    "not ASCII": Case(post(b'{"bad":1}', path="/webhook/\xff")),
    "no slash": Case(post(b'{"bad":1}', path="webhook")),
    "asterisk": Case(post(b'{"bad":1}', path="*")),
    "address of a host": Case(ask("CONNECT", "elsewhere:443")),
}

#: For nodes whose source ``signed`` needs a signature, and whose other endpoints need a token.
SIGNED = {
    "no signature": Case(post(b'{"bad":1}', path="/webhook/signed"), 401, "X-Hub-Signature-256"),
    "two signatures": Case(
        post(
            b'{"bad":1}',
            "X-Hub-Signature-256: sha256=" + "0" * 64,
            "X-Hub-Signature-256: sha256=" + "1" * 64,
            path="/webhook/signed",
        ),
        401,
        "X-Hub-Signature-256",
    ),
    **{
        f"signature {value[:20]!r}": Case(
            post(b'{"bad":1}', f"X-Hub-Signature-256: {value}", path="/webhook/signed"),
            401,
            "X-Hub-Signature-256",
        )
        for value in ("", "sha256=", "sha1=" + "0" * 40, "\xe9" * 64, "x" * 8000, "sha256=\xb2" * 9)
    },
    **{
        f"Authorization {value[:20]!r}": Case(
            ask("GET", "/status", f"Authorization: {value}"), 401, "credentials|token"
        )
        for value in (
            "",
            "Bearer",
            "Basic eDp4",
            "Bearer \xe9",
            "Bearer " + "x" * 8000,
            "bearer a b",
        )
    },
    "Authorization twice": Case(
        known("GET", "/status", "Authorization: Bearer wrong"), 401, "credentials|token"
    ),
}
