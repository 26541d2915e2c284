"""The hash algorithms by name: canonical bytes and a key -> an unsigned integer of at most 53 bits.

A node writes the name of its algorithm into its store, and nodes that disagree refuse to sync: a
name never changes its meaning. ``docs/hash.md`` says which to choose and how likely collisions are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import google_crc32c

from portable_core.errors import SettingsError

_crc32c = google_crc32c.value


class Algorithm(NamedTuple):
    """One row of the registry.

    ``compute(canonical, key)`` returns an integer of at most ``bits`` bits. ``keyed`` says whether
    the key matters; without one that is secret, anybody can make payloads that share a hash.
    """

    name: str
    bits: int
    keyed: bool
    compute: Callable[[bytes, bytes], int]


def _compute_crc32c(canonical: bytes, key: bytes) -> int:
    """CRC-32C (RFC 3720, appendix B.4), by the processor's own instruction where there is one."""
    checksum: int = _crc32c(canonical)
    return checksum


def _compute_blake2b(canonical: bytes, key: bytes) -> int:
    """Keyed BLAKE2b (RFC 7693) of 8 bytes, of which the first 53 bits as a big-endian integer."""
    if len(key) > hashlib.blake2b.MAX_KEY_SIZE:
        raise SettingsError("HASH_KEY: must be at most 64 bytes")
    digest = hashlib.blake2b(canonical, digest_size=8, key=key).digest()
    return int.from_bytes(digest, "big") >> 11


#: The registry. 53 bits are what every JSON reader holds exactly (RFC 8259, section 6).
ALGORITHMS: Mapping[str, Algorithm] = {
    algorithm.name: algorithm
    for algorithm in (
        Algorithm("crc32c", 32, keyed=False, compute=_compute_crc32c),
        Algorithm("blake2b", 53, keyed=True, compute=_compute_blake2b),
    )
}


def check_algorithm(name: str) -> Algorithm:
    """The algorithm of this name. Raises :class:`SettingsError` if there is none."""
    algorithm = ALGORITHMS.get(name)
    if algorithm is None:
        raise SettingsError(f"HASH: must be one of {', '.join(ALGORITHMS)}, not {name!r}")
    return algorithm
