"""The stretches of places, as the state saves them; see ``places.py``."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, NamedTuple

#: The name of the value in the state's section ``store``.
PLACES = "places"


class Stretch(NamedTuple):
    """The places from ``first`` to ``last`` that one process used; None while it is the newest."""

    first: int
    tag: str
    last: int | None


def read_stretches(saved: Mapping[str, Any]) -> list[Stretch]:
    return [Stretch(*stretch) for stretch in saved.get("stretches", ())]


def make_tag() -> str:
    """Return a random tag for a new stretch."""
    return secrets.token_hex(4)


def rewind(saved: Mapping[str, Any], place: int) -> dict[str, Any]:
    """Return the saved value after records came back at ``place`` and after it.

    A reader that passed this place has not seen them: its position becomes unknown. All places from
    there on are of a new stretch.
    """
    kept = [
        stretch if stretch.last is not None and stretch.last < place else (*stretch[:2], place - 1)
        for stretch in read_stretches(saved)
        if stretch.first < place
    ]
    return {
        "bound": 0,
        "older": True,
        **saved,
        "stretches": [*kept, Stretch(place, make_tag(), None)],
    }
