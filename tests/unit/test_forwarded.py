"""The client behind trusted proxies; everybody else's word is ignored."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portable_core.adapters.edge.forwarded import Client, find_client

TRUSTED = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]


def find(peer: str, *headers: tuple[str, str]) -> Client:
    given = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    return find_client(peer, given, TRUSTED)


def test_a_peer_that_is_not_trusted_is_the_client() -> None:
    spoofed = (("x-forwarded-for", "10.0.0.9"), ("x-forwarded-proto", "https"))
    assert find("203.0.113.7", *spoofed) == Client("203.0.113.7", "http")
    assert find_client("10.0.0.1", [(b"x-forwarded-for", b"192.0.2.1")], []) == Client(
        "10.0.0.1", "http"
    )


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([("x-forwarded-for", "192.0.2.1")], Client("192.0.2.1", "http")),
        (
            [("x-forwarded-for", "192.0.2.1"), ("x-forwarded-proto", "HTTPS")],
            Client("192.0.2.1", "https"),
        ),
        # What a client claims stands before what the proxy has added.
        ([("x-forwarded-for", "198.51.100.1, 192.0.2.1")], Client("192.0.2.1", "http")),
        (
            [("x-forwarded-for", "198.51.100.1"), ("x-forwarded-for", "192.0.2.1, 10.2.2.2")],
            Client("192.0.2.1", "http"),
        ),
        ([("x-forwarded-for", "192.0.2.1:4711")], Client("192.0.2.1", "http")),
        ([("x-forwarded-for", "[2001:db8::1]:4711")], Client("2001:db8::1", "http")),
        # One scheme for several hops; one for each.
        (
            [("x-forwarded-for", "192.0.2.1, 10.2.2.2"), ("x-forwarded-proto", "https")],
            Client("192.0.2.1", "https"),
        ),
        (
            [("x-forwarded-for", "192.0.2.1, 10.2.2.2"), ("x-forwarded-proto", "https, http")],
            Client("192.0.2.1", "https"),
        ),
        # RFC 7239, section 4.
        ([("forwarded", 'For="[2001:db8:cafe::17]:4711"')], Client("2001:db8:cafe::17", "http")),
        (
            [("forwarded", "for=192.0.2.60;proto=https;by=203.0.113.43")],
            Client("192.0.2.60", "https"),
        ),
        (
            [("forwarded", 'for=198.51.100.1, for="192.0.2.1";PROTO=HTTPS')],
            Client("192.0.2.1", "https"),
        ),
        # Obfuscated and unknown nodes (section 6.3) give the last address that is known.
        ([("forwarded", "for=unknown, for=10.2.2.2")], Client("10.2.2.2", "http")),
        ([("forwarded", "for=_gazonk;proto=https")], Client("10.1.1.1", "https")),
        # ``Forwarded`` is preferred where both are given.
        (
            [("forwarded", "for=192.0.2.1"), ("x-forwarded-for", "198.51.100.1")],
            Client("192.0.2.1", "http"),
        ),
    ],
)
def test_a_trusted_proxy_is_believed(headers: list[tuple[str, str]], expected: Client) -> None:
    assert find("10.1.1.1", *headers) == expected


def test_addresses_of_both_families_are_compared() -> None:
    assert find("::ffff:10.1.1.1", ("x-forwarded-for", "192.0.2.1")).address == "192.0.2.1"
    assert find("fd00::1", ("x-forwarded-for", "192.0.2.1")).address == "192.0.2.1"


@given(st.text(st.characters(codec="latin-1"), max_size=200), st.text('",;=for:[]. ', max_size=60))
def test_any_text_gives_an_address(first: str, second: str) -> None:
    for name in ("forwarded", "x-forwarded-for", "x-forwarded-proto"):
        client = find("10.1.1.1", (name, first), (name, second))
        assert client.scheme in ("http", "https")
        assert client.address
