"""Prose: no text that a person reads contains a banned phrase (``tests/support/prose.py``)."""

from __future__ import annotations

import re

import pytest

from tests.support.prose import BANNED, SCOPES, Banned, Text, find_banned, list_functions


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


#: Words with which no imperative begins: articles, pronouns, questions.
NOT_IMPERATIVE = re.compile(
    r"(The|An?|This|That|It|Its|Whether|What|How|When|Where|Which|Who|Why|Every|All|Each|One|No|Not)"
    r"|[A-Z][a-z]+[^s]s"  # Returns
)


def test_a_function_is_documented_in_the_imperative() -> None:
    functions = list(list_functions())
    assert len(functions) > 500
    first_words = {place: text.split()[0] for place, text in functions}
    wrong = {place: word for place, word in first_words.items() if NOT_IMPERATIVE.fullmatch(word)}
    assert wrong == {}
