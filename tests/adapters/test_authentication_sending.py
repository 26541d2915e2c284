"""A node's own ID token: from a service account's key, or from Google Cloud's metadata server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives import serialization

from portable_core.adapters.authentication.tokens import Credentials, build_credentials, build_guard
from portable_core.errors import SlaveError
from portable_core.settings import Settings
from tests.support.nodes.oidc_issuer import (
    ACCOUNT,
    AUDIENCE,
    Answer,
    Issuer,
    Request,
    make_claims,
    make_key,
    make_token,
    serve,
)

ENV = {"SYNC_AUTH": "oidc", "OIDC_AUDIENCE": AUDIENCE, "OIDC_ACCOUNTS": ACCOUNT}


class TokenEndpoint:
    """Google's token endpoint: an assertion of a service account in, an ID token out."""

    def __init__(self) -> None:
        self.audiences: list[object] = []
        self.lifetime_s = 3600
        self.failing = False

    def __call__(self, request: Request) -> Answer:
        assert request.method == "POST"
        assertion = parse_qs(request.body.decode())["assertion"][0]
        claims = json.loads(decode_part(assertion.split(".")[1]))
        assert claims["iss"] == ACCOUNT
        self.audiences.append(claims["target_audience"])
        if self.failing:
            return Answer(b'{"error":"invalid_grant","error_description":"no such account"}', 400)
        expires = int(time.time()) + self.lifetime_s
        token = make_token(make_claims(aud=claims["target_audience"], exp=expires))
        return Answer(json.dumps({"id_token": token}).encode())


def decode_part(part: str) -> bytes:
    return urlsafe_b64decode(part + "=" * (-len(part) % 4))


Setup = tuple[TokenEndpoint, Credentials]


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Setup]:
    endpoint = TokenEndpoint()
    pem = make_key("account").private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with serve(endpoint) as url:
        info = {
            "type": "service_account",
            "client_email": ACCOUNT,
            "private_key_id": "1",
            "private_key": pem.decode(),
            "token_uri": f"{url}/token",
        }
        (tmp_path / "key.json").write_text(json.dumps(info))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
        yield endpoint, build_credentials(Settings.from_env("master", ENV), "alpha", AUDIENCE)


def test_a_slave_admits_the_token_that_its_master_fetched(setup: Setup) -> None:
    endpoint, credentials = setup
    assert endpoint.audiences == []  # nothing is fetched before it is needed
    with serve(Issuer()) as url:
        guard = build_guard(Settings.from_env("slave", {**ENV, "OIDC_CERTS_URL": url}))
        assert guard.check(credentials()["Authorization"]) == ACCOUNT


def test_a_token_is_kept_until_shortly_before_it_expires(setup: Setup) -> None:
    endpoint, credentials = setup
    assert len({credentials()["Authorization"] for _ in range(5)}) == 1
    assert endpoint.audiences == [AUDIENCE]


def test_a_token_about_to_expire_is_replaced_if_that_is_possible(setup: Setup) -> None:
    endpoint, credentials = setup
    endpoint.lifetime_s = 60
    credentials()
    endpoint.lifetime_s = 90
    second = credentials()
    assert len(endpoint.audiences) == 2
    endpoint.failing = True
    assert credentials() == second
    assert len(endpoint.audiences) == 3


def test_no_token_to_be_had(setup: Setup) -> None:
    endpoint, credentials = setup
    endpoint.failing = True
    with pytest.raises(SlaveError, match=rf"alpha: no ID token for {AUDIENCE}: .*invalid_grant"):
        credentials()
    endpoint.failing = False
    endpoint.lifetime_s = -1
    credentials()
    endpoint.failing = True
    with pytest.raises(SlaveError):
        credentials()


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"type":"service_account"}'])
def test_credentials_that_are_none(
    content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "key.json"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    monkeypatch.setenv("GCE_METADATA_IP", "127.0.0.1:1")  # where nobody listens
    credentials = build_credentials(Settings.from_env("master", ENV), "alpha", AUDIENCE)
    with pytest.raises(SlaveError, match="alpha: no ID token"):
        credentials()


PROGRAM = """
import sys
from portable_core.adapters.authentication.tokens import build_credentials
from portable_core.settings import Settings
settings = Settings.from_env("master", {
    "SYNC_AUTH": "oidc", "OIDC_AUDIENCE": sys.argv[1], "OIDC_ACCOUNTS": "x@example.com"
})
credentials = build_credentials(settings, "alpha", sys.argv[1])
print(credentials()["Authorization"])
print(credentials()["Authorization"])
"""


def answer_as_metadata_server(asked: list[str]) -> Callable[[Request], Answer]:
    """Compute Engine's and Cloud Run's metadata server, as far as ID tokens are concerned."""
    google = {"Metadata-Flavor": "Google"}
    account = "/computeMetadata/v1/instance/service-accounts/default/"

    def answer(request: Request) -> Answer:
        assert request.headers["metadata-flavor"] == "Google"
        path, query = urlsplit(request.path).path, parse_qs(urlsplit(request.path).query)
        asked.append(path)
        if path == "/":
            return Answer(headers=google)
        if path == account:
            document = {"email": ACCOUNT, "aliases": ["default"], "scopes": []}
            headers = {**google, "Content-Type": "application/json"}
            return Answer(json.dumps(document).encode(), headers=headers)
        if path == f"{account}identity":
            token = make_token(make_claims(aud=query["audience"][0]))
            return Answer(token.encode(), headers={**google, "Content-Type": "text/html"})
        return Answer(status=404)

    return answer


def test_the_metadata_servers_token_is_admitted() -> None:
    # In a process of its own: google-auth reads the server's address once, when it is imported.
    asked: list[str] = []
    with serve(answer_as_metadata_server(asked)) as metadata, serve(Issuer()) as certs:
        host = metadata.removeprefix("http://")
        env = {k: v for k, v in os.environ.items() if k != "GOOGLE_APPLICATION_CREDENTIALS"}
        env |= {"GCE_METADATA_HOST": host, "GCE_METADATA_IP": host, "NO_PROXY": "127.0.0.1"}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, AUDIENCE], capture_output=True, text=True, env=env
        )
        assert done.returncode == 0, done.stderr
        first, second = done.stdout.splitlines()
        guard = build_guard(Settings.from_env("slave", {**ENV, "OIDC_CERTS_URL": certs}))
        assert guard.check(first) == ACCOUNT
    assert first == second
    assert [path.rpartition("/")[2] for path in asked].count("identity") == 1
