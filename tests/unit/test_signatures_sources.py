"""``SOURCES``: whose webhooks must be signed, and complaints that quote no secret."""

from __future__ import annotations

import pytest

from portable_core.errors import SettingsError, Unauthorized
from portable_core.sources.schemes import (
    sign,
)
from portable_core.sources.signatures import Sources, parse_sources

BODY = b"{}"
NOW_MS = 1_767_225_600_000


def admits(sources: Sources, source: str, headers: dict[str, str]) -> bool:
    def get(name: str) -> list[str]:
        return [headers[name]] if name in headers else []

    try:
        sources.verify(source, get, BODY, NOW_MS)
    except Unauthorized:
        return False
    return True


@pytest.mark.parametrize("setting", ["", " ", ",", " , ,"])
def test_without_entries_every_source_is_open(setting: str) -> None:
    sources = parse_sources(setting)
    for source in ("", "github", "../..", "é\0"):
        assert admits(sources, source, {})


def test_a_source_is_held_to_its_own_entry() -> None:
    sources = parse_sources("hub=github:a, pay = stripe : b ,own=hmac-sha256@X-Sig:c")
    hub, pay = sign("github:a", BODY), sign("stripe:b", BODY, NOW_MS // 1000)
    own = sign("hmac-sha256@X-Sig:c", BODY)
    assert admits(sources, "hub", hub)
    assert admits(sources, "pay", pay)
    assert admits(sources, "own", own)
    for source, wrong in (("hub", pay), ("pay", own), ("own", hub), ("hub", {})):
        assert not admits(sources, source, wrong)
    assert admits(sources, "", {})
    assert admits(sources, "Hub", {})


def test_the_address_without_a_source_can_have_an_entry() -> None:
    sources = parse_sources("=github:a")
    assert admits(sources, "", sign("github:a", BODY))
    assert not admits(sources, "", {})
    assert admits(sources, "other", {})


def test_a_star_holds_for_every_source_without_an_entry() -> None:
    sources = parse_sources("*=github:a,hub=github:b")
    for source in ("", "other", "Hub"):
        assert admits(sources, source, sign("github:a", BODY))
        assert not admits(sources, source, sign("github:b", BODY))
        assert not admits(sources, source, {})
    assert admits(sources, "hub", sign("github:b", BODY))
    assert not admits(sources, "hub", sign("github:a", BODY))


def test_closed_admits_nobody() -> None:
    sources = parse_sources("hub=github:a,*=closed")
    assert admits(sources, "hub", sign("github:a", BODY))
    for source in ("", "other"):
        assert not admits(sources, source, {})
        assert not admits(sources, source, sign("github:a", BODY))


@pytest.mark.parametrize(
    "secret",
    ["It's a Secret to Everybody", "a=b:c", ":", "==", "é€😀", "%2C;\\\"'", "\udce9\udcff"],
)
def test_a_secret_is_any_text_without_a_comma(secret: str) -> None:
    sources = parse_sources(f"s=github:{secret}")
    assert admits(sources, "s", sign(f"github:{secret}", BODY))
    assert not admits(sources, "s", sign(f"github:{secret}x", BODY))


@pytest.mark.parametrize(
    ("setting", "entry"),
    [
        ("hunter2", 1),
        ("a=github:ok,hunter2", 2),
        ("a=hunter2", 1),
        ("a=github", 1),
        ("a=github:", 1),
        ("a=github: ,", 1),
        ("a=stripe:,b=github:hunter2", 1),
        ("hunter2/=github:x", 1),
        (f"{'a' * 65}=github:hunter2", 1),
        ("é=github:hunter2", 1),
        ("**=github:hunter2", 1),
        ("a=GitHub:hunter2", 1),
        ("a=standard:hunter2", 1),
        ("a=standard:whsec_", 1),
        ("a=standard:whsec_hunter2!", 1),
        ("a=standard:whsec_A", 1),
        ("a=standard:whsec_é", 1),
        ("a=hmac-sha256:hunter2", 1),
        ("a=hmac-sha256@:hunter2", 1),
        ("a=hmac-sha256@X Sig:hunter2", 1),
        ("a=hmac-sha256@X-Sig", 1),
        ("a=closed:hunter2", 1),
        ("a=github:\ud83d", 1),
    ],
)
def test_a_wrong_setting_is_named_in_one_line_without_its_secret(setting: str, entry: int) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_sources(setting)
    message = str(caught.value)
    assert message.startswith(f"SOURCES: entry {entry} ")
    assert "\n" not in message
    assert "hunter2" not in message
    cause = caught.value.__context__
    assert cause is None or caught.value.__suppress_context__  # nor does a log show it as the cause


def test_no_secret_shows_in_a_repr() -> None:
    setting = (
        "a=github:hunter2,a=stripe:hunter2,a=hmac-sha256@X:hunter2,b=standard:whsec_aHVudGVyMg"
    )
    shown = repr(parse_sources(setting))
    assert "hunter2" not in shown
    assert "aHVudGVyMg" not in shown
