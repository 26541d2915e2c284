"""Ways in which a slave breaks the protocol, and what a sync says of each: :data:`CASES`."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from msgspec import structs

from portable_core.records import Pair, Record
from portable_core.wire.negotiation import ENCODINGS
from tests.support.nodes.hostile_slave import MSGPACK, UUID, HostileSlave, Talk
from tests.support.nodes.sync_nodes import make_record, now_ms

NOW = now_ms()
#: The beginning of what every hostile slave says it has.
FIRST = NOW - 1_800_000
MOST_RECORDS = 1000
MOST_BYTES = 8_000_000

Handler = Callable[[Talk], None]


@dataclass(frozen=True)
class Case:
    """What a slave does, and what its report says: of ``error`` and of how many records."""

    answer: Handler
    error: str
    saved: int = 0
    set_aside: int = 0
    warning: str = ""
    describe: Handler | None = None


def describe(talk: Talk, **changes: object) -> None:
    now = now_ms()
    document = {
        "store": UUID,
        "generation": 1,
        "first": FIRST,
        "horizon": now,
        "now": now,
        "span": 120_000,
        "hash": "crc32c",
        "encodings": list(ENCODINGS),
    }
    body = json.dumps(document | changes).encode()
    talk.send_whole("200 OK", body, Content_Type="application/json")


def describe_as(**changes: object) -> Handler:
    return lambda talk: describe(talk, **changes)


@dataclass(frozen=True)
class Window:
    """``first`` says whether it is the first one asked for: what was saved of it moves the cursor,
    and the master asks again from there. Then a slave gets no further, or this would go on."""

    start: int
    end: int
    first: bool

    def take(self, count: int) -> list[Record]:
        """Records that this hostile slave alone has, in order; none in a later window."""
        stamp = time.monotonic_ns()
        return [make_record(stamp + n, FIRST + n) for n in range(count)] if self.first else []

    @property
    def before(self) -> Record:
        return make_record(0, self.start - 1)


def begin(talk: Talk) -> Window:
    """Read the request; send the head of an answer."""
    for _ in talk.read_body():
        pass
    query = re.search(rb"start=(\d+)&end=(\d+)", talk.head)
    assert query is not None
    start, end = map(int, query.groups())
    talk.send_head(Sync_Store=f"{UUID}/1", Sync_Through=str(end))
    return Window(start, end, start == FIRST)


def send_records(talk: Talk, records: Iterable[Record], *, whole: bool = True) -> None:
    chunks = list(ENCODINGS[MSGPACK].encode_records(records))
    talk.send_chunk(b"".join(chunks if whole else chunks[:-1]))
    if whole:
        talk.end()


def drip(talk: Talk) -> None:
    window = begin(talk)
    for chunk in ENCODINGS[MSGPACK].encode_records(window.take(1000)):
        for position in range(len(chunk)):
            talk.send_chunk(chunk[position : position + 1])
            time.sleep(0.01)


def break_the_order(talk: Talk) -> None:
    window = begin(talk)
    one, two, three = window.take(3) or [window.before] * 3
    send_records(talk, [one, three, two])


def repeat_a_record(talk: Talk) -> None:
    window = begin(talk)
    send_records(talk, (window.take(1) or [window.before]) * 2)


def leave_the_window(talk: Talk) -> None:
    window = begin(talk)
    send_records(talk, [*window.take(2), make_record(3, window.end)])


def go_before_the_window(talk: Talk) -> None:
    window = begin(talk)
    send_records(talk, [window.before, *window.take(2)])


def give_wrong_hashes(talk: Talk) -> None:
    right, *wrong = begin(talk).take(4)
    send_records(
        talk,
        [
            right,
            *(structs.replace(r, pair=Pair(r.pair.timestamp, r.pair.hash ^ 1)) for r in wrong[:2]),
            structs.replace(wrong[2], payload=b"{not JSON"),
        ],
    )


def send_garbage(talk: Talk) -> None:
    begin(talk)
    talk.send_chunk(bytes(range(256)) * 40)
    talk.end()


def send_garbage_later(talk: Talk) -> None:
    send_records(talk, begin(talk).take(3), whole=False)
    talk.send_chunk(b"\x93\x01\x02\x03" * 10)
    talk.end()


def send_more_after_the_end(talk: Talk) -> None:
    chunks = b"".join(ENCODINGS[MSGPACK].encode_records(begin(talk).take(2)))
    talk.send_chunk(chunks + b"\xc0")
    talk.end()


def never_end(talk: Talk) -> None:
    """Records without end, all within the window."""
    window = begin(talk)
    number = 0
    while True:
        records = [make_record(n, window.start + n // 2) for n in range(number, number + 100)]
        send_records(talk, sorted(records, key=lambda record: record.pair), whole=False)
        number += 100


def never_end_one(talk: Talk) -> None:
    """One record that announces 60 MB, which comes too slowly to be whole in time."""
    begin(talk)
    talk.send_chunk(b"\x94\x01\xcf" + FIRST.to_bytes(8, "big") + b"\x80\xc6\x03\x93\x87\x00")
    while True:
        talk.send_chunk(b"x" * 65_536)
        time.sleep(0.02)


def stop_in_the_middle(talk: Talk) -> None:
    send_records(talk, begin(talk).take(3), whole=False)
    talk.end()


def break_off(talk: Talk) -> None:
    send_records(talk, begin(talk).take(3), whole=False)
    time.sleep(0.2)  # a reset would overtake the records
    talk.reset()


def fall_silent(talk: Talk) -> None:
    send_records(talk, begin(talk).take(3), whole=False)
    talk.wait_for_end()


def say_nothing(talk: Talk) -> None:
    talk.wait_for_end()


def read_and_close(talk: Talk) -> None:
    for _ in talk.read_body():
        pass


def answer_with(status: str, body: bytes = b"", **headers: str) -> Handler:
    return lambda talk: talk.send_whole(status, body, **headers)


def change_the_store(talk: Talk) -> None:
    for _ in talk.read_body():
        pass
    talk.send_head(Sync_Store=f"{UUID}/2")
    talk.end()


HTML = b"<!DOCTYPE html><title>Sign in</title><p>Please sign in.</p>"
PROBLEM = b'{"title":"Unauthorized","status":401,"detail":"the token is not one of ours"}'

CASES: dict[str, Case] = {
    "drips": Case(drip, "", saved=-1, warning="a limit of this sync was reached"),
    "order": Case(break_the_order, "Malformed stream: .* comes after .*", saved=2),
    "twice": Case(repeat_a_record, "Malformed stream: .* comes after .*", saved=1),
    "beyond": Case(leave_the_window, "Malformed stream: .* is not in the window", saved=2),
    "before": Case(go_before_the_window, "Malformed stream: .* comes after .*"),
    "hashes": Case(give_wrong_hashes, "", saved=1, set_aside=3),
    "garbage": Case(send_garbage, "Malformed stream: element 0: .*"),
    "garbage-later": Case(send_garbage_later, "Malformed stream: element 0: .*", saved=3),
    "more": Case(send_more_after_the_end, "Malformed stream: .* continues after .*", saved=2),
    "endless": Case(never_end, "", saved=-1, warning="a limit of this sync was reached"),
    "endless-one": Case(never_end_one, "Limit reached: nothing could be saved within .*"),
    "no-mark": Case(stop_in_the_middle, "Stream cut: .* without its closing mark", saved=3),
    "reset": Case(break_off, "Slave unreachable: .*", saved=3),
    "silent": Case(fall_silent, "Slave unreachable: .* timeout: no bytes for 1 s", saved=3),
    "mute": Case(say_nothing, "Slave unreachable: .* timeout: no response for 1 s"),
    "closes": Case(read_and_close, "Slave unreachable: .* without a response"),
    "302": Case(
        answer_with("302 Found", Location="https://login.example/x"),
        "Slave refused: .* answered 302, a redirect to login.example. Redirects are not .*",
    ),
    "401": Case(
        answer_with("401 Unauthorized", PROBLEM, Content_Type="application/problem+json"),
        "Slave refused: .* answered 401: the token is not one of ours. Is the same token in .*",
    ),
    "404": Case(answer_with("404 Not Found"), "Slave refused: .* answered 404. Is it the .*"),
    "429": Case(answer_with("429 Too Many Requests"), "Slave refused: .* answered 429"),
    "500": Case(answer_with("500 Oops", b"Traceback: x"), "Slave refused: .*500: Traceback: x"),
    "html": Case(
        answer_with("200 OK", HTML, Content_Type="text/html"),
        "Invalid response: .* text/html, not .*\\. Is it the .*",
    ),
    "store": Case(change_the_store, "Slave refused: the slave's store has another epoch .*"),
    "describe-html": Case(
        say_nothing,
        "Invalid response: .* text/html, not application/json\\. .*",
        describe=answer_with("200 OK", HTML, Content_Type="text/html"),
    ),
    "describe-garbage": Case(
        say_nothing,
        "Invalid response: .* invalid JSON: .*",
        describe=answer_with("200 OK", b"{", Content_Type="application/json"),
    ),
    "describe-less": Case(
        say_nothing,
        "Invalid response: .* GET /sync: horizon: .*",
        describe=describe_as(horizon=None),
    ),
    "span": Case(
        say_nothing,
        "Invalid response: span: the slave has 1 ms, the master 120000 ms; set the same SPAN_S",
        describe=describe_as(span=1),
    ),
    "hash": Case(
        say_nothing,
        "Invalid response: hash: the slave has blake2b-1, the master crc32c; set the same HASH .*",
        describe=describe_as(hash="blake2b-1"),
    ),
    "clock": Case(
        say_nothing,
        "Clocks differ: clock: the slave's is [0-9.]+ s behind the master's, or .* Compare both .*",
        describe=describe_as(now=1),
    ),
}


def serve(case: Case) -> HostileSlave:
    def handle(talk: Talk) -> None:
        if talk.read_head().startswith(b"GET "):
            (case.describe or describe)(talk)
        else:
            case.answer(talk)

    return HostileSlave(handle)
