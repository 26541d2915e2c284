"""The hash algorithms: canonical bytes and a key -> an unsigned integer of at most 53 bits.

The registry alone decides which algorithms exist and which need a key. A node writes the name of
its algorithm into its store, and nodes that disagree reject a sync: a name never changes its
meaning. ``docs/hash.md`` says which one to choose and how likely collisions are.
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

    ``compute(canonical, key)`` returns an integer of at most ``bits`` bits. ``key_bytes`` is the
    longest key, 0 for an algorithm without a key; anyone can forge payloads that share such a hash.
    """

    name: str
    bits: int
    key_bytes: int
    compute: Callable[[bytes, bytes], int]

    @property
    def keyed(self) -> bool:
        return self.key_bytes > 0

    def check_key(self, key: bytes) -> None:
        """Raise :class:`SettingsError` for a key that is missing or too long."""
        if self.keyed and not 1 <= len(key) <= self.key_bytes:
            raise SettingsError(
                f"HASH_KEY: HASH={self.name} needs a key of 1 to {self.key_bytes} bytes "
                f"(got {len(key)})"
            )


def _compute_crc32c(canonical: bytes, key: bytes) -> int:
    """Return the CRC-32C (RFC 3720, appendix B.4); in hardware where the processor has it."""
    checksum: int = _crc32c(canonical)
    return checksum


def _compute_blake2b(canonical: bytes, key: bytes) -> int:
    """Return the first 53 bits, big-endian, of a keyed BLAKE2b (RFC 7693) of 8 bytes."""
    if len(key) > hashlib.blake2b.MAX_KEY_SIZE:
        raise SettingsError("HASH_KEY: must be at most 64 bytes")
    digest = hashlib.blake2b(canonical, digest_size=8, key=key).digest()
    return int.from_bytes(digest, "big") >> 11


#: The registry; the first one is the default. Every JSON reader holds 53 bits exactly (RFC 8259,
#: section 6).
ALGORITHMS: Mapping[str, Algorithm] = {
    algorithm.name: algorithm
    for algorithm in (
        Algorithm("crc32c", 32, 0, _compute_crc32c),
        Algorithm("blake2b", 53, hashlib.blake2b.MAX_KEY_SIZE, _compute_blake2b),
    )
}
DEFAULT_ALGORITHM = next(iter(ALGORITHMS))


def check_algorithm(name: str) -> Algorithm:
    """Return the algorithm of this name. Raises :class:`SettingsError` for an unknown name."""
    algorithm = ALGORITHMS.get(name)
    if algorithm is None:
        raise SettingsError(f"HASH: must be one of {', '.join(ALGORITHMS)} (got {name!r})")
    return algorithm
