"""A process that uses a SQLite store, for tests that kill it or make it wait.

``python -m tests.support.stores.sqlite_child append FOLDER START`` appends batches until it is
killed and prints each batch's last timestamp once ``append`` has returned; ``hold FOLDER`` opens
the store, prints ``open`` and waits for its input to end; ``wait FOLDER`` tries to open it until it
can and prints ``open``, appends a record, and prints ``done``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from portable_core.adapters.sqlite import SqliteStore
from portable_core.errors import StoreLocked
from tests.support.stores.samples import HOUR, NOON, make_record
from tests.support.stores.sqlite_folders import ALGORITHM

#: Batches that the appending process puts into an hour before it goes on to the next.
BATCHES_AN_HOUR = 40
BATCH = 7


def report(text: object) -> None:
    print(text, flush=True)


def append(folder: Path, start: int) -> None:
    store = SqliteStore(folder)
    store.open(ALGORITHM)
    timestamp, count = start, 0
    while True:
        records = [make_record(timestamp + i, i % 3) for i in range(BATCH)]
        store.append(records, 10)
        report(records[-1].pair.timestamp)
        count += 1
        if count % 7 == 0:
            store.raise_mark("horizon", timestamp + BATCH)
        timestamp += BATCH if count % BATCHES_AN_HOUR else HOUR


def hold(folder: Path) -> None:
    store = SqliteStore(folder)
    store.open(ALGORITHM)
    report("open")
    sys.stdin.read()
    store.close()


def wait(folder: Path) -> None:
    store = SqliteStore(folder, lock_wait_s=0.5)
    while True:
        try:
            store.open(ALGORITHM)
            break
        except StoreLocked:
            report("locked")
    report("open")
    store.append([make_record(NOON + 1, 2)])
    report("done")
    store.close()


if __name__ == "__main__":
    command, path, *rest = sys.argv[1:]
    if command == "append":
        append(Path(path), int(rest[0]))
    else:
        {"hold": hold, "wait": wait}[command](Path(path))
