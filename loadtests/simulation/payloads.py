"""What senders send: new webhooks, the same ones again, awkward ones, forged collisions."""

from __future__ import annotations

from random import Random

from portable_core.payload_hash.canonical import hash_payload
from portable_core.records import Meta

#: Texts of a payload that a JSON reader may not carry exactly, or that are spelled unusually.
_AWKWARD = (
    b'{"n":%d,"x":1e400}',
    b'{"n":%d,"x":"\\ud83d"}',
    b'{ "n" : %d,\n "x" : [0.1000000000000000000001, -0.0, {}] }',
    b'{"n":%d,"x":"\\u00e9\xc3\xa9\\/"}',
)

_LETTERS = 64  # of a forged payload; each is one of two that differ in one bit


class Payloads:
    """Makes payloads; each new one differs in value from every other."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._count = 0
        self._sent: list[bytes] = []
        self._family = b""
        #: Payloads of which another one with the same hash may have been sent.
        self.colliding: set[bytes] = set()

    def make_new(self) -> bytes:
        self._count += 1
        random = self._random
        if random.random() < 0.15:
            payload = random.choice(_AWKWARD) % self._count
        else:
            payload = b'{"n":%d,"text":"%s"}' % (self._count, b"x" * random.randrange(40))
        self._sent.append(payload)
        return payload

    def repeat(self) -> bytes:
        """One that was sent before, lately more often than not."""
        if not self._sent:
            return self.make_new()
        return self._random.choice(self._sent[-5:] if self._random.random() < 0.7 else self._sent)

    def forge(self) -> bytes:
        """One of a family of different payloads that all have one hash."""
        if not self._family or self._random.random() < 0.3:
            self._count += 1
            self._family = b"%08d" % self._count
        payload = _write_forged(self._family, self._random.choice(_COLLISIONS))
        self.colliding.add(payload)
        return payload


def make_meta(random: Random) -> Meta:
    source = random.choice(("", "github", "stripe"))
    headers = {"x-delivery": f"{random.getrandbits(32):x}"} if random.random() < 0.5 else {}
    return Meta(source, headers)


def _write_forged(family: bytes, flips: int) -> bytes:
    letters = bytes(0x63 if flips >> place & 1 else 0x61 for place in range(_LETTERS))
    return b'{"forged":"%s%s"}' % (family, letters)


def _find_collisions(count: int) -> list[int]:
    """Sets of flipped letters that leave the CRC-32C of any such payload as it is.

    A CRC is affine over GF(2): flipping a letter adds the same value to it whatever the others are,
    so that 64 letters and 32 bits leave 32 independent ways to cancel out.
    """
    plain = hash_payload(_write_forged(b"0" * 8, 0))
    basis: dict[int, tuple[int, int]] = {}
    found = [0]
    for place in range(_LETTERS):
        flips = 1 << place
        change = plain ^ hash_payload(_write_forged(b"0" * 8, flips))
        while change and change.bit_length() in basis:
            known_change, known_flips = basis[change.bit_length()]
            change, flips = change ^ known_change, flips ^ known_flips
        if change:
            basis[change.bit_length()] = (change, flips)
        else:
            found.append(flips)
        if len(found) == count:
            break
    return found


_COLLISIONS = _find_collisions(5)
