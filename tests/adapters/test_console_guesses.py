"""Wrong tokens at the login of the console: five a minute from one address."""

from __future__ import annotations

from typing import Any

import pytest

from portable_core.adapters.flask_app.console.guesses import MOST_GUESSES, WINDOW_S, Guesses
from tests.adapters.test_console import TOKEN, make_app, read_csrf

Client = Any


@pytest.fixture
def client() -> Client:
    return make_app("master", CONSOLE_TOKEN=TOKEN).test_client()


def send(client: Client, token: str, address: str) -> Any:
    form = {"csrf": read_csrf(client), "token": token}
    return client.post("/login", data=form, environ_overrides={"REMOTE_ADDR": address})


def test_the_login_answers_429_after_five_wrong_tokens(client: Client) -> None:
    for number in range(MOST_GUESSES):
        assert send(client, f"wrong {number}", "192.0.2.1").status_code == 401
    for token in ("wrong", TOKEN):  # a right token must not be found this way either
        answer = send(client, token, "192.0.2.1")
        assert answer.status_code == 429
        assert 0 < int(answer.headers["Retry-After"]) <= WINDOW_S
        assert "Too many wrong tokens from this address" in answer.text
    assert send(client, TOKEN, "192.0.2.2").status_code == 303
    assert client.get("/health").status_code == 200


def test_a_right_token_forgets_the_wrong_ones(client: Client) -> None:
    for _ in range(3):
        for _ in range(MOST_GUESSES - 1):
            assert send(client, "wrong", "192.0.2.1").status_code == 401
        assert send(client, TOKEN, "192.0.2.1").status_code == 303
        client = client.application.test_client()


def test_the_minute_counts_from_the_oldest_of_the_last_five() -> None:
    guesses = Guesses()
    for number in range(MOST_GUESSES):
        assert guesses.begin("192.0.2.1", number) == 0
    assert guesses.begin("192.0.2.1", 10.5) == 50
    assert guesses.begin("192.0.2.1", WINDOW_S - 0.1) == 1
    assert guesses.begin("192.0.2.1", WINDOW_S) == 0
    assert guesses.begin("192.0.2.1", WINDOW_S) == 1  # the second of them was one second later


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),  # one customer has them all
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("not an address", "", True),
    ],
)
def test_an_address_of_ipv6_counts_with_its_network(first: str, second: str, same: bool) -> None:
    guesses = Guesses()
    for _ in range(MOST_GUESSES):
        guesses.begin(first, 0)
    assert (guesses.begin(second, 1) > 0) == same


def test_the_addresses_are_bounded() -> None:
    guesses = Guesses(most_addresses=3)
    for number in range(10):
        for _ in range(MOST_GUESSES):
            assert guesses.begin(f"192.0.2.{number}", number) == 0
    assert guesses.begin("192.0.2.9", 10) > 0
    assert guesses.begin("192.0.2.0", 10) == 0  # forgotten
