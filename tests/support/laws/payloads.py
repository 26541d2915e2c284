"""JSON payloads for Hypothesis: values of every kind that RFC 8259 allows, and their spellings.

It needs Hypothesis and the standard library, nothing else: copy it or import it, and test your own
reader of JSON with it. ::

    @given(payloads(), randoms())
    def test_reader(value, random):
        assert my_reader(spell(value, random)) == my_reader(spell(value))

A value is made of None, bool, :class:`Number`, str, list and dict. A number is its text. A string
may hold lone surrogates.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from random import Random
from typing import Any

from hypothesis import strategies as st

Json = Any


@dataclass(frozen=True)
class Number:
    """A number as it is written."""

    text: str

    @property
    def exact(self) -> tuple[bool, str, str, int]:
        """Its decimal value, any size: whether it is whole in spelling, sign, digits, exponent.

        The value is ±0.digits × 10^exponent with no zero at either end of the digits.
        """
        match = re.fullmatch(r"(-?)(\d+)(?:\.(\d+))?(?:[eE]([-+]?\d+))?", self.text)
        assert match is not None, self.text
        sign, whole, fraction, power = match.groups("")
        digits = (whole + fraction).lstrip("0")
        integer = not re.search(r"[.eE]", self.text)
        if not digits:
            return (integer, "", "", 0)
        zeros = len(whole) + len(fraction) - len(digits)
        return (integer, sign, digits.rstrip("0"), int(power or 0) + len(whole) - zeros)


def read(payload: bytes) -> Json:
    """The oracle: the standard library's reader, with numbers kept as text. ValueError if refused.

    It is given what it would let pass: a byte order mark, invalid UTF-8, NaN, a scalar at the top.
    """

    def refuse(name: str) -> None:
        raise ValueError(name)

    value = json.loads(
        payload.decode("utf-8", "strict"),
        parse_int=Number,
        parse_float=Number,
        parse_constant=refuse,
    )
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def exact(value: Json) -> object:
    """Something that is equal for equal values only. An integer and ``1.0`` are different kinds."""
    if isinstance(value, Number):
        return value.exact
    if isinstance(value, dict):
        return ("object", frozenset((key, exact(item)) for key, item in value.items()))
    if isinstance(value, list):
        return ("array", tuple(exact(item) for item in value))
    return (type(value).__name__, value)


def count_levels(value: Json) -> int:
    """How many arrays and objects lie within each other: 0 for a scalar, 1 for ``{}``."""
    levels, inner = 0, [value]
    while inner := [item for item in inner if isinstance(item, dict | list)]:
        levels += 1
        inner = [
            part for item in inner for part in (item.values() if isinstance(item, dict) else item)
        ]
    return levels


# Values.


def randoms() -> st.SearchStrategy[Random]:
    """What chooses a spelling or a change. One seed is one draw: far faster than drawing each."""
    return st.integers(0, 2**32 - 1).map(Random)


def _pair_surrogates(text: str) -> str:
    """The text as any reader gives it: a high surrogate before a low one is one character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def strings(*, surrogates: bool = True) -> st.SearchStrategy[str]:
    """Text of any characters; those that JSON escapes, and lone surrogates, come often."""
    awkward = [*':"\\/\b\f\n\r\t\x00\x1f\x7f\u2028\ufeff\uffff😀é']
    if surrogates:
        awkward += [*"\ud800\ud83d\udbff\udc00\ude00\udfff"]
    # Pieces, since Hypothesis makes one uniform alphabet of several.
    pieces = st.one_of(st.text(max_size=3), st.sampled_from(awkward))
    return st.lists(pieces, max_size=4).map("".join).map(_pair_surrogates)


_edges = [0, 2**53 - 1, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 2**64 + 1, 10**60]
_digits = st.text("0123456789", min_size=1, max_size=40)


def integers() -> st.SearchStrategy[Number]:
    """Whole numbers, up to 100 digits; the edges of 53, 63 and 64 bits come often."""
    return st.one_of(
        st.integers(-1000, 1000),
        st.sampled_from([sign * edge for edge in _edges for sign in (1, -1)]),
        st.integers(-(10**100), 10**100),
    ).map(lambda number: Number(str(number))) | st.just(Number("-0"))


def floats() -> st.SearchStrategy[Number]:
    """Numbers with a fraction or an exponent: doubles, doubles with more digits, and anything."""
    doubles = st.floats(allow_nan=False, allow_infinity=False)
    longer = st.tuples(doubles.map(lambda number: f"{number:.25e}"), _digits)
    free = st.tuples(
        st.sampled_from(["", "-"]),
        st.one_of(_digits.map(lambda text: text.lstrip("0") or "0"), st.just("0")),
        st.one_of(st.just(""), _digits.map(lambda text: f".{text}")),
        st.one_of(
            st.just(""),
            st.tuples(
                st.sampled_from(["e", "E", "e+", "E-", "e-"]),
                st.one_of(
                    st.integers(0, 400),
                    st.integers(10**17, 10**50),
                    st.sampled_from(["0000", "00017", "0" * 20 + "3"]),
                ),
            ).map(lambda parts: f"{parts[0]}{parts[1]}"),
        ),
    ).map("".join)
    return st.one_of(
        doubles.map(repr),
        doubles.map(lambda number: f"{number:.17g}"),
        longer.map(lambda parts: parts[0].replace("e", f"{parts[1]}e")),
        st.decimals(-10000, 10000, places=2).map(str),
        free,
        st.tuples(st.integers(0, 12), _digits).map(lambda parts: f"0.{'0' * parts[0]}{parts[1]}"),
        st.sampled_from(["1e400", "1e401", "1e-400", "-0.0", "0e9", "0.1", "100.0", "1E2"]),
    ).map(lambda text: Number(text if re.search(r"[.eE]", text) else f"{text}.0"))


def scalars(*, surrogates: bool = True) -> st.SearchStrategy[Json]:
    return st.one_of(st.none(), st.booleans(), integers(), floats(), strings(surrogates=surrogates))


def values(*, surrogates: bool = True) -> st.SearchStrategy[Json]:
    """Any value, nested a few levels."""
    nested = st.recursive(
        scalars(surrogates=surrogates),
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            st.dictionaries(strings(surrogates=surrogates), inner, max_size=4),
        ),
        max_leaves=8,
    )
    # Leaves are counted there, not levels: one in twenty thousand would be deeper than any payload.
    return nested.filter(lambda value: count_levels(value) <= 40)


def payloads(*, surrogates: bool = True) -> st.SearchStrategy[dict[str, Json]]:
    """Objects, nested a few levels."""
    return st.dictionaries(
        strings(surrogates=surrogates), values(surrogates=surrogates), max_size=4
    )


def deep_payloads() -> st.SearchStrategy[dict[str, Json]]:
    """Objects within 200 to 450 levels of arrays and objects."""
    return st.builds(_wrap, payloads(), st.integers(200, 450))


def _wrap(value: Json, levels: int) -> dict[str, Json]:
    for level in range(levels):
        value = [value] if level % 2 else {"in": value}
    return {"deep": value}


# Spellings.


def spell(value: Json, random: Random | None = None) -> bytes:
    """The value as JSON: as short as it gets, or in any way that means the same."""
    return _spell(value, random).encode("utf-8")


def permute(value: Json, random: Random) -> Json:
    """The same value with the members of every object in another order."""
    if isinstance(value, dict):
        keys = list(value)
        random.shuffle(keys)
        return {key: permute(value[key], random) for key in keys}
    if isinstance(value, list):
        return [permute(item, random) for item in value]
    return value


def _spell(value: Json, random: Random | None) -> str:
    space = "" if random is None else _space(random)
    match value:
        case None | True | False:
            text = {None: "null", True: "true", False: "false"}[value]
        case Number():
            text = value.text if random is None else _spell_number(value.text, random)
        case str():
            text = _spell_string(value, random)
        case list():
            text = "[" + (",".join(_spell(item, random) for item in value) or space) + "]"
        case dict():
            members = [
                f"{space}{_spell_string(key, random)}{space}:{_spell(item, random)}"
                for key, item in value.items()
            ]
            if random is not None and members and random.random() < 0.2:
                # A repeated key: the last one counts, whatever the earlier one holds.
                index = random.randrange(len(members))
                key = list(value)[index]
                lost = random.choice(_OVERWRITTEN)
                place = random.randrange(index + 1)
                members.insert(place, f"{_spell_string(key, random)}:{lost}")
            text = "{" + (",".join(members) or space) + "}"
    return f"{space}{text}{space}"


_OVERWRITTEN = (
    "[1.50,null,{}]",
    "18446744073709551616",
    '"\\ud800"',
    "1e400",
    "[" * 300 + "]" * 300,
    '{"a":' * 600 + "1" + "}" * 600,
)


def _space(random: Random) -> str:
    return "".join(random.choices(" \t\n\r", k=random.choice([0, 0, 0, 1, 3])))


_short = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _spell_string(text: str, random: Random | None) -> str:
    return '"' + "".join(_spell_character(character, random) for character in text) + '"'


def _spell_character(character: str, random: Random | None) -> str:
    code = ord(character)
    must = code < 0x20 or character in '"\\' or 0xD800 <= code < 0xE000
    if not must and (random is None or random.random() < 0.7):
        return character
    if character in _short and (random is None or random.random() < 0.5):
        return _short[character]
    if character == "/" and random is not None and random.random() < 0.5:
        return "\\/"
    units = character.encode("utf-16-be", "surrogatepass")
    escape = "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
    if random is not None and random.random() < 0.5:
        escape = re.sub("[a-f]", lambda match: match[0].upper(), escape)
    return escape


def _spell_number(text: str, random: Random) -> str:
    """The same decimal value; an integer has but one spelling, zero excepted."""
    match = re.fullmatch(r"(-?)(\d+)(?:\.(\d+))?(?:([eE])([-+]?\d+))?", text)
    assert match is not None, text
    sign, whole, fraction, mark, power = match.groups("")
    if not (whole + fraction).strip("0"):
        sign = random.choice(["", "-"])
    if not fraction and not mark:
        return sign + whole
    digits, exponent = whole + fraction, int(power or 0) - len(fraction)
    if random.random() < 0.4:
        zeros = random.randrange(1, 25)
        digits, exponent = digits + "0" * zeros, exponent - zeros
    if not mark and random.random() < 0.5:  # as it was, perhaps with zeros at the end
        return f"{sign}{digits[: len(whole)]}.{digits[len(whole) :]}"
    digits = digits.lstrip("0") or "0"
    point = random.randrange(1, len(digits) + 1)
    exponent += len(digits) - point
    tail = f".{digits[point:]}" if point < len(digits) else ""
    plus = random.choice(["", "+", "+00"]) if exponent >= 0 else ""
    return f"{sign}{digits[:point]}{tail}{random.choice('eE')}{plus}{exponent}"


# Changes.


def change(value: Json, random: Random) -> Json:
    """The value with one thing in it changed: a value, a type, a digit, the order, a key.

    Some changes come back to an equal value (two equal items swapped): compare :func:`exact`.
    """
    if isinstance(value, dict) and value and random.random() < 0.9:
        key = random.choice(list(value))
        choice = random.random()
        if choice < 0.6:
            return {**value, key: change(value[key], random)}
        rest = {name: item for name, item in value.items() if name != key}
        return rest if choice < 0.8 else {**rest, _pair_surrogates(key + "x"): value[key]}
    if isinstance(value, list) and value and random.random() < 0.9:
        index = random.randrange(len(value))
        choice = random.random()
        if choice < 0.6:
            return [*value[:index], change(value[index], random), *value[index + 1 :]]
        if choice < 0.8:
            return value[:index] + value[index + 1 :]
        return value[::-1] if choice < 0.9 else [value]
    if isinstance(value, Number) and random.random() < 0.9:
        return _change_number(value, random)
    if isinstance(value, str) and value and random.random() < 0.8:
        index = random.randrange(len(value))
        other = random.choice(['"', "\\", "a", "\ud800", "\ud801", "😀", ""])
        return _pair_surrogates(value[:index] + other + value[index + 1 :])
    return random.choice([None, True, False, "", "null", [], {}, Number("0"), Number("1"), [value]])


def _change_number(number: Number, random: Random) -> Json:
    """Another digit, another exponent, a digit more, or the same text as a string."""
    text = number.text
    places = [index for index, character in enumerate(text) if character.isdigit()]
    index = random.choice(places)
    digit = random.choice([d for d in "0123456789" if d != text[index]])
    changed = random.choice(
        [
            text[:index] + digit + text[index + 1 :],
            text[:index] + digit + text[index:],
            f"-{text}".replace("--", ""),
            text if re.search("[eE]", text) else f"{text}e1",
        ]
    )
    if not re.fullmatch(r"-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?", changed):
        return text
    return Number(changed)
