"""The rules of a delivery: which responses are retried, when, and for how long.

Pure: times are arguments, in seconds; randomness is a number in ``[0, 1)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Literal

from portable_core.webhooks.delivery_request import Outcome

#: The longest ``Retry-After`` that is honoured.
MAX_RETRY_AFTER_S = 3600.0

#: Responses 4xx that a retry may change (RFC 9110, section 15.5; RFC 8470, section 5.2).
_TEMPORARY = (408, 425, 429)
_GONE = 410

#: What an outcome means:
#:
#: - ``delivered``: the receiver accepted the webhook.
#: - ``temporary``: a retry may succeed: no response, 5xx, 408, 425, 429.
#: - ``rejected``: a retry is likely to fail: other responses.
#: - ``gone``: 410, the receiver no longer exists.
Kind = Literal["delivered", "temporary", "rejected", "gone"]

#: After 410: stop, or make the webhook a dead letter and continue.
WhenGone = Literal["stop", "dead-letter"]


@dataclass(frozen=True, slots=True)
class Policy:
    """How webhooks are delivered.

    - ``concurrency``: the largest number of webhooks in flight.
    - ``ordered``: a webhook is sent once the one before it from the same source is delivered or a
      dead letter.
    - ``rate``: the largest number of requests a second; None for no limit.
    - ``base_s``, ``cap_s``: the delay before retry ``n`` is random, from 0 to
      ``min(cap_s, base_s * 2 ** (n - 1))`` (exponential backoff with full jitter).
    - ``retry_for_s``: a webhook whose failures are temporary becomes a dead letter that long after
      its first request; None for never.
    - ``rejections``: a webhook that was rejected so many times becomes a dead letter.
    - ``when_gone``: what follows a response 410.
    - ``window``, ``window_bytes``: the largest number of webhooks, and of their bytes, that are
      read and not yet delivered.
    - ``ahead``: the largest number of webhooks that are read after the first one that is not yet
      delivered, most of which are delivered.
    """

    concurrency: int = 1
    ordered: bool = True
    rate: float | None = None
    base_s: float = 0.25
    cap_s: float = 60.0
    retry_for_s: float | None = 3 * 86_400.0
    rejections: int = 5
    when_gone: WhenGone = "stop"
    window: int = 10_000
    window_bytes: int = 64 * 2**20
    ahead: int = 100_000

    def delay(self, attempts: int, random: float) -> float:
        """Return the delay after ``attempts`` failed requests."""
        exponent = min(attempts - 1, 60)
        return random * min(self.cap_s, self.base_s * 2.0**exponent)


def classify(outcome: Outcome) -> Kind:
    """Return what an outcome means. A redirect is not followed: it counts as rejected."""
    status = outcome.status
    if outcome.ok:
        return "delivered"
    if status == _GONE:
        return "gone"
    if status == 0 or status >= 500 or status in _TEMPORARY:
        return "temporary"
    return "rejected"


def asks_to_pause(outcome: Outcome) -> bool:
    """Return whether ``Retry-After`` concerns every request, not only the one webhook's."""
    return outcome.status in (429, 503)


def parse_retry_after(text: str, now_s: float) -> float:
    """Return the delay in seconds that ``Retry-After`` asks for (RFC 9110, section 10.2.3).

    ``now_s`` is the time since the Unix epoch. Returns 0 for a date in the past and for an invalid
    value, and at most ``MAX_RETRY_AFTER_S``.
    """
    text = text.strip()
    if text.isascii() and text.isdecimal():
        return MAX_RETRY_AFTER_S if len(text) > 9 else min(float(text), MAX_RETRY_AFTER_S)
    try:
        delay = parsedate_to_datetime(text).timestamp() - now_s
    except (ValueError, OverflowError, TypeError, IndexError):
        return 0.0
    return min(max(delay, 0.0), MAX_RETRY_AFTER_S)
