"""The same JSON value in another spelling: key order, white space, string escapes."""

from __future__ import annotations

import json
from random import Random


def respell(payload: bytes, random: Random) -> bytes:
    """Return the payload with another key order at every depth, white space and escapes."""
    return _spell(json.loads(payload), random).encode()


def _spell(value: object, random: Random) -> str:
    def space() -> str:
        return random.choice(("", "", "", " ", "\n  ", "\t"))

    if isinstance(value, dict):
        items = list(value.items())
        random.shuffle(items)
        members = (
            f"{space()}{_spell_string(key, random)}{space()}:{space()}{_spell(item, random)}"
            for key, item in items
        )
        return "{" + ",".join(members) + space() + "}"
    if isinstance(value, list):
        return "[" + ",".join(space() + _spell(item, random) for item in value) + space() + "]"
    if isinstance(value, str):
        return _spell_string(value, random)
    return json.dumps(value)


def _spell_string(text: str, random: Random) -> str:
    style = random.randrange(3)
    if style == 0:
        return json.dumps(text)
    if style == 1:
        return json.dumps(text, ensure_ascii=False)
    # One character, if there is any, as a needless escape.
    place = random.randrange(len(text) + 1)
    if place == len(text) or ord(text[place]) > 0xFFFF:
        return json.dumps(text)
    before, after = json.dumps(text[:place])[:-1], json.dumps(text[place + 1 :])[1:]
    return f"{before}\\u{ord(text[place]):04x}{after}"
