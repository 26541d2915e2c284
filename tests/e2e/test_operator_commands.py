"""The commands that ask running nodes: status, webhooks, verify, replay; with their exit codes."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from portable_core.adapters.sqlite import SqliteStore
from portable_core.demo.cluster import Cluster
from portable_core.payload_hash.canonical import hash_payload
from portable_core.records import Meta, Pair, Record, format_sort_key
from tests.support.nodes.receivers import run_receiver
from tests.support.stores.sqlite_folders import list_data_files

WEBHOOKS = 1000
REMOVED = 654
MANY = 100_000

BIN = Path(sys.executable).parent


def make_records(count: int = WEBHOOKS) -> list[Record]:
    """In order, up to some minutes ago, each with bytes of its own spelling."""
    random = Random(10)
    start = time.time_ns() // 1_000_000 - 200_000 - count * 100
    records = []
    for number in range(count):
        payload = b'{ "number":%d, "note":"\\u00e9 %d" }' % (number, random.getrandbits(40))
        pair = Pair(start + number * 100, hash_payload(payload))
        meta = Meta("shop", {"content-type": "application/json", "x-event-key": "sold"})
        records.append(Record(pair, payload, meta))
    return records


def fill(folder: Path, records: list[Record]) -> None:
    store = SqliteStore(str(folder))
    store.open("crc32c")
    for begin in range(0, len(records), 2_000):
        store.append(records[begin : begin + 2_000])
    store.close()


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return make_records()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, records: list[Record]) -> Iterator[Cluster]:
    """A slave with all records and a master from which one was deleted."""
    folder = tmp_path_factory.mktemp("commands")
    fill(folder / "slave-1", records)
    fill(folder / "master", [*records[:REMOVED], *records[REMOVED + 1 :]])
    cluster = Cluster(folder, 1)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def run(cluster: Cluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {
        "MASTER_URL": cluster.master.url,
        "SYNC_TOKENS": cluster.token,
        "PATH": os.environ["PATH"],
    }
    return subprocess.run(
        [str(BIN / "webhook-sync"), *arguments], capture_output=True, text=True, timeout=60, env=env
    )


def format_record(record: Record) -> str:
    return f"{record.pair.timestamp}-{record.pair.hash}"


def test_verify_finds_the_one_that_was_removed_and_changes_nothing(
    cluster: Cluster, records: list[Record]
) -> None:
    slave = ("--slave", "slave-1")
    assert run(cluster, "status").returncode == 1
    for _ in range(2):
        done = run(cluster, "verify", *slave, "--json")
        assert done.returncode == 1, done.stderr
        (line,) = done.stdout.splitlines()
        missing = json.loads(line)
        assert missing["id"] == format_record(records[REMOVED])
        assert (missing["source"], missing["event"], missing["key"]) == ("shop", "sold", None)
    before = str(records[REMOVED].pair.timestamp)
    assert run(cluster, "verify", *slave, "--until", before).returncode == 0
    assert run(cluster, "sync", "--master", cluster.master.url).returncode == 0
    done = run(cluster, "verify", *slave)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "nothing is missing" in done.stderr
    done = run(cluster, "status", "--json")
    assert (done.returncode, json.loads(done.stdout)["ok"]) == (0, True)


def test_verify_names_the_slave_or_its_address(cluster: Cluster) -> None:
    url = cluster.slaves[0].url
    by_name = run(cluster, "verify", "--slave", "slave-1", "--json")
    assert by_name.returncode in (0, 1), by_name.stderr
    by_address = run(cluster, "verify", "--slave-url", url, "--json")
    older = run(cluster, "verify", "--slave", url, "--json")
    for done in (by_address, older):
        assert (done.returncode, done.stdout) == (by_name.returncode, by_name.stdout), done.stderr
    assert by_address.stderr == ""
    assert older.stderr.startswith("Warning: --slave: an address is deprecated")
    unknown = run(cluster, "verify", "--slave", "slave-9")
    assert unknown.returncode == 3
    assert "no slave named 'slave-9'. It has: slave-1." in unknown.stderr
    for wrong in ((), ("--slave", "slave-1", "--slave-url", url)):
        assert run(cluster, "verify", *wrong).returncode == 2


def test_verify_finds_one_among_many(tmp_path: Path) -> None:
    """One row is deleted from the master's file, past all of the program."""
    records = make_records(MANY)
    gone = Random(11).choice(records)
    fill(tmp_path / "slave-1", records)
    fill(tmp_path / "master", records)
    deleted = 0
    for path in list_data_files(tmp_path / "master"):
        connection = sqlite3.connect(path)
        with connection:
            query = "DELETE FROM unnamed WHERE key = ?"
            deleted += connection.execute(query, [format_sort_key(gone.pair)]).rowcount
        connection.close()
    assert deleted == 1
    cluster = Cluster(tmp_path, 1)
    try:
        cluster.start()
        begun = time.monotonic()
        done = run(cluster, "verify", "--slave", "slave-1", "--json")
        took = time.monotonic() - begun
    finally:
        cluster.stop()
    print(f"verify compared {MANY} webhooks in {took:.2f} s and found: {done.stdout.strip()}")
    assert done.returncode == 1, done.stderr
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == [format_record(gone)]


def test_webhooks_are_listed_shown_and_exported(cluster: Cluster, records: list[Record]) -> None:
    run(cluster, "sync", "--master", cluster.master.url)
    page = json.loads(run(cluster, "webhooks", "list", "--limit", "3", "--json").stdout)
    newest = [format_record(record) for record in records[:-4:-1]]
    assert [row["id"] for row in page["webhooks"]] == newest
    listed = run(cluster, "webhooks", "list", "--hash", str(records[REMOVED].pair.hash)).stdout
    assert "recovered from slave-1" in listed
    one = format_record(records[5])
    assert run(cluster, "webhooks", "show", one, "--raw").stdout == records[5].payload.decode()
    assert '"number": 5' in run(cluster, "webhooks", "show", one).stdout
    assert run(cluster, "webhooks", "show", "1-1").returncode == 1
    lines = run(cluster, "webhooks", "export").stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == list(map(format_record, records))
    rest = run(cluster, "webhooks", "export", "--after", format_record(records[989])).stdout
    assert len(rest.splitlines()) == 10
    for source, count in (("shop", WEBHOOKS), ("-", 0), ("", WEBHOOKS)):
        exported = run(cluster, "webhooks", "export", "--source", source).stdout
        assert len(exported.splitlines()) == count


def test_a_second_replay_sends_only_what_failed(
    cluster: Cluster, records: list[Record], tmp_path: Path
) -> None:
    run(cluster, "sync", "--master", cluster.master.url)
    seen: set[bytes] = set()

    def answer(body: bytes) -> int:
        number = json.loads(body)["number"]
        known = body in seen
        seen.add(body)
        if number % 10 or known:
            return 200
        return (500, 302, 404)[number // 10 % 3]

    with run_receiver(answer) as receiver:
        command = ("replay", receiver.url, "--since", "1h", "--results", str(tmp_path / "results"))
        first = run(cluster, *command, "--json")
        assert first.returncode == 1, first.stderr
        totals = json.loads(first.stdout)
        assert (totals["delivered"], totals["failed"]) == (900, 100)
        assert totals["by_status"] == {"200": 900, "302": 33, "404": 33, "500": 34}
        assert [body for _, body in receiver.taken] == [record.payload for record in records]
        assert receiver.taken[0][0]["x-event-key"] == "sold"
        receiver.taken.clear()
        second = run(cluster, *command, "--json")
        assert second.returncode == 0, second.stderr
        assert [body for _, body in receiver.taken] == [r.payload for r in records[::10]]
        receiver.taken.clear()
        assert run(cluster, *command).returncode == 0
        assert receiver.taken == []


def test_what_cannot_be_reached_is_said_in_one_line(cluster: Cluster) -> None:
    done = run(cluster, "status", "--master", "http://127.0.0.1:9")
    assert done.returncode == 3
    assert "Is the master running" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    done = run(cluster, "webhooks", "list", "--token", "wrong")
    assert (done.returncode, "401" in done.stderr) == (3, True)
    assert run(cluster, "webhooks", "list", "--since", "yesterday").returncode == 2


def test_shells_complete_the_commands(cluster: Cluster) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert "_WEBHOOK_SYNC_COMPLETE" in run(cluster, "completion", shell).stdout
