"""The keys of ID tokens: how long they are kept, how they change, and what if they are away."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from portable_core.adapters.authentication.key_set import (
    DEFAULT_AGE_S,
    MAX_AGE_S,
    MIN_AGE_S,
    RETRY_S,
    UNKNOWN_KEY_S,
    KeySet,
)
from portable_core.adapters.authentication.oidc import IdTokenVerifier
from portable_core.adapters.authentication.tokens import build_guard
from portable_core.errors import Unauthorized, Unavailable
from portable_core.settings import Settings
from tests.support.nodes.oidc_issuer import (
    ACCOUNT,
    AUDIENCE,
    Answer,
    Issuer,
    make_claims,
    make_key,
    make_public_pem,
    make_token,
    serve,
)


class KeyedNode:
    """A verifier of the issuer's tokens, with a clock that only ``pass_time`` moves."""

    def __init__(self, issuer: Issuer, url: str) -> None:
        self.issuer = issuer
        self.time = 1000.0
        keys = KeySet(f"{url}/certs", lambda: self.time)
        self._verifier = IdTokenVerifier([AUDIENCE], [ACCOUNT], keys)

    def pass_time(self, seconds: float) -> None:
        self.time += seconds

    def verify(self, key: str = "k1") -> str:
        return self._verifier.verify(make_token(make_claims(), key=key))

    def refuses(self, key: str) -> bool:
        with pytest.raises(Unauthorized, match="a key that the issuer does not publish"):
            self.verify(key)
        return True


@pytest.fixture
def node() -> Iterator[KeyedNode]:
    issuer = Issuer()
    with serve(issuer) as url:
        yield KeyedNode(issuer, url)


def test_keys_are_fetched_once(node: KeyedNode) -> None:
    assert node.issuer.asked == 0
    for _ in range(5):
        assert node.verify() == ACCOUNT
        node.pass_time(100)
    assert node.issuer.asked == 1


def test_keys_may_be_bare_public_keys(node: KeyedNode) -> None:
    node.issuer.answer = Answer(json.dumps({"k1": make_public_pem(make_key("k1"))}).encode())
    assert node.verify() == ACCOUNT


@pytest.mark.parametrize(
    ("headers", "kept_s"),
    [
        ({"Cache-Control": "public, max-age=20000, must-revalidate"}, 20_000),
        ({"Cache-Control": "max-age=20000"}, 20_000),
        ({"cache-control": 'MAX-AGE="20000"'}, 20_000),
        ({"Cache-Control": "max-age=20000", "Age": "5000"}, 15_000),
        ({"Cache-Control": "max-age=20000", "Age": "-1"}, 20_000),
        ({"Cache-Control": "s-max-age=1, no-transform"}, DEFAULT_AGE_S),
        ({"Cache-Control": "max-age=soon"}, DEFAULT_AGE_S),
        ({}, DEFAULT_AGE_S),
        ({"Cache-Control": "no-store, max-age=0"}, MIN_AGE_S),
        ({"Cache-Control": "max-age=20000", "Age": "999999999"}, MIN_AGE_S),
        ({"Cache-Control": "max-age=999999999"}, MAX_AGE_S),
    ],
)
def test_keys_are_kept_as_long_as_they_may_be(
    node: KeyedNode, headers: dict[str, str], kept_s: int
) -> None:
    node.issuer.publish("k1", headers=headers)
    node.verify()
    node.pass_time(kept_s - 1)
    node.verify()
    assert node.issuer.asked == 1
    node.pass_time(1)
    node.verify()
    assert node.issuer.asked == 2


def test_a_new_key_is_found_and_an_old_one_forgotten(node: KeyedNode) -> None:
    node.verify("k1")
    node.issuer.publish("k1", "k2")
    node.pass_time(UNKNOWN_KEY_S)
    assert node.verify("k2") == node.verify("k1") == ACCOUNT
    assert node.issuer.asked == 2
    node.issuer.publish("k2", "k3")
    node.pass_time(20_000)
    assert node.verify("k3") == node.verify("k2") == ACCOUNT
    assert node.refuses("k1")
    assert node.issuer.asked == 3


def test_an_unknown_key_asks_for_new_ones_at_most_once_a_minute(node: KeyedNode) -> None:
    node.verify("k1")
    for _ in range(10):
        assert node.refuses("k2")
    assert node.issuer.asked == 1
    node.pass_time(UNKNOWN_KEY_S)
    for _ in range(10):
        assert node.refuses("k2")
        node.verify("k1")
    assert node.issuer.asked == 2


def test_an_unreachable_key_server_is_no_fault_of_the_caller() -> None:
    with serve(Issuer()) as url:
        pass  # nobody listens there any more
    env = {
        "SYNC_AUTH": "token,oidc",
        "SYNC_TOKENS": "secret",
        "OIDC_AUDIENCE": AUDIENCE,
        "OIDC_ACCOUNTS": ACCOUNT,
        "OIDC_CERTS_URL": url,
    }
    guard = build_guard(Settings.from_env("slave", env))
    with pytest.raises(Unavailable) as caught:
        guard.check(f"Bearer {make_token(make_claims())}")
    assert (caught.value.status, caught.value.retry_after) == (503, RETRY_S)
    assert url not in str(caught.value)
    assert guard.check("Bearer secret") == "token"
    with pytest.raises(Unauthorized):
        guard.check("Bearer wrong")


@pytest.mark.parametrize(
    "answer",
    [
        Answer(b"{}", 500),
        Answer(b"{}", 404),
        Answer(b"{}", 302, {"Location": "/elsewhere"}),
        Answer(b""),
        Answer(b"<html>"),
        Answer(b"\xff"),
        Answer(b"[" * 100_000),
        Answer(b'["k1"]'),
        Answer(b'{"keys":[{"kid":"k1","kty":"RSA"}]}'),
        Answer(b"null"),
    ],
)
def test_an_answer_without_keys(
    node: KeyedNode, answer: Answer, caplog: pytest.LogCaptureFixture
) -> None:
    right = node.issuer.answer
    node.issuer.answer = answer
    with caplog.at_level(logging.WARNING), pytest.raises(Unavailable):
        node.verify()
    assert "OIDC_CERTS_URL" in caplog.text
    node.issuer.answer = right
    node.pass_time(RETRY_S)
    assert node.verify() == ACCOUNT
    assert node.issuer.asked == 2


def test_after_a_failure_nobody_asks_for_a_while(node: KeyedNode) -> None:
    right = node.issuer.answer
    node.issuer.answer = Answer(status=503)
    for _ in range(10):
        with pytest.raises(Unavailable):
            node.verify()
    assert node.issuer.asked == 1
    node.issuer.answer = right
    node.pass_time(RETRY_S - 0.1)
    with pytest.raises(Unavailable):
        node.verify()
    node.pass_time(0.1)
    assert node.verify() == ACCOUNT
    assert node.issuer.asked == 2


def test_keys_that_are_still_good_outlive_a_failure(node: KeyedNode) -> None:
    node.verify("k1")
    right = node.issuer.answer
    node.issuer.answer = Answer(status=503)
    node.pass_time(UNKNOWN_KEY_S)
    for _ in range(2):
        with pytest.raises(Unavailable):  # for it may have become known
            node.verify("k2")
        assert node.verify("k1") == ACCOUNT
    assert node.issuer.asked == 2
    node.pass_time(RETRY_S)
    with pytest.raises(Unavailable):
        node.verify("k2")
    assert node.issuer.asked == 3
    node.pass_time(20_000)
    with pytest.raises(Unavailable):
        node.verify("k1")
    node.issuer.answer = right
    node.pass_time(RETRY_S)
    assert node.verify("k1") == ACCOUNT


def test_many_threads_fetch_once(node: KeyedNode) -> None:
    node.issuer.open.clear()
    with ThreadPoolExecutor(10) as threads:
        outcomes = [threads.submit(node.verify) for _ in range(10)]
        wait_until(lambda: node.issuer.asked == 1)
        node.issuer.open.set()
        assert [outcome.result() for outcome in outcomes] == [ACCOUNT] * 10
    assert node.issuer.asked == 1


def test_threads_that_waited_for_a_failure_do_not_each_try_again(node: KeyedNode) -> None:
    node.issuer.answer = Answer(status=500)
    node.issuer.open.clear()
    with ThreadPoolExecutor(5) as threads:
        outcomes = [threads.submit(node.verify) for _ in range(5)]
        wait_until(lambda: node.issuer.asked == 1)
        node.pass_time(RETRY_S)  # as long as the attempt itself may take
        node.issuer.open.set()
        assert {type(outcome.exception()) for outcome in outcomes} == {Unavailable}
    assert node.issuer.asked == 1


def test_a_slow_key_server_does_not_hold_up_those_whose_key_is_known(node: KeyedNode) -> None:
    node.verify("k1")
    node.pass_time(UNKNOWN_KEY_S)
    node.issuer.open.clear()
    stranger = threading.Thread(target=node.refuses, args=("k2",))
    stranger.start()
    wait_until(lambda: node.issuer.asked == 2)
    assert node.verify("k1") == ACCOUNT
    assert stranger.is_alive()
    node.issuer.open.set()
    stranger.join()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
