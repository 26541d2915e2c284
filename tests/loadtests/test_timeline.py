"""The course of a run: which webhooks the master lacked, and when."""

from __future__ import annotations

from loadtests.ledger import Acknowledged, digest_value
from loadtests.timeline import Course, Timeline, follow_course, note_presence
from portable_core.records import Meta, Pair, Record, Recovery

BEGUN_MS = 1_000_000
A, B, C = b'{"n":1}', b'{"n":2}', b'{"n":3}'


def acknowledge(body: bytes, at: float) -> Acknowledged:
    return Acknowledged("slave-1", Pair(BEGUN_MS + round(at * 1000), 1), digest_value(body), at)


def make(body: bytes, at: float, recovered: float | None = None) -> Record:
    recovery = None if recovered is None else Recovery("slave-1", BEGUN_MS + int(recovered * 1000))
    return Record(Pair(BEGUN_MS + int(at * 1000), 1), body, Meta(), recovery)


def follow(*records: Record, lost: tuple[Record, ...] = (), lost_at: float = 0.0) -> Course:
    told = [acknowledge(A, 1), acknowledge(A, 1.5), acknowledge(B, 2), acknowledge(C, 3)]
    gone = note_presence(lost, BEGUN_MS + int(lost_at * 1000))
    presences = [*note_presence(records), *gone]
    return follow_course(Timeline(0.0, BEGUN_MS), told, presences)


def test_what_was_never_received_is_missing_until_it_is_recovered() -> None:
    course = follow(make(A, 1), make(B, 2, recovered=7), make(C, 3, recovered=9))
    assert course.missing == [(2, 1), (3, 2), (7, 1), (9, 0)]
    assert course.recovered == [(7, 1), (9, 2)]


def test_what_is_lost_stays_missing() -> None:
    assert follow(make(A, 1), make(C, 3)).missing == [(2, 1)]


def test_what_accidents_took_from_the_master_is_missing_from_then_on() -> None:
    course = follow(
        *(make(A, 1, recovered=8), make(B, 2)), lost=(make(A, 1), make(C, 3, 4)), lost_at=5
    )
    assert course.missing == [(3, 1), (4, 0), (5, 1), (5, 2), (8, 1)]
    assert course.recovered == [(4, 1), (8, 2)]
