"""The ``data`` map equals the payload, or is missing for a stated reason."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.cloud.firestore_v1 import types
from hypothesis import given
from hypothesis import strategies as st

from portable_core.adapters.firestore.native import NotNative, fill_map

Value = types.Value.pb()


def nest(depth: int) -> bytes:
    return b'{"a":' * depth + b"1" + b"}" * depth


def read(value: Any) -> object:
    """Return a ``Value`` message as Python values."""
    kind = value.WhichOneof("value_type")
    if kind == "map_value":
        return {name: read(item) for name, item in value.map_value.fields.items()}
    if kind == "array_value":
        return [read(item) for item in value.array_value.values]
    return None if kind == "null_value" else getattr(value, kind)


def convert(payload: bytes) -> object:
    value = Value()
    fill_map(payload, value)
    return read(value)


@pytest.mark.parametrize(
    "payload",
    [
        b"{}",
        b'{"a":[],"b":{},"c":null,"d":true,"e":"\\u2603"}',
        b'{"a":[{"b":[1]},{"b":[[]][0:0]}]}'.replace(b"[[]][0:0]", b"[]"),
        b'{"a":9223372036854775807,"b":-9223372036854775808}',
        b'{"a":0.1,"b":1.0,"c":1e300,"d":-0.0,"e":1.50,"f":1e2}',
        b'{"_":1,"__":2,"__a":3,"a__":4,"a.b`c":5}',
        nest(20),
    ],
)
def test_a_map_equals_its_payload(payload: bytes) -> None:
    assert convert(payload) == json.loads(payload)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b'{"a":[[1]]}', "an array lies directly in an array"),
        (b'{"a":{"__x__":1}}', "'__x__' is reserved"),
        (b'{"____":1}', "is reserved"),
        (b'{"__a\\n__":1}', "is reserved"),
        (b'{"":1}', "a name is empty"),
        (b'{"%s":1}' % (b"n" * 1501), "longer than 1500 bytes"),
        (nest(21), "nested more than 20 deep"),
        (nest(30), "nested more than 20 deep"),
        (b'{"a":9223372036854775808}', "more than 64 bits"),
        (b'{"a":%s}' % (b"7" * 60), "more than 64 bits"),
        (b'{"a":1e400}', "64-bit float"),
        (b'{"a":0.1000000000000000000001}', "64-bit float"),
        (b'{"a":1e-400}', "64-bit float"),
        (b'{"a":0e99999999999999999999}', "too large an exponent"),
        (b'{"a":1e99999999999999999999}', "too large an exponent"),
        (b'{"a":-1.5e-10000000000000000000000000}', "too large an exponent"),
        (b'{"a":"\\ud83d"}', "JSON|surrogate"),
        (b'{"\\ud83d":1}', "JSON|surrogate"),
        (b"[1]", "not an object"),
        (b'{"a":', "JSON"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "JSON|deep"),
    ],
)
def test_the_reason_for_a_missing_map(payload: bytes, reason: str) -> None:
    with pytest.raises(NotNative, match=reason):
        convert(payload)


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
names = st.text(min_size=1, max_size=5).filter(lambda name: not name.startswith("__"))
values = st.recursive(
    scalars,
    lambda inner: (
        st.dictionaries(names, inner, max_size=4)
        | st.lists(inner.filter(lambda item: not isinstance(item, list)), max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(names, values, max_size=4))
def test_every_map_reads_back_equal(payload: dict[str, object]) -> None:
    assert convert(json.dumps(payload).encode()) == payload
