"""What a slave holds of large payloads while it answers: one or two, not all that are missing."""

from __future__ import annotations

import random
import tracemalloc
from pathlib import Path

from portable_core.adapters.sqlite.store import SqliteStore
from portable_core.adapters.system_clock import SystemClock
from portable_core.ingest.receiver import Receiver
from portable_core.records import MAX_INTEGER, Pair, Record
from portable_core.settings import Settings
from portable_core.sync.slave import Slave, SyncQuery
from portable_core.wire.negotiation import ENCODINGS

SIZE = 4 * 2**20
COUNT = 30


def test_memory_does_not_grow_with_the_number_of_large_payloads(tmp_path: Path) -> None:
    env = {"STORE": f"sqlite:{tmp_path}", "SYNC_AUTH": "none"}
    receiver = Receiver(Settings.from_env("slave", env), SqliteStore(str(tmp_path)), SystemClock())
    receiver.open()
    noise = random.Random(1).randbytes(SIZE)
    for number in range(COUNT):
        receiver.store.append([Record(Pair(1_700_000_000_000 + number, number), noise)])
    slave = Slave(receiver)
    answer = slave.answer(SyncQuery(0, MAX_INTEGER, 120_000, "crc32c"), [])
    sent = 0
    tracemalloc.start()
    try:
        for chunk in ENCODINGS["application/vnd.msgpack"].encode_records(answer.records):
            sent += len(chunk)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        answer.close()
        receiver.close()
    assert sent > COUNT * SIZE
    assert peak < 6 * SIZE
    assert (slave.counters.records_sent, slave.counters.gone) == (COUNT, 0)
