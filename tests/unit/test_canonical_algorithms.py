"""The registry of hash algorithms, and what they compute over real payloads."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import portable_core
from portable_core import canonicalize, hash_payload
from portable_core.errors import MalformedPayload, SettingsError, WebhookSyncError
from portable_core.payload_hash.algorithms import ALGORITHMS, check_algorithm
from portable_core.records import MAX_INTEGER

SAMPLES = sorted((Path(portable_core.__file__).parent / "samples").glob("*.json"))


@pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=lambda algorithm: algorithm.name)
def test_hashes_fit_their_bits_and_any_json_reader(algorithm: object) -> None:
    row = check_algorithm(getattr(algorithm, "name", ""))
    hashes = [row.compute(b"%d" % number, b"key") for number in range(2_000)]
    assert 2 ** (row.bits - 1) <= max(hashes) < 2**row.bits <= MAX_INTEGER + 1
    assert min(hashes) >= 0
    assert len(set(hashes)) == len(hashes)


def test_real_payloads_all_have_hashes_of_their_own() -> None:
    assert len(SAMPLES) > 40
    canonical = [canonicalize(sample.read_bytes()) for sample in SAMPLES]
    assert len(set(canonical)) == len(SAMPLES)
    for name in ALGORITHMS:
        assert len({hash_payload(text, name, b"key") for text in canonical}) == len(SAMPLES)


def test_blake2b_is_the_first_53_bits_of_eight_keyed_bytes() -> None:
    digest = hashlib.blake2b(b'{"a":1}', digest_size=8, key=b"key").digest()
    assert hash_payload(b'{ "a": 1 }', "blake2b", b"key") == int.from_bytes(digest, "big") // 2**11


def test_the_key_matters_to_blake2b_alone() -> None:
    assert hash_payload(b"{}", key=b"one") == hash_payload(b"{}", key=b"two") == hash_payload(b"{}")
    keyed = {hash_payload(b"{}", "blake2b", key) for key in (b"", b"one", b"two", b"x" * 64)}
    assert len(keyed) == 4


def test_unknown_algorithms_and_long_keys_are_invalid_settings() -> None:
    known = ", ".join(ALGORITHMS)
    for name in ("", "md5", "CRC32C"):
        with pytest.raises(SettingsError, match=rf"^HASH: must be one of {known} \(got '"):
            check_algorithm(name)
        with pytest.raises(SettingsError):
            hash_payload(b"{}", name)
    with pytest.raises(SettingsError, match=r"^HASH_KEY: "):
        hash_payload(b"{}", "blake2b", b"x" * 65)


def test_malformed_payload_is_under_the_one_root() -> None:
    assert issubclass(portable_core.MalformedPayload, WebhookSyncError)
    assert MalformedPayload.status == 400
