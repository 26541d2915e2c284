"""Webhooks for load tests: repeatable, cheap to make, spelled differently for every node.

A webhook is one of the samples with a member of its own, ``delivery``, spliced into a spelling that
was made beforehand: re-spelling 11 kB costs more than a millisecond, and a load generator that is
slower than what it loads measures itself.
"""

from __future__ import annotations

import json
from functools import cached_property
from random import Random

from portable_core.demo.spelling import respell
from portable_core.demo.traffic import SAMPLES

#: Spellings of each sample; a webhook's spelling for a node is one of them.
SPELLINGS = 4

#: What a large webhook holds besides its name, in bytes: between these, evenly by magnitude.
LARGE_BYTES = (100_000, 4_000_000)


class Webhooks:
    """As many webhooks as one likes, by number; the same seed makes the same ones.

    ``large``: the share of large ones. ``small``: the samples' few kilobytes are left out, so that
    a busy machine can send more.
    """

    def __init__(self, seed: int, large: float = 0.0, *, small: bool = False) -> None:
        self._seed = seed
        self._large = large
        self._small = small

    @cached_property
    def _spelled(self) -> list[list[bytes]]:
        random = Random(self._seed)
        texts = [file.read_bytes() for file in sorted(SAMPLES.glob("*.json"))]
        if self._small:
            members = [json.loads(text) for text in texts]
            texts = [json.dumps({"action": m.get("action")}).encode() for m in members]
        random.shuffle(texts)
        return [
            [respell(text, random).lstrip().removeprefix(b"{") for _ in range(SPELLINGS)]
            for text in texts
        ]

    def name(self, number: int) -> str:
        """The webhook's ``delivery``: what senders put into a header, too."""
        return f"{self._seed:x}-{number:08x}"

    def spell(self, number: int, spelling: int) -> bytes:
        """The body of one webhook in one of its spellings."""
        name = self.name(number)
        random = Random(name)
        if random.random() < self._large:
            low, high = LARGE_BYTES
            size = int(low * (high / low) ** random.random())
            white = b" " * (spelling % SPELLINGS)
            return b'{%b"delivery":"%b","filler":"%b"}' % (white, name.encode(), b"x" * size)
        samples = self._spelled
        sample = samples[number % len(samples)][spelling % SPELLINGS]
        return b'{"delivery":"%b",%b' % (name.encode(), sample)
