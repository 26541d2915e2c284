"""The fault that produces each condition of a node, in real processes.

``store-down`` and ``buffer-full``, of a disk, and ``records-removed``, which takes a minute, are
produced by the tests.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable

from portable_core.demo.processes import NodeProcess
from portable_core.records import Meta, Pair, Record
from portable_core.wire.negotiation import ENCODINGS
from tests.support.nodes.receivers import run_receiver
from tests.support.nodes.sync_nodes import (
    TOKEN,
    Nodes,
    fill,
    make_record,
    now_ms,
    start,
    sync,
)
from tests.support.requests.sync_requests import Question, ask
from tests.support.stores.disk_images import DiskImage
from tests.support.stores.sqlite_damages import overwrite
from tests.support.stores.sqlite_folders import list_data_files

CONSOLE_TOKEN = "c" * 20
BEARER = {"Authorization": f"Bearer {TOKEN}"}
JSON = {"Content-Type": "application/json"}
GONE = "0f8fad5b-d9cb-469f-a165-70867728950e"
HOUR_MS = 3_600_000

Fault = Callable[[Nodes], NodeProcess]


def make_pair(nodes: Nodes, **env: str) -> tuple[NodeProcess, NodeProcess]:
    """Return a slave with old records and a master, both running."""
    fill(nodes.folder / "alpha", [make_record(1, now_ms() - 5 * HOUR_MS)])
    slave = nodes.make_slave("alpha", SPAN_S="1")
    start(slave)
    master = make_master(nodes, {"alpha": slave.url}, **env)
    start(master)
    return slave, master


def make_master(nodes: Nodes, slaves: dict[str, str], **env: str) -> NodeProcess:
    own = {"SPAN_S": "1", "CONSOLE_TOKEN": CONSOLE_TOKEN}
    return nodes.make_master(slaves, "container", **{**own, **env})


def without_slaves(nodes: Nodes) -> NodeProcess:
    master = make_master(nodes, {})
    start(master)
    return master


def before_the_first_sync(nodes: Nodes) -> NodeProcess:
    return make_pair(nodes)[1]


def with_a_dead_slave(nodes: Nodes) -> NodeProcess:
    slave, master = make_pair(nodes)
    slave.kill()
    assert sync(master).status == 502
    return master


def without_a_scheduler(nodes: Nodes) -> NodeProcess:
    _, master = make_pair(nodes, CONSOLE_LATE_S="2")
    assert sync(master).status == 200
    time.sleep(2.5)
    return master


def with_a_slave_that_was_set_back(nodes: Nodes) -> NodeProcess:
    slave, master = make_pair(nodes)
    slave.stop()
    snapshot = DiskImage.take(nodes.folder / "alpha")
    start(slave)
    assert sync(master).status == 200
    slave.kill()
    snapshot.put_back(nodes.folder / "alpha")
    start(slave)
    assert sync(master).status == 200
    return master


def with_a_damaged_file(nodes: Nodes) -> NodeProcess:
    _, master = make_pair(nodes)
    assert sync(master).status == 200
    master.stop()
    overwrite(list_data_files(nodes.folder / "master")[0])
    start(master)
    return master


def with_a_removed_slave(nodes: Nodes) -> NodeProcess:
    _, master = make_pair(nodes)
    assert sync(master).status == 200
    master.stop()
    master.env = {**master.env, "SLAVES": "beta=http://127.0.0.1:9"}
    start(master)
    return master


def with_a_program_that_removes_files(nodes: Nodes) -> NodeProcess:
    _, master = make_pair(nodes)
    for _ in range(2):
        assert sync(master).status == 200
        master.stop()
        for path in list_data_files(nodes.folder / "master"):
            path.unlink()
        start(master)
    (report,) = sync(master).body["slaves"]
    assert (report["saved"], report["again"]) == (1, 1)
    return master


def with_a_bad_record(nodes: Nodes) -> NodeProcess:
    _, master = make_pair(nodes)
    assert sync(master).status == 200
    record = Record(Pair(now_ms() - 10_000, 1), b'{"bad":1}', Meta("shop"))
    body = b"".join(ENCODINGS["application/json"].encode_records([record]))
    question = Question("", "POST", "/records?slave=alpha", {**BEARER, **JSON}, body)
    assert ask(master, question).status == 200
    return master


def with_a_late_master(nodes: Nodes) -> NodeProcess:
    old = now_ms() - 30 * 24 * HOUR_MS
    fill(nodes.folder / "alpha", [make_record(1, old)])
    slave = nodes.make_slave("alpha", SPAN_S="1")
    start(slave)
    query = f"/sync?start={old}&end={old + 1}&span=1000&master={GONE}"
    assert ask(slave, Question("", "POST", query, BEARER, b"[]")).status == 200
    return slave


def start_with_too_small_a_store(nodes: Nodes) -> NodeProcess:
    """Start a slave whose retention removes records in a minute, once :func:`wait_for_gap` runs."""
    day = now_ms() - 24 * HOUR_MS
    fill(nodes.folder / "alpha", [make_record(n, day + n * HOUR_MS, 50_000) for n in range(20)])
    slave = nodes.make_slave("alpha", SPAN_S="1", RETENTION_BYTES="300000")
    start(slave)
    return slave


def wait_for_gap(slave: NodeProcess) -> None:
    """Send webhooks until retention has removed records unsynced."""
    deadline = time.monotonic() + 100  # retention runs once a minute
    for number in itertools.count():
        body = make_record(number, 0).payload
        send(slave, "/webhook", body)
        if json.loads(ask_text(slave, "/status"))["store"]["gaps"]:
            break
        assert time.monotonic() < deadline
        time.sleep(1)


def with_a_forger(nodes: Nodes) -> NodeProcess:
    _, master = make_pair(nodes, SOURCES="hub=github:secret")
    assert sync(master).status == 200
    assert ask(master, Question("", "POST", "/webhook/hub", JSON, b"{}")).status == 401
    return master


def with_an_attempt_counter(nodes: Nodes) -> NodeProcess:
    slave, master = make_pair(nodes)
    assert sync(master).status == 200
    for number in range(8):
        for attempt, node in enumerate((slave, master)):
            body = json.dumps({"order": f"A-{number * 7919}", "attempt": attempt}).encode()
            send(node, "/webhook/shop", body)
    time.sleep(2)
    assert sync(master).status == 200
    return master


def with_a_late_consumer(nodes: Nodes) -> NodeProcess:
    _, master = make_pair(nodes, CONSOLE_LATE_S="2")
    assert sync(master).status == 200
    body = b'{"position":""}'
    put = Question("", "PUT", "/consumers/shop", {**BEARER, **JSON}, body)
    assert ask(master, put).status == 200
    time.sleep(2.5)
    return master


def with_an_abandoned_consumer(nodes: Nodes) -> NodeProcess:
    return keep_for_a_consumer(nodes)


def with_a_quota_for_consumers(nodes: Nodes) -> NodeProcess:
    return keep_for_a_consumer(nodes, CONSUMER_QUOTA_BYTES="0")


def keep_for_a_consumer(nodes: Nodes, **env: str) -> NodeProcess:
    _, master = make_pair(nodes, RETENTION_S="3600", **env)
    put = Question("", "PUT", "/consumers/shop", {**BEARER, **JSON}, b'{"position":""}')
    assert ask(master, put).status == 200
    send(master, "/webhook", b"{}")
    assert sync(master).status == 200
    return master


def with_an_application_that_rejects(nodes: Nodes) -> NodeProcess:
    receiver = nodes.enter(run_receiver(lambda body: 422))
    env = {"FORWARD_URL": receiver.url, "FORWARD_OPTIONS": "--rejections 1"}
    _, master = make_pair(nodes, **env)
    assert sync(master).status == 200
    send(master, "/webhook/shop", b"{}")
    deadline = time.monotonic() + 30
    while not any(each["name"] == "dead-letters" for each in read_conditions(master)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return master


def with_records_of_the_future(nodes: Nodes) -> NodeProcess:
    fill(nodes.folder / "master", [make_record(1, now_ms() + HOUR_MS)])
    return without_slaves(nodes)


def with_a_limit_for_each_slave(nodes: Nodes) -> NodeProcess:
    begin = now_ms() - HOUR_MS
    fill(nodes.folder / "alpha", [make_record(n, begin + n * 60_000) for n in range(40)])
    slave = nodes.make_slave("alpha", SPAN_S="1")
    start(slave)
    env = {"SYNC_SLAVE_RECORDS": "5", "SYNC_WINDOW_S": "60"}
    master = make_master(nodes, {"alpha": slave.url}, **env)
    start(master)
    assert sync(master).status == 200
    return master


def with_a_file_that_comes_back(nodes: Nodes) -> NodeProcess:
    """A consumer has passed the place of records that were missing, and are there again."""
    folder, aside = nodes.folder / "master", nodes.folder / "aside"
    for number in (1, 2):
        fill(folder, [make_record(number, now_ms() - (7 - number) * HOUR_MS)])
    path = list_data_files(folder)[0]
    path.rename(aside)
    master = without_slaves(nodes)
    put = Question("", "PUT", "/consumers/shop", {**BEARER, **JSON}, b'{"position":"now"}')
    assert ask(master, put).status == 200
    master.stop()
    aside.rename(path)
    start(master)
    return master


FAULTS: dict[str, Fault] = {
    "no-slave": without_slaves,
    "never-synced": before_the_first_sync,
    "slave-failed": with_a_dead_slave,
    "slave-late": without_a_scheduler,
    "slave-lost": with_a_slave_that_was_set_back,
    "part-damaged": with_a_damaged_file,
    "slave-removed": with_a_removed_slave,
    "quarantine": with_a_bad_record,
    "master-late": with_a_late_master,
    "webhooks-refused": with_a_forger,
    "recovered-again": with_a_program_that_removes_files,
    "identity-rule": with_an_attempt_counter,
    "consumer-late": with_a_late_consumer,
    "consumer-unknown": with_a_file_that_comes_back,
    "retention-waits": with_an_abandoned_consumer,
    "consumer-missed": with_a_quota_for_consumers,
    "dead-letters": with_an_application_that_rejects,
    "clock": with_records_of_the_future,
    "slave-warning": with_a_limit_for_each_slave,
}


def send(node: NodeProcess, path: str, body: bytes) -> None:
    """Send a webhook, as senders do: again after a 503, which a disk that is busy may cause."""
    question = Question("", "POST", path, JSON, body)
    for _ in range(10):
        answer = ask(node, question)
        if answer.status != 503:
            break
        time.sleep(0.5)
    assert answer.status == 200, answer


def ask_text(node: NodeProcess, path: str) -> str:
    answer = ask(node, Question("", "GET", path, BEARER))
    assert answer.status == 200
    return answer.body.decode()


def read_conditions(node: NodeProcess) -> list[dict[str, str]]:
    conditions: list[dict[str, str]] = json.loads(ask_text(node, "/status"))["conditions"]
    return conditions
