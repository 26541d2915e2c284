"""crc32c can be forged: a JSON object with the hash of another takes a moment. blake2b cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from portable_core import canonicalize, hash_payload
from portable_core.payload_hash.algorithms import ALGORITHMS

SAMPLES = sorted((Path(__file__).parents[2] / "portable_core" / "samples").glob("*.json"))


def forge(content: bytes, target: int) -> bytes:
    """Return an object with ``content`` (members of an object, canonical) and this crc32c.

    A checksum is linear over GF(2): each bit of a message flips the same bits of the sum whatever
    the others are. So 48 letters, each b or c (one bit apart), are 48 switches; which of them bring
    the 32 bits of the sum to ``target`` is a system of linear equations.
    """
    letters = 48
    start, end = b"{" + content + b',"zzz":"', b'"}'

    def crc(switches: int) -> int:
        text = bytes(0x62 + (switches >> letter & 1) for letter in range(letters))
        return ALGORITHMS["crc32c"].compute(start + text + end, b"")

    zero = crc(0)
    rows: dict[int, tuple[int, int]] = {}  # leading bit -> what flips, with which switches

    def reduce(bits: int, switches: int) -> tuple[int, int]:
        while bits and bits.bit_length() in rows:
            row = rows[bits.bit_length()]
            bits, switches = bits ^ row[0], switches ^ row[1]
        return bits, switches

    for letter in range(letters):
        bits, switches = reduce(crc(1 << letter) ^ zero, 1 << letter)
        if bits:
            rows[bits.bit_length()] = (bits, switches)
    rest, switches = reduce(zero ^ target, 0)
    assert rest == 0
    text = bytes(0x62 + (switches >> letter & 1) for letter in range(letters))
    return start + text + end


@pytest.mark.parametrize("sample", SAMPLES[:5], ids=lambda path: path.stem)
def test_crc32c_is_forged_and_blake2b_unmoved(sample: Path) -> None:
    payload = sample.read_bytes()
    forged = forge(b'"action":"transfer","amount":1000000', hash_payload(payload))
    assert canonicalize(forged) == forged != canonicalize(payload)
    assert hash_payload(forged) == hash_payload(payload)
    for key in (b"", b"a key", b"another"):
        assert hash_payload(forged, "blake2b", key) != hash_payload(payload, "blake2b", key)
