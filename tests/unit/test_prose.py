"""Prose: no text that a person reads contains a banned phrase (``tests/support/prose.py``)."""

from __future__ import annotations

import pytest

from tests.support.prose import BANNED, SCOPES, Banned, Text, find_banned


@pytest.mark.parametrize("scope", [*SCOPES])
def test_a_scope_has_no_banned_phrase(scope: str) -> None:
    texts = list(SCOPES[scope]())
    assert texts, "nothing is read: the files have moved"
    faults = [fault for text in texts for fault in find_banned(text)]
    assert faults == []


@pytest.mark.parametrize("banned", BANNED, ids=lambda banned: str(banned.example))
def test_every_phrase_is_found(banned: Banned) -> None:
    assert any(banned.instead in fault for fault in find_banned(Text("here", banned.example)))


@pytest.mark.parametrize(
    "text",
    [
        "Zero has no sign, and senders sign the body.",
        "The default is `memory:`; it takes 5 minutes.",
        "There is none. It is None by default.",
        "Return the hash. All in all, 3 of 4 records are in memory.",
        "A nobler lifetime: outlet, letter.",
    ],
)
def test_other_text_is_not(text: str) -> None:
    assert list(find_banned(Text("here", text))) == []
