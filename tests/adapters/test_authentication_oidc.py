"""ID tokens: which are admitted, with keys of the test's own."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from hypothesis import given
from hypothesis import strategies as st

from portable_core.adapters.authentication.oidc import CLOCK_SKEW_S, MAX_TOKEN_CHARACTERS
from portable_core.adapters.authentication.tokens import Guard, build_guard
from portable_core.errors import Forbidden, Unauthorized
from portable_core.settings import Settings
from tests.support.nodes.oidc_issuer import (
    ACCOUNT,
    AUDIENCE,
    Issuer,
    encode_part,
    make_certificate,
    make_claims,
    make_key,
    make_public_pem,
    make_token,
    serve,
)

OTHER_ACCOUNT = "scheduler@project.iam.gserviceaccount.com"


@pytest.fixture(scope="module")
def guard() -> Iterator[Guard]:
    with serve(Issuer()) as url:
        yield make_guard(url)


def make_guard(url: str, **env: str) -> Guard:
    defaults = {
        "SYNC_AUTH": "oidc",
        "OIDC_AUDIENCE": f"https://other.example,{AUDIENCE}",
        "OIDC_ACCOUNTS": f"{ACCOUNT},{OTHER_ACCOUNT.upper()}",
        "OIDC_CERTS_URL": f"{url}/certs",
    }
    return build_guard(Settings.from_env("slave", {**defaults, **env}))


def refusal(guard: Guard, token: str) -> str:
    with pytest.raises(Unauthorized) as caught:
        guard.check(f"Bearer {token}")
    assert caught.value.challenge.endswith('error="invalid_token"')
    message = str(caught.value)
    assert "\n" not in message
    assert AUDIENCE not in message
    return message


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"aud": "https://other.example"},
        {"iss": "accounts.google.com"},
        {"email": OTHER_ACCOUNT},
        {"email": OTHER_ACCOUNT.title()},
        {"nbf": 1, "hd": None, "extra": [{}]},
    ],
)
def test_a_right_token(guard: Guard, changes: dict[str, object]) -> None:
    claims = make_claims(**changes)
    assert guard.check(f"Bearer {make_token(claims)}") == str(claims["email"]).lower()


def test_a_schedulers_id_token_and_a_nodes_token_side_by_side() -> None:
    with serve(Issuer()) as url:
        guard = make_guard(url, SYNC_AUTH="token,oidc", SYNC_TOKENS="secret,sec.re.t")
        assert guard.check("Bearer secret") == guard.check("Bearer sec.re.t") == "token"
        assert guard.check(f"Bearer {make_token(make_claims())}") == ACCOUNT
        for token in ("wrong", "wr.on.g", make_token(make_claims(aud="x"))):
            refusal(guard, token)


@pytest.mark.parametrize(
    "audience", ["https://slave.example/", "", None, 0, True, [AUDIENCE], {AUDIENCE: 1}, "*"]
)
def test_another_audience(guard: Guard, audience: object) -> None:
    assert "another audience" in refusal(guard, make_token(make_claims(aud=audience)))


@pytest.mark.parametrize(
    "email", ["stranger@project.iam.gserviceaccount.com", f"{ACCOUNT}.example", f"x{ACCOUNT}", ""]
)
def test_another_account_is_known_but_may_not(guard: Guard, email: str) -> None:
    with pytest.raises(Forbidden, match="not in this node's OIDC_ACCOUNTS"):
        guard.check(f"Bearer {make_token(make_claims(email=email))}")


@pytest.mark.parametrize(
    "changes",
    [
        {"email": None},
        {"email": [ACCOUNT]},
        {"email_verified": None},
        {"email_verified": False},
        {"email_verified": "true"},
        {"email_verified": 1},
    ],
)
def test_an_account_that_is_not_proven(guard: Guard, changes: dict[str, object]) -> None:
    assert "no verified e-mail" in refusal(guard, make_token(make_claims(**changes)))


@pytest.mark.parametrize(
    "issuer", [None, "", "https://accounts.google.com/", "https://evil.example", ["x"], 1]
)
def test_another_issuer(guard: Guard, issuer: object) -> None:
    assert "not issued by Google" in refusal(guard, make_token(make_claims(iss=issuer)))


def test_time(guard: Guard) -> None:
    now = make_claims()["iat"]
    assert isinstance(now, int)
    near, far = CLOCK_SKEW_S - 5, CLOCK_SKEW_S + 5
    for changes in (
        {"iat": now - 3600, "exp": now - near},
        {"iat": now + near},
        {"nbf": now + near},
    ):
        assert guard.check(f"Bearer {make_token(make_claims(**changes))}") == ACCOUNT
    for changes in (
        {"iat": now - 3600, "exp": now - far},
        {"iat": 0, "exp": 0},
        {"exp": -1},
        {"iat": now + far, "exp": now + 9999},
        {"nbf": now + far},
        {"iat": 10**40, "exp": 10**41},
    ):
        assert "expired or is not valid yet" in refusal(guard, make_token(make_claims(**changes)))


@pytest.mark.parametrize("name", ["iat", "exp", "nbf"])
@pytest.mark.parametrize("value", ["1", 1.5, True, [], {}, float("nan"), float("inf")])
def test_times_that_are_none(guard: Guard, name: str, value: object) -> None:
    refusal(guard, make_token(make_claims(**{name: value})))


@pytest.mark.parametrize("name", ["iat", "exp"])
def test_times_that_are_missing(guard: Guard, name: str) -> None:
    refusal(guard, make_token(make_claims(**{name: None})))


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", None, 0, ["RS256"]])
def test_no_algorithm(guard: Guard, algorithm: object) -> None:
    header = {"alg": algorithm, "kid": "k1", "typ": "JWT"}
    parts = f"{encode_part(header)}.{encode_part(make_claims())}"
    assert "not signed with RS256" in refusal(guard, f"{parts}.")
    assert "not signed with RS256" in refusal(guard, make_token(make_claims(), header=header))


@pytest.mark.parametrize("algorithm", ["HS256", "RS256"])
def test_the_public_key_is_no_secret_to_sign_with(guard: Guard, algorithm: str) -> None:
    key = make_key("k1")
    for public in (make_public_pem(key), make_certificate(key), make_public_pem(key).strip()):
        parts = f"{encode_part({'alg': algorithm, 'kid': 'k1'})}.{encode_part(make_claims())}"
        signature = hmac.digest(public.encode(), parts.encode(), hashlib.sha256)
        refusal(guard, f"{parts}.{encode_part(signature)}")


@pytest.mark.parametrize("algorithm", ["RS384", "RS512", "PS256", "ES256", "EdDSA", "rs256"])
def test_other_algorithms(guard: Guard, algorithm: str) -> None:
    header = {"alg": algorithm, "kid": "k1"}
    assert "not signed with RS256" in refusal(guard, make_token(make_claims(), header=header))


def test_another_hash_under_the_right_name(guard: Guard) -> None:
    parts = f"{encode_part({'alg': 'RS256', 'kid': 'k1'})}.{encode_part(make_claims())}"
    for scheme, algorithm in (
        (padding.PKCS1v15(), hashes.SHA512()),
        (padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256()),
    ):
        signature = make_key("k1").sign(parts.encode(), scheme, algorithm)
        assert "wrong signature or lacks" in refusal(guard, f"{parts}.{encode_part(signature)}")


def test_a_key_of_ones_own(guard: Guard) -> None:
    mine = make_public_pem(make_key("mine"))
    carried: dict[str, object] = {"jwk": {"kty": "RSA"}, "jku": "http://[::1]/", "x5c": [mine]}
    for own in ({}, carried):
        header = {"alg": "RS256", "kid": "k1", **own}
        token = make_token(make_claims(), key="mine", header=header)
        assert "wrong signature or lacks" in refusal(guard, token)


@pytest.mark.parametrize("key_id", [None, "", 1, ["k1"], {"k1": 1}, "../k1", "k1\0"])
def test_key_ids_that_name_no_key(guard: Guard, key_id: object) -> None:
    refusal(guard, make_token(make_claims(), header={"alg": "RS256", "kid": key_id}))
    refusal(guard, make_token(make_claims(), header={"alg": "RS256"}))


def test_a_changed_token(guard: Guard) -> None:
    header, claims, signature = make_token(make_claims()).split(".")
    other = encode_part(make_claims(email=OTHER_ACCOUNT))
    for token in (
        f"{header}.{other}.{signature}",
        f"{header}.{claims}.{signature[:-8]}",
        f"{header}.{claims}.{signature}AAAA",
        f"{header}.{claims}.",
        f"{header}..{signature}",
        f".{claims}.{signature}",
        f"{header}.{claims}.{signature}.",
        f"{header}.{claims}",
    ):
        refusal(guard, token)


def test_a_token_whose_signature_was_taken_off(guard: Guard) -> None:
    unsigned = make_token(make_claims()).rpartition(".")[0]
    assert "Cloud Run" in refusal(guard, f"{unsigned}.SIGNATURE_REMOVED_BY_GOOGLE")


def test_malformed_tokens(guard: Guard) -> None:
    deep = (b"[" * 2900 + b"]" * 2900, b'{"a":' * 900 + b"1" + b"}" * 900)
    for part in (b"", b"{", b"\xff", b"null", b"[]", b'"x"', b"1" * 5000, *deep):
        refusal(guard, f"{encode_part(part)}.{encode_part(make_claims())}.AAAA")
        refusal(guard, f"{encode_part({'alg': 'RS256', 'kid': 'k1'})}.{encode_part(part)}.AAAA")
        refusal(guard, make_token(part))
    for token in ("..", "a.b.c", "=.=.=", "!.!.!", "-_.-_.-_", "a" * 5 + "." + "b" * 5 + ".c"):
        refusal(guard, token)
    assert "longer than" in refusal(guard, "a" * MAX_TOKEN_CHARACTERS + ".b.c")


pieces = st.one_of(
    st.binary(max_size=30).map(encode_part),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=5,
    ).map(encode_part),
    st.dictionaries(
        st.sampled_from(["alg", "kid", "typ", "iat", "exp", "aud", "iss", "email"]),
        st.sampled_from(["RS256", "none", "k1", "JWT", AUDIENCE, ACCOUNT, 0, 2**63, True, None]),
    ).map(encode_part),
    st.text(max_size=10),
)


@given(st.lists(pieces, min_size=1, max_size=5).map(".".join))
def test_any_text_as_a_token(guard: Guard, token: str) -> None:
    with pytest.raises(Unauthorized):
        guard.check(f"Bearer {token}")


@given(
    st.dictionaries(st.sampled_from(sorted(make_claims())), st.none() | st.booleans(), min_size=1)
)
def test_any_claim_replaced_by_something_else(guard: Guard, changes: dict[str, object]) -> None:
    claims = make_claims(**changes)
    right = make_claims()
    needed = ("iss", "aud", "email", "email_verified", "iat", "exp")
    if (
        all(type(claims.get(name)) is type(right[name]) for name in needed)
        and claims["email_verified"]
    ):
        assert guard.check(f"Bearer {make_token(claims)}") == ACCOUNT
    else:
        refusal(guard, make_token(claims))
