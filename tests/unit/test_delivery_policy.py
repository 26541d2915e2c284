"""Which responses are retried, and when."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portable_core.webhooks.delivery_policy import (
    MAX_RETRY_AFTER_S,
    Policy,
    classify,
    parse_retry_after,
)
from portable_core.webhooks.delivery_request import Outcome

NOW_S = 1_800_000_000


@pytest.mark.parametrize(
    ("text", "delay"),
    [
        ("0", 0),
        (" 7 ", 7),
        ("99999999999999999999", MAX_RETRY_AFTER_S),
        (formatdate(NOW_S + 90, usegmt=True), 90),
        ("Fri, 15 Jan 2027 08:01:30 GMT", 90),
        ("Friday, 15-Jan-27 08:01:30 GMT", 90),
        ("Fri Jan 15 08:01:30 2027", 90),
        (formatdate(NOW_S - 90, usegmt=True), 0),
        (formatdate(NOW_S + 90_000, usegmt=True), MAX_RETRY_AFTER_S),
        ("-5", 0),
        ("1.5", 0),
        ("\u0663", 0),
        ("soon", 0),
        ("", 0),
        ("Fri, 99 Jan 2027 08:01:30 GMT", 0),
    ],
)
def test_retry_after(text: str, delay: float) -> None:
    assert parse_retry_after(text, NOW_S) == delay


@given(st.text(max_size=60))
def test_no_text_breaks_it_or_delays_too_long(text: str) -> None:
    assert 0 <= parse_retry_after(text, NOW_S) <= MAX_RETRY_AFTER_S


@pytest.mark.parametrize(
    ("kind", "statuses"),
    [
        ("delivered", (200, 202, 204, 299)),
        ("temporary", (0, 408, 425, 429, 500, 502, 503, 504, 599)),
        ("rejected", (100, 301, 302, 307, 400, 401, 403, 404, 413, 422)),
        ("gone", (410,)),
    ],
)
def test_what_a_status_means(kind: str, statuses: tuple[int, ...]) -> None:
    assert {classify(Outcome(status)) for status in statuses} == {kind}


@given(attempts=st.integers(1, 10_000), random=st.floats(0, 1, exclude_max=True))
def test_a_delay_is_between_zero_and_twice_the_one_before_up_to_the_cap(
    attempts: int, random: float
) -> None:
    policy = Policy(base_s=0.5, cap_s=40.0)
    most = [0.5, 1, 2, 4, 8, 16, 32, 40]
    limit = most[min(attempts, len(most)) - 1]
    assert policy.delay(attempts, random) == pytest.approx(random * limit)
