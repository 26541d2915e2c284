"""The ledger's arithmetic: a harness that cannot fail proves nothing."""

from __future__ import annotations

import pytest
from msgspec import structs

from loadtests.ledger import Excuse, Ledger, Verdict, digest_value, find_needless
from portable_core.payload_hash.canonical import hash_payload
from portable_core.records import Meta, Pair, Record, Recovery

SPAN = 1000
BODY = b'{"n": 1}'
HASH = hash_payload(BODY)
DELIVERY = "x-github-delivery"
META = Meta("", {"content-type": "application/json", DELIVERY: "1"})

#: Two payloads with one crc32c.
COLLIDING = (b'{"n":19899720567}', b'{"n":827585941002}')


def make(timestamp: int, fetched: int | None = None, slave: str = "slave-1") -> Record:
    recovery = None if fetched is None else Recovery(slave, fetched)
    return Record(Pair(timestamp, HASH), BODY, META, recovery)


@pytest.fixture
def ledger() -> Ledger:
    """One webhook, sent to both nodes, acknowledged by the slave at 5,000."""
    ledger = Ledger(SPAN)
    value = ledger.add(1, BODY)
    for node in ("master", "slave-1"):
        ledger.send(node, value, "", BODY, "1")
    ledger.acknowledge("slave-1", value, Pair(5000, HASH), 0.1)
    return ledger


def judge(ledger: Ledger, *records: Record, excuses: tuple[Excuse, ...] = ()) -> Verdict:
    return ledger.judge(records, excuses=excuses)


def test_a_webhook_is_represented_up_to_one_span_away(ledger: Ledger) -> None:
    for timestamp in (4000, 5000, 6000):
        assert judge(ledger, make(timestamp)).holds
    for timestamp in (3999, 6001):
        verdict = judge(ledger, make(timestamp))
        assert [webhook.node for webhook in verdict.missing] == ["slave-1"]
        assert not verdict.holds


def test_what_was_not_acknowledged_may_be_missing_or_stored(ledger: Ledger) -> None:
    value = ledger.add(2, b'{"n":2}')
    ledger.send("master", value, "", b'{"n":2}', "1")
    stored = Record(Pair(9000, hash_payload(b'{"n":2}')), b'{"n":2}', META)
    assert judge(ledger, make(5000)).holds
    assert judge(ledger, make(5000), stored).holds


def test_a_fetched_record_beside_the_masters_own_is_needless(ledger: Ledger) -> None:
    verdict = judge(ledger, make(4500), make(5000, fetched=7000))
    assert [held.pair.timestamp for held in verdict.needless] == [5000]
    assert judge(ledger, make(3999), make(5000, fetched=7000)).holds  # later than a span: new


def test_of_two_fetched_records_the_later_one_is_needless(ledger: Ledger) -> None:
    first, second = make(5400, fetched=7000), make(5000, fetched=8000, slave="slave-2")
    assert [held.slave for held in judge(ledger, first, second).needless] == ["slave-2"]


def test_a_needless_copy_that_was_found_earlier_counts_once(ledger: Ledger) -> None:
    records = [make(4500), make(5000, fetched=7000)]
    earlier = find_needless(records, SPAN)
    for left in (records, records[:1]):  # it is still there, and it is gone
        verdict = ledger.judge(left, needless=earlier)
        assert [held.pair.timestamp for held in verdict.needless] == [5000]


def test_copies_that_senders_brought_are_not_needless_but_counted(ledger: Ledger) -> None:
    verdict = judge(ledger, make(4800), make(5000))
    assert [held.pair.timestamp for held in verdict.needless] == [5000]  # sent to it once only
    value = next(iter(ledger.values))
    ledger.send("master", value, "", BODY, "1")
    verdict = judge(ledger, make(4800), make(5000))
    assert verdict.holds
    assert verdict.repeated == 1


def test_what_nobody_sent_is_found(ledger: Ledger) -> None:
    foreign = Record(Pair(5000, hash_payload(b'{"n":3}')), b'{"n":3}', META)
    assert judge(ledger, make(5000), foreign).foreign == 1
    respelled = structs.replace(make(5000), payload=b'{"n":1}')
    assert judge(ledger, respelled).altered == 1
    for meta in (Meta("other", META.headers), Meta(), Meta("", {DELIVERY: "2"})):
        assert judge(ledger, structs.replace(make(5000), meta=meta)).altered == 1


def test_a_collision_represents_but_is_told(ledger: Ledger) -> None:
    first, second = COLLIDING
    for number, body in enumerate(COLLIDING, 2):
        ledger.send("master", ledger.add(number, body), "", body, "1")
    pair = Pair(7000, hash_payload(first))
    ledger.acknowledge("slave-1", digest_value(first), pair, 0.2)
    verdict = judge(ledger, make(5000), Record(pair, second, META))
    assert verdict.hidden == 1
    assert verdict.holds


def test_a_payload_under_the_pair_of_a_lost_one_is_no_collision(ledger: Ledger) -> None:
    other = b'{"n":2}'
    ledger.send("master", ledger.add(2, other), "", other, "1")
    verdict = judge(ledger, Record(Pair(5000, HASH), other, META))
    assert (verdict.altered, verdict.holds) == (1, False)


def test_a_hash_that_is_not_the_payloads_is_a_fault(ledger: Ledger) -> None:
    value = next(iter(ledger.values))
    ledger.acknowledge("master", value, Pair(5000, HASH), 0.2)
    assert judge(ledger, make(5000)).holds
    ledger.acknowledge("master", value, Pair(5001, HASH + 1), 0.3)
    stored = structs.replace(make(5001), pair=Pair(5001, HASH + 1))
    verdict = judge(ledger, make(5000), stored)
    assert (verdict.mistold, verdict.altered, verdict.missing) == (1, 1, ())
    assert not verdict.holds


def test_only_what_no_store_holds_is_excused(ledger: Ledger) -> None:
    excuse = Excuse("slave-1", frozenset({Pair(5000, HASH)}))
    verdict = judge(ledger, excuses=(excuse,))
    assert (verdict.holds, verdict.excused) == (True, 1)
    value = next(iter(ledger.values))
    assert not ledger.judge([], excuses=[excuse], elsewhere={value}).holds
    other = Excuse("slave-1", frozenset({Pair(5001, HASH)}))
    assert not judge(ledger, excuses=(other,)).holds
