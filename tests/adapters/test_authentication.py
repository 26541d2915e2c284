"""Bearer tokens between nodes: who is let in, what is sent, which settings are refused."""

from __future__ import annotations

import subprocess
import sys

import pytest

from portable_core.adapters.authentication.tokens import Guard, build_credentials, build_guard
from portable_core.errors import SettingsError, Unauthorized
from portable_core.settings import Settings

SLAVES = {"SLAVES": "a=https://a.example,b=https://b.example"}
OIDC = {
    "SYNC_AUTH": "oidc",
    "OIDC_AUDIENCE": "https://a.example",
    "OIDC_ACCOUNTS": "m@p.iam.gserviceaccount.com",
}


def make_guard(**env: str) -> Guard:
    return build_guard(Settings.from_env("master", {**SLAVES, **env}))


def test_every_token_is_admitted_so_that_one_can_be_rotated() -> None:
    guard = make_guard(SYNC_TOKENS="new, old")
    assert guard.warning is None
    for authorization in ("Bearer new", "Bearer old", "bearer new", "BEARER   old"):
        assert guard.check(authorization) == "token"


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer ne",
        "Bearer newer",
        "Bearer NEW",
        "Bearer new,old",
        "Bearer new, Bearer old",
        "Bearer new old",
        "Bearer new ",
        " Bearer new",
        "Bearer\tnew",
        "Bearer new\n",
        "Bearer",
        "Bearer ",
        "",
        "new",
        "Basic bmV3OnNlY3JldA==",
        "Token new",
        "Bearer é",
        "Bearer \0",
        "Bearer \ud83d",
        "Bearer " + "x" * 100_000,
        "Bearer a.b.c",
    ],
)
def test_anything_else_is_not(authorization: str) -> None:
    guard = make_guard(SYNC_TOKENS="new,old")
    for check in (guard.check, lambda value: guard.check_slave(value, "a")):
        with pytest.raises(Unauthorized) as caught:
            check(authorization)
        assert caught.value.challenge.startswith('Bearer realm="webhook-sync"')
        for secret in ("new", "old", "x" * 100):
            assert secret not in str(caught.value)


def test_the_challenge_tells_missing_from_wrong_credentials() -> None:
    guard = make_guard(SYNC_TOKENS="t")
    with pytest.raises(Unauthorized, match="missing") as caught:
        guard.check(None)
    assert caught.value.challenge == 'Bearer realm="webhook-sync"'
    with pytest.raises(Unauthorized, match="not a token of this node") as caught:
        guard.check("Bearer u")
    assert caught.value.challenge == 'Bearer realm="webhook-sync", error="invalid_token"'


def test_without_authentication_everybody_is_let_in_with_a_warning() -> None:
    guard = make_guard(SYNC_AUTH="none")
    assert guard.check(None) == guard.check("Basic x") == guard.check_slave(None, "a") == "anyone"
    assert guard.warning is not None
    assert guard.warning.startswith("SYNC_AUTH=none")


def test_a_slaves_own_token_opens_its_own_door_alone() -> None:
    env = {"SYNC_TOKENS": "shared", "SLAVE_TOKENS": "a=own-a,b=own=b"}
    guard = make_guard(**env)
    assert guard.check_slave("Bearer own-a", "a") == "slave a"
    assert guard.check_slave("Bearer own=b", "b") == "slave b"
    assert guard.check_slave("Bearer shared", "a") == "token"
    for token, claimed in (("own-a", "b"), ("own=b", "a"), ("own-a", "c"), ("own-a", "")):
        with pytest.raises(Unauthorized):
            guard.check_slave(f"Bearer {token}", claimed)
    for token in ("own-a", "own=b"):
        with pytest.raises(Unauthorized):
            guard.check(f"Bearer {token}")
    # The slave of that name takes the token that the master sends it, and no other slave does.
    settings = Settings.from_env("master", {**SLAVES, **env})
    sent = {s.name: build_credentials(settings, s.name, s.url)() for s in settings.slaves}
    for name, own in (("a", "own-a"), ("b", "own=b")):
        slave = build_guard(Settings.from_env("slave", {"SYNC_TOKENS": own}))
        for addressed, headers in sent.items():
            if addressed == name:
                assert slave.check(headers["Authorization"]) == "token"
            else:
                with pytest.raises(Unauthorized):
                    slave.check(headers["Authorization"])


def test_the_first_token_is_sent() -> None:
    settings = Settings.from_env("master", {**SLAVES, "SYNC_TOKENS": "new,old"})
    assert build_credentials(settings, "a", "https://a.example")() == {
        "Authorization": "Bearer new"
    }


def test_tokens_are_sent_where_both_kinds_are_admitted() -> None:
    for both in ("token,oidc", "oidc,token"):
        settings = Settings.from_env("master", {**OIDC, "SYNC_AUTH": both, "SYNC_TOKENS": "t"})
        assert build_credentials(settings, "a", "https://a.example")() == {
            "Authorization": "Bearer t"
        }


def test_nothing_is_sent_without_authentication() -> None:
    settings = Settings.from_env("master", {"SYNC_AUTH": "none", "SYNC_TOKENS": "t"})
    assert build_credentials(settings, "a", "https://a.example")() == {}


def test_tokens_count_for_nothing_where_only_oidc_is_admitted() -> None:
    guard = make_guard(**OIDC, SYNC_TOKENS="t", SLAVE_TOKENS="a=u")
    for token in ("t", "u"):
        with pytest.raises(Unauthorized):
            guard.check_slave(f"Bearer {token}", "a")


@pytest.mark.parametrize("missing", ["OIDC_AUDIENCE", "OIDC_ACCOUNTS"])
def test_oidc_needs_an_audience_and_accounts(missing: str) -> None:
    for kinds in ("oidc", "token,oidc"):
        env = {**OIDC, "SYNC_AUTH": kinds, "SYNC_TOKENS": "t", missing: " , "}
        with pytest.raises(SettingsError, match=f"^{missing}: missing"):
            Settings.from_env("slave", env)


@pytest.mark.parametrize(
    "tokens", ["hunter2", "a=", "c=hunter2", "a=hunter2,a=x", "a=hunter2 x", "=hunter2", "a=é"]
)
def test_a_wrong_slave_token_is_named_but_not_quoted(tokens: str) -> None:
    with pytest.raises(SettingsError) as caught:
        make_guard(SYNC_TOKENS="t", SLAVE_TOKENS=tokens)
    assert str(caught.value).startswith("SLAVE_TOKENS: item ")
    assert "hunter2" not in str(caught.value)


def test_keys_are_not_fetched_over_a_network_in_the_clear() -> None:
    for url in ("http://certs.example/x", "http://127.0.0.1.example/x", "ftp://127.0.0.1/x", "x"):
        with pytest.raises(SettingsError, match=r"^OIDC_CERTS_URL: must be"):
            make_guard(SYNC_TOKENS="t", OIDC_CERTS_URL=url)
    for url in ("https://certs.example/x", "http://127.0.0.1:1/x", "http://[::1]:1/x"):
        assert Settings.from_env("slave", {**OIDC, "OIDC_CERTS_URL": url}).oidc_certs_url == url


def test_nothing_of_google_is_imported_for_tokens() -> None:
    program = """
import sys
from portable_core.adapters.authentication.tokens import build_credentials, build_guard
from portable_core.settings import Settings
settings = Settings.from_env("master", {"SYNC_TOKENS": "t"})
build_guard(settings).check("Bearer t")
build_credentials(settings, "a", "https://a.example")()
print([name for name in sys.modules if name in ("google.auth", "requests", "cryptography")])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
