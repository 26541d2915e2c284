"""The request of a delivery: its signature, its marks, its query string."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from portable_core.records import Meta, Pair, Record
from portable_core.webhooks.delivery_request import (
    describe_delivery,
    make_headers,
    quote_query,
)

SECRET = "whsec_c2VjcmV0IG9mIHRoZSB0ZXN0cw=="
KEY = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize("payload", [b'{"a":12.0}', b'{\n "a" : 1 }', b'{"\xc3\xa9":2}'])
def test_a_standard_receiver_accepts_the_signature(payload: bytes) -> None:
    record = Record(Pair(5, 7), payload, Meta("s", {"webhook-id": "msg_of_sender"}, key=KEY))
    headers = make_headers(record, SECRET, int(time.time()))
    assert headers["webhook-id"] == KEY
    Webhook(SECRET).verify(payload, headers)


def test_marks_identify_the_webhook_and_kept_marks_are_not_sent() -> None:
    kept = {"webhook-sync-key": "forged", "webhook-sync-delivery": "forged", "x-a": "b"}
    record = Record(Pair(5, 7), b"{}", Meta("caf\u00e9/x", kept, key=KEY))
    assert make_headers(record, "", 1) == {"content-type": "application/json", "x-a": "b"}
    assert describe_delivery(record, "forwarded", 3) == {
        "webhook-sync-delivery": "forwarded",
        "webhook-sync-attempt": "3",
        "webhook-sync-id": "5-7",
        "webhook-sync-key": KEY,
        "webhook-sync-source": "caf%C3%A9%2Fx",
    }
    bare = describe_delivery(Record(Pair(5, 7), b"{}"), "replayed")
    assert [*bare] == [f"webhook-sync-{name}" for name in ("delivery", "attempt", "id")]


@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#"), min_size=1)
)
def test_a_valid_query_is_sent_as_it_is(query: str) -> None:
    assert quote_query(query) == query


def test_bytes_that_no_request_line_carries_are_encoded() -> None:
    assert quote_query("a=\u00e9&b= x#y\r\n") == "a=%E9&b=%20x%23y%0D%0A"
