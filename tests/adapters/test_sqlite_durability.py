"""Records are durable once ``append`` has returned, whatever happens to the process."""

from __future__ import annotations

import pickle
import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlitedict

from portable_core.adapters.sqlite.reader import TABLE
from portable_core.adapters.sqlite.writer import Writer, build_inserts
from portable_core.ports import SlaveState
from portable_core.records import format_sort_key
from tests.support.stores.samples import HOUR, NOON, make_record, make_records
from tests.support.stores.sqlite_child import BATCH
from tests.support.stores.sqlite_folders import (
    ALL,
    fill,
    list_data_files,
    opened,
    read_timestamps,
)

ROUNDS = 8


def test_a_killed_writer_loses_no_confirmed_record(tmp_path: Path) -> None:
    choice = random.Random(11)
    confirmed: list[int] = []
    start = NOON
    generations = set()
    for _ in range(ROUNDS):
        command = [
            sys.executable,
            "-m",
            "tests.support.stores.sqlite_child",
            "append",
            str(tmp_path),
        ]
        with subprocess.Popen([*command, str(start)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for _ in range(choice.randrange(30, 120)):
                confirmed.append(int(process.stdout.readline()))
            process.kill()  # somewhere in the middle of what follows
            confirmed += [int(line) for line in process.stdout.read().split(b"\n")[:-1]]
        with opened(tmp_path) as store:
            there = set(read_timestamps(store))
            for last in confirmed:
                assert there.issuperset(range(last - BATCH + 1, last + 1))
            records = list(store.records(*ALL))
            assert len(records) == len(there)
            assert all(r == make_record(r.pair.timestamp, r.pair.hash) for r in records)
            assert store.status().damaged == ()
            generations.add(store.info())
            start = max(there) + 1
    assert len(generations) == 1  # a crash is no restored backup
    print(f"kills: {ROUNDS}, confirmed: {len(confirmed) * BATCH}, stored: {len(there)}, lost: 0")


def find_writing_threads(folder: Path) -> list[sqlitedict.SqliteMultithread]:
    return [
        thread
        for thread in threading.enumerate()
        if isinstance(thread, sqlitedict.SqliteMultithread)
        and Path(thread.filename).parent == folder
    ]


def test_the_writing_connections_are_synchronous_full(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.append([make_record(NOON), make_record(NOON + HOUR), make_record(NOON - HOUR)])
        store.append([make_record(NOON - HOUR + 1)])
        threads = find_writing_threads(tmp_path)
        names = {Path(thread.filename).name for thread in threads}
        assert "state.sqlite3" in names
        assert len(names) >= 2
        for thread in threads:
            assert thread.select_one("PRAGMA synchronous") == (2,)
            assert thread.select_one("PRAGMA journal_mode") == ("wal",)
    assert find_writing_threads(tmp_path) == []


def test_a_failed_statement_commits_nothing_of_its_batch(tmp_path: Path) -> None:
    """An error rolls back, and the next statement would begin a new transaction."""
    path = tmp_path / "x.sqlite3"
    until = threading.TIMEOUT_MAX
    writer = Writer(path, (TABLE,), 1)
    writer.open(until)
    good = [
        (rowid, format_sort_key(r.pair), b"value") for rowid, r in enumerate(make_records(3), 1)
    ]
    broken = ("INSERT OR ROLLBACK INTO unnamed (rowid, key, value) VALUES (1, 'a', x'')", ())
    writer.commit(build_inserts(TABLE, good[:1]), until)
    with pytest.raises(Exception, match="UNIQUE"):
        writer.commit(
            [
                *build_inserts(TABLE, good[1:2]),
                broken,
                *build_inserts(TABLE, good[2:]),
            ],
            until,
        )
    assert writer.ended
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM unnamed").fetchone() == (1,)
    connection.close()


# -- no pickle -------------------------------------------------------------------------------------


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return (Path.touch, (self.path,))


def test_nothing_is_pickled_or_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("pickle was used")

    for module, name in [
        (pickle, "dumps"),
        (pickle, "loads"),
        (sqlitedict, "dumps"),
        (sqlitedict, "loads"),
        (sqlitedict, "encode"),
        (sqlitedict, "decode"),
    ]:
        monkeypatch.setattr(module, name, refuse)
    for _ in range(2):
        with opened(tmp_path) as store:
            store.append(make_records(5))
            lease = store.acquire_lease("a", NOON, 5)
            store.save_slave(lease, "s", SlaveState(cursor=NOON))
            store.release_lease(lease)
            assert list(store.records(*ALL)) == make_records(5)
            assert store.slave_states() == {"s": SlaveState(cursor=NOON)}


def test_a_pickle_in_a_file_is_only_bytes(tmp_path: Path) -> None:
    folder, witness = tmp_path / "store", tmp_path / "exploded"
    bomb = pickle.dumps(Bomb(witness))
    fill(folder, make_records(3))
    connection = sqlite3.connect(list_data_files(folder)[0])
    connection.execute(
        "UPDATE unnamed SET value = ? WHERE rowid = (SELECT min(rowid) + 1 FROM unnamed)",
        (bomb,),
    )
    connection.commit()
    connection.close()
    connection = sqlite3.connect(folder / "state.sqlite3")
    connection.execute("INSERT INTO state VALUES ('slave:s', ?)", (bomb,))
    connection.commit()
    connection.close()
    with opened(folder) as store:
        list(store.records(*ALL))
        store.slave_states()
        assert len(store.status().damaged) == 2
    assert not witness.exists()
    pickle.loads(bomb)
    assert witness.exists()
