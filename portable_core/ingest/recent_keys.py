"""The keys of the webhooks that a master stored last, to count later retries."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress

#: How many keys are remembered: a retry of a webhook longer ago is not counted as a repeat.
RECENT_KEYS = 50_000


class RecentKeys:
    """The keys that this process stored last. Safe to use from several threads."""

    def __init__(self, most: int = RECENT_KEYS) -> None:
        self._most = most
        self._keys: OrderedDict[str, None] = OrderedDict()

    def add(self, key: str) -> bool:
        """Add a key; return whether it was there."""
        if not key:
            return False
        known = key in self._keys
        self._keys[key] = None
        if len(self._keys) > self._most:
            with suppress(KeyError):  # another thread was faster
                self._keys.popitem(last=False)
        return known
