"""Single steps of a delivery: the end of an outage, and what Retry-After keeps."""

from __future__ import annotations

from portable_core.webhooks.delivery import OUTAGE, Delivery
from portable_core.webhooks.delivery_policy import Policy
from portable_core.webhooks.delivery_request import Outcome
from tests.support.delivery.world import Webhook

SLOW = Policy(concurrency=10, base_s=1000.0, cap_s=1000.0)


def start(count: int) -> Delivery[Webhook]:
    """A delivery with this many webhooks in flight, each of another source."""
    delivery: Delivery[Webhook] = Delivery(SLOW, lambda: 0.9)
    for number in range(count):
        delivery.add(Webhook(number, f"s{number}"))
    assert all(delivery.next_attempt(0.0) for _ in range(count))
    return delivery


def test_the_end_of_an_outage_makes_retries_due() -> None:
    delivery = start(OUTAGE + 1)
    for number in range(1, OUTAGE + 1):
        delay = delivery.answer(number, Outcome(0), 1.0, 1.0).delay_s
        assert delay == 900
    assert delivery.next_time(1.0) is None, "one request is in flight, and probes"
    delivery.answer(OUTAGE + 1, Outcome(200), 2.0, 2.0)
    delivery.saved(delivery.changes())
    sent = [delivery.next_attempt(2.0) for _ in range(OUTAGE)]
    assert [attempt.attempt for attempt in sent if attempt] == [2] * OUTAGE


def test_retry_after_outlasts_an_outage() -> None:
    delivery = start(OUTAGE + 1)
    delivery.answer(1, Outcome(500, "", "3000"), 1.0, 1.0)
    for number in range(2, OUTAGE + 1):
        delivery.answer(number, Outcome(0), 1.0, 1.0)
    delivery.answer(OUTAGE + 1, Outcome(200), 2.0, 2.0)
    delivery.saved(delivery.changes())
    assert [bool(delivery.next_attempt(2.0)) for _ in range(OUTAGE)] == [True, True, False]
    assert delivery.next_time(2.0) == 3001.0


def test_a_few_failures_are_no_outage() -> None:
    delivery = start(OUTAGE)
    for number in range(1, OUTAGE):
        delivery.answer(number, Outcome(503), 1.0, 1.0)
    delivery.answer(OUTAGE, Outcome(200), 2.0, 2.0)
    delivery.saved(delivery.changes())
    assert delivery.next_time(2.0) == 901.0
