"""A limit for wrong tokens: so many a minute from one address."""

from __future__ import annotations

import ipaddress
import math
import threading
from collections import OrderedDict, deque

#: The most wrong tokens from one address within so many seconds.
MOST_GUESSES = 5
WINDOW_S = 60.0

#: The most addresses that are remembered. Beyond that, the one whose last guess is the oldest is
#: forgotten.
_MOST_ADDRESSES = 10_000

#: The bits of an IPv6 address that a provider assigns to one customer.
_IPV6_PREFIX = 64


class Guesses:
    """The times of wrong tokens by address. Safe to use from any thread.

    Every ``now`` is a time in seconds of a clock that the date does not move.
    """

    def __init__(self, most_addresses: int = _MOST_ADDRESSES) -> None:
        self._lock = threading.Lock()
        self._most_addresses = most_addresses
        #: The address with the oldest last guess is the first one.
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def begin(self, address: str, now: float) -> int:
        """Return the seconds until this address may send a token; 0 notes one now.

        It counts as wrong until :meth:`end`, so that requests at the same time are no way around.
        """
        network = _find_network(address)
        with self._lock:
            times = self._times.setdefault(network, deque(maxlen=MOST_GUESSES))
            if len(times) == MOST_GUESSES and now < times[0] + WINDOW_S:
                return math.ceil(times[0] + WINDOW_S - now)
            times.append(now)
            self._times.move_to_end(network)
            if len(self._times) > self._most_addresses:
                self._times.popitem(last=False)
            return 0

    def end(self, address: str) -> None:
        """Forget the guesses of an address, which had the right token."""
        with self._lock:
            self._times.pop(_find_network(address), None)


def _find_network(address: str) -> str:
    """Return the network of one client: an IPv4 address, or a prefix of an IPv6 address."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return ""
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is None:
            return str(ipaddress.ip_network((found.packed, _IPV6_PREFIX), strict=False))
        found = found.ipv4_mapped
    return str(found)
