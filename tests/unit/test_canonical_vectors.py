"""Every vector of ``tests/vectors/hash``: canonical forms, differences, malformed payloads."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from portable_core import MalformedPayload, canonicalize, hash_payload
from portable_core.payload_hash.algorithms import ALGORITHMS
from portable_core.payload_hash.canonical import is_plain
from portable_core.payload_hash.exact import canonicalize_exactly

VECTORS = Path(__file__).parent.parent / "vectors" / "hash"


def load(name: str, key: str = "vectors") -> list[Any]:
    vectors: list[Any] = json.loads((VECTORS / f"{name}.json").read_bytes())[key]
    return vectors


@pytest.mark.parametrize("vector", load("crc32c"), ids=lambda vector: vector["name"])
def test_crc32c(vector: dict[str, Any]) -> None:
    computed = ALGORITHMS["crc32c"].compute(bytes.fromhex(vector["bytes"]), b"")
    assert f"{computed:08x}" == vector["crc32c"]


@pytest.mark.parametrize("vector", load("canonical"), ids=lambda vector: vector["rule"])
def test_canonical_form_and_hashes(vector: dict[str, Any]) -> None:
    canonical = vector["canonical"].encode()
    for text in [*vector["payloads"], vector["canonical"]]:
        payload = text.encode()
        assert canonicalize(payload) == canonical
        assert canonicalize_exactly(payload) == canonical
        assert hash_payload(payload) == vector["crc32c"]
        assert hash_payload(payload, "blake2b", b"a key") == vector["blake2b"]


@pytest.mark.parametrize("pair", load("different", "pairs"), ids=json.dumps)
def test_values_that_must_differ(pair: dict[str, str]) -> None:
    one = f'{{"a":{pair["one"]}}}'.encode()
    other = f'{{"a":{pair["other"]}}}'.encode() if "other" in pair else b"{}"
    assert canonicalize(one) != canonicalize(other)
    assert canonicalize_exactly(one) != canonicalize_exactly(other)
    assert hash_payload(one, "blake2b") != hash_payload(other, "blake2b")
    # A pair that a reader of doubles, or of UTF-16, could mix up is not called plain on both sides.
    if json.dumps(json.loads(one, parse_int=float)) == json.dumps(json.loads(other)):
        assert not (is_plain(one) and is_plain(other))


@pytest.mark.parametrize("vector", load("refused"), ids=lambda vector: vector["why"])
def test_malformed_payloads_and_their_offsets(vector: dict[str, Any]) -> None:
    payload = base64.b64decode(vector["bytes"])
    for refuse in (canonicalize, canonicalize_exactly, hash_payload):
        with pytest.raises(MalformedPayload) as caught:
            refuse(payload)
        assert caught.value.offset == vector["offset"]
        assert str(caught.value).endswith(f" (at byte {vector['offset']})")
        assert "\n" not in str(caught.value)
    assert not is_plain(payload)


def test_every_prefix_of_a_payload_is_malformed() -> None:
    payload = rb' {"a":[-1.5e+3,"\ud83d\u00e9",true,null,{"b":false}],"":{}}'
    canonicalize(payload)
    for length in range(len(payload)):
        with pytest.raises(MalformedPayload) as caught:
            canonicalize(payload[:length])
        assert caught.value.offset is not None
        assert caught.value.offset <= length
