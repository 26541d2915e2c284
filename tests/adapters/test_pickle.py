"""No pickle is read or written by the SQLite store, proven on running nodes.

sqlitedict pickles unless it is told otherwise, and unpickling runs whatever a file says. Here
pickles lie wherever a store keeps something, each of which would make a file when it is loaded.
"""

from __future__ import annotations

import json
import pickle
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.nodes.sync_nodes import TOKEN, Nodes, start
from tests.support.requests.bad_requests import ask, known, post
from tests.support.requests.raw_http import exchange
from tests.support.stores.sqlite_folders import list_data_files

HOUR_S = 3600


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return (Path.touch, (self.path,))


def plant(folder: Path, bomb: bytes) -> None:
    """Put the pickle in the place of a record's value and of a value of the state."""
    for path in list_data_files(folder):
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(
                "UPDATE unnamed SET value = ? WHERE rowid = (SELECT min(rowid) + 1 FROM unnamed)",
                (bomb,),
            )
    with closing(sqlite3.connect(folder / "state.sqlite3")) as connection, connection:
        connection.execute("INSERT INTO state VALUES ('slave:planted', ?)", (bomb,))


def read_all_values(folder: Path) -> list[bytes]:
    """Every value of every table of every file in the folder, as bytes."""
    values = []
    for path in folder.glob("*.sqlite3"):
        with closing(sqlite3.connect(path)) as connection:
            tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            for (table,) in tables.fetchall():
                for row in connection.execute(f'SELECT * FROM "{table}"'):
                    values += [v.encode() if isinstance(v, str) else v for v in row]
    return [value for value in values if isinstance(value, bytes)]


def is_pickle(value: bytes) -> bool:
    """Whether it begins as pickles of protocol 2 and later do; sqlitedict writes the highest."""
    return value[:1] == b"\x80" and value[1:2] <= bytes([pickle.HIGHEST_PROTOCOL])


@pytest.mark.parametrize("role", ["slave", "master"])
def test_nothing_is_unpickled_or_pickled(tmp_path: Path, role: str) -> None:
    witness = tmp_path / "exploded"
    bomb = pickle.dumps(Bomb(witness))
    assert is_pickle(bomb)
    with Nodes(tmp_path) as nodes:
        node = nodes.make_slave("node") if role == "slave" else nodes.make_master({}, name="node")
        folder = tmp_path / "node"
        while time.time() % HOUR_S > HOUR_S - 60:  # all of it has to be in one file
            time.sleep(1)
        start(node)
        for number in range(5):
            assert exchange(node.port, post(b'{"n":%d}' % number)).status == 200
        assert node.stop() == 0
        assert not any(map(is_pickle, read_all_values(folder)))

        plant(folder, bomb)
        start(node)
        assert exchange(node.port, post(b'{"n":"after"}')).status == 200
        for request in (
            known("GET", "/sync"),
            known("POST", f"/sync?start=0&end={2**53 - 1}", body=b"[]"),
            known("GET", "/webhooks", "Accept: application/x-ndjson"),
            known("GET", "/webhooks", "Accept: application/json"),
            known("GET", "/pairs"),
            known("POST", "/trigger-sync"),
        ):
            assert exchange(node.port, request).status < 500 or role == "slave"
        # The file with the planted value is passed over; what comes now goes into another.
        assert exchange(node.port, post(b'{"n":"later"}')).status == 200
        answer = exchange(node.port, ask("GET", "/status", f"Authorization: Bearer {TOKEN}"))
        assert node.stop() == 0
        damaged = json.loads(answer.body)["store"]["damaged"]
        assert damaged, "the planted values are not reported"
        held = [json.loads(record.payload) for record in nodes.read(node)]
        assert {"n": "later"} in held
    assert not witness.exists()
    pickle.loads(bomb)
    assert witness.exists(), "the proof proves nothing: the pickle does not explode"
