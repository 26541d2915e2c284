"""Webhooks with equal bodies are kept apart, and copies with different bodies are one."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
from msgspec import structs

from portable_core.demo.processes import NodeProcess
from portable_core.ingest.identifier import Identifier
from portable_core.records import Meta, Pair, Record
from tests.support.nodes.sync_nodes import TOKEN, Nodes, ask, fill, now_ms, start, sync

SPAN_S = 3  # long enough for a busy machine to send to all nodes within it
ENV = {"SPAN_S": str(SPAN_S), "COMMIT_TIMEOUT_S": "0.75"}

#: Versions before 0.2 do what this does: it is loaded into a node by PYTHONPATH.
BODY_ALONE = """
from portable_core.ingest import identifier
identifier.Identifier.identify = lambda self, payload, meta, rule=None: (
    self.identify_body(payload, meta)
)
"""


class Webhook(NamedTuple):
    source: str
    body: bytes
    headers: Mapping[str, str] = {}


def send(node: NodeProcess, *webhooks: Webhook) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=30)
    for source, body, headers in webhooks:
        head = {"Content-Type": "application/json", **headers}
        connection.request("POST", f"/webhook/{source}" if source else "/webhook", body, head)
        with connection.getresponse() as answer:
            assert answer.status == 200, answer.read()
            answer.read()
    connection.close()


def wait_a_span() -> None:
    """Until what was received may be synced."""
    time.sleep(2 * SPAN_S + 0.5)


def verify(master: NodeProcess, slave: NodeProcess) -> tuple[int, str]:
    """The exit code of ``webhook-sync verify`` and what it prints."""
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("webhook-sync"), "verify", "--slave", slave.name),
            *("--master", master.url, "--token", TOKEN),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout + done.stderr


#: By name: what both nodes get, and what only the slave gets, whose body is the same.
LOSSES = {
    "topic of Shopify": (
        Webhook("shop", b'{"id":1}', {"X-Shopify-Topic": "orders/create"}),
        Webhook("shop", b'{"id":1}', {"X-Shopify-Topic": "orders/paid"}),
    ),
    "CloudEvents in binary mode": (
        Webhook("ce", b'{"status":"ok"}', {"ce-id": "1", "ce-type": "job.started"}),
        Webhook("ce", b'{"status":"ok"}', {"ce-id": "2", "ce-type": "job.finished"}),
    ),
    "source": (
        Webhook("tenant-a", b'{"event":"ping"}'),
        Webhook("tenant-b", b'{"event":"ping"}'),
    ),
    "event of Bitbucket": (
        Webhook("bb", b'{"actor":{}}', {"X-Event-Key": "repo:push"}),
        Webhook("bb", b'{"actor":{}}', {"X-Event-Key": "pullrequest:created"}),
    ),
    "resource of Sentry": (
        Webhook("", b'{"action":"created"}', {"Sentry-Hook-Resource": "issue"}),
        Webhook("", b'{"action":"created"}', {"Sentry-Hook-Resource": "comment"}),
    ),
}


@pytest.mark.parametrize("reduced", [False, True], ids=["identity", "body alone"])
def test_webhooks_with_equal_bodies_all_arrive(tmp_path: Path, reduced: bool) -> None:
    env = dict(ENV)
    if reduced:
        (tmp_path / "sitecustomize.py").write_text(BODY_ALONE)
        env["PYTHONPATH"] = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    with Nodes(tmp_path) as nodes:
        slave = nodes.make_slave("slave", "container", **env)
        master = nodes.make_master({"slave": slave.url}, "container", **env)
        start(slave, master)
        for both, slave_alone in LOSSES.values():
            send(master, both)
            send(slave, both, slave_alone)
        wait_a_span()
        if not reduced:
            code, text = verify(master, slave)
            assert code == 1
            missing = [webhook for _, webhook in LOSSES.values()]
            for (source, _, headers), line in zip(missing, text.splitlines(), strict=False):
                event = [*headers.values()][-1] if headers else "–"
                assert re.search(
                    rf"  {source or '–'}  {event}  \d+ bytes  key [0-9a-f]{{32}}$", line
                ), line
        answer = sync(master)
        assert answer.status == 200, answer.body
        code, text = verify(master, slave)
        assert code == 0, text
        assert master.stop() == slave.stop() == 0
        kept = {(r.meta.source, tuple(sorted(r.meta.headers.items()))) for r in nodes.read(master)}
        sent = len(LOSSES) * 2
        # Without the identity the second of each two is lost, and nothing says so.
        assert len(kept) == len(nodes.read(master)) == (len(LOSSES) if reduced else sent)


def make_stripe_event(number: int, pending: int) -> bytes:
    """An event whose count of pending deliveries differs from endpoint to endpoint."""
    event = {
        "id": f"evt_{number}",
        "object": "event",
        "created": 1_700_000_000 + number,
        "pending_webhooks": pending,
        "type": "invoice.paid",
        "data": {"object": {"id": f"in_{number}", "amount": 100 + number}},
    }
    return json.dumps(event).encode()


@pytest.mark.parametrize("rule", [False, True], ids=["no rule", "rule"])
def test_copies_that_differ_in_one_member(tmp_path: Path, rule: bool) -> None:
    env = dict(ENV)
    if rule:
        path = tmp_path / "sources.toml"
        path.write_text('[pay]\npreset = "stripe"\n')
        env["SOURCES_FILE"] = str(path)
    with Nodes(tmp_path) as nodes:
        slaves = [nodes.make_slave(name, "container", **env) for name in ("alpha", "beta")]
        master = nodes.make_master({slave.name: slave.url for slave in slaves}, "container", **env)
        start(*slaves, master)
        with ThreadPoolExecutor() as threads:
            for pending, node in enumerate((master, *slaves), 1):
                events = [Webhook("pay", make_stripe_event(n, pending)) for n in range(20)]
                threads.submit(send, node, *events)
        wait_a_span()
        answer = sync(master)
        assert answer.status == 200, answer.body
        similar = [slave["similar"] for slave in answer.body["slaves"]]
        assert similar == [{} if rule else {"pay": ["/pending_webhooks"]}] * 2
        request = urllib.request.Request(
            f"{master.url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}
        )
        with urllib.request.urlopen(request, timeout=30) as page:
            metrics = page.read().decode()
        named = 'webhook_sync_sync_similar_total{slave="alpha",source="pay"} 1.0'
        assert (named in metrics) is not rule
        assert master.stop() == 0
        assert len(nodes.read(master)) == (20 if rule else 60)
        assert ("differ from the master's only in /pending_webhooks" in master.log.read_text()) is (
            not rule
        )


def test_nodes_with_different_rules_do_not_sync_and_name_the_source(tmp_path: Path) -> None:
    path = tmp_path / "sources.toml"
    path.write_text('[pay]\npreset = "stripe"\n')
    with Nodes(tmp_path) as nodes:
        slave = nodes.make_slave("slave", "container", SOURCES_FILE=str(path), **ENV)
        master = nodes.make_master({"slave": slave.url}, "container", **ENV)
        start(slave, master)
        send(slave, Webhook("pay", b'{"id":"evt_1"}'))
        wait_a_span()
        answer = sync(master)
        assert answer.status == 502
        error = answer.body["slaves"][0]["error"]
        assert "identity: the rules for the source 'pay' differ" in error
        assert '{"without":["/pending_webhooks"]}, the master the default' in error


def test_a_rule_changed_between_two_syncs(tmp_path: Path) -> None:
    path = tmp_path / "sources.toml"
    with Nodes(tmp_path) as nodes:
        env = {**ENV, "SPAN_S": "6", "SOURCES_FILE": str(path)}
        slave = nodes.make_slave("slave", "container", **env)
        master = nodes.make_master({"slave": slave.url}, "container", **env)
        numbers = iter(range(100))
        both: list[tuple[int, int]] = []

        def send_one_before_one_after(first: NodeProcess, second: NodeProcess, text: str) -> None:
            number = next(numbers)
            send(first, Webhook("pay", make_stripe_event(number, 1)))
            path.write_text(text)
            slave.stop()
            master.stop()
            start(slave, master)
            send(second, Webhook("pay", make_stripe_event(number, 1)))
            both.append((number, len(both)))

        path.write_text("")
        start(slave, master)
        rule = '[pay]\nidentity.without = ["/pending_webhooks"]\n'
        other = '[pay]\nidentity.id = ["body:/id"]\n'
        send_one_before_one_after(master, slave, rule)
        send_one_before_one_after(slave, master, other)
        send_one_before_one_after(master, slave, "")
        time.sleep(14)
        answer = sync(master)
        assert answer.status == 200, answer.body
        report = answer.body["slaves"][0]
        assert (report["set_aside"], report["saved"]) == (0, 0), report
        assert master.stop() == slave.stop() == 0
        assert len(nodes.read(master)) == len(both) == 3
        assert nodes.read_quarantine(master) == []


def make_old(number: int, timestamp: int, headers: Mapping[str, str]) -> Record:
    """A record as versions before 0.2 stored it."""
    payload = b'{"number":%d}' % number
    meta = Meta("github", dict(headers))
    return Record(
        Pair(timestamp, Identifier("crc32c", b"", {}).identify_body(payload, meta).hash),
        payload,
        meta,
    )


def test_stores_made_before_identities_are_synced(tmp_path: Path) -> None:
    began = now_ms() - 60_000
    headers = {"x-github-event": "push", "content-type": "application/json"}
    old = [make_old(number, began + number * 100, headers) for number in range(99)]
    # The master lacks every third of them, and has the others with timestamps of its own.
    kept = [
        structs.replace(record, pair=Pair(record.pair.timestamp + 50, record.pair.hash))
        for number, record in enumerate(old)
        if number % 3
    ]
    with Nodes(tmp_path) as nodes:
        slave = nodes.make_slave("slave", "container", **ENV)
        master = nodes.make_master({"slave": slave.url}, "container", **ENV)
        fill(nodes.folder / slave.name, old)
        fill(nodes.folder / master.name, kept)
        start(slave, master)
        answer = sync(master)
        assert answer.status == 200, answer.body
        report = answer.body["slaves"][0]
        assert (report["saved"], report["set_aside"]) == (33, 0)
        code, text = verify(master, slave)
        assert code == 0, text
        assert master.stop() == slave.stop() == 0
        payloads = [record.payload for record in nodes.read(master)]
        assert sorted(payloads) == sorted(record.payload for record in old)


def test_a_master_of_an_older_version_is_told_to_be_upgraded(tmp_path: Path) -> None:
    with Nodes(tmp_path) as nodes:
        slave = nodes.make_slave()
        start(slave)
        old = "/sync?start=0&end=9007199254740991&span=120000&hash=crc32c"
        answer = ask(slave, "POST", old)
        assert answer.status == 409
        assert "upgrade the master first" in answer.body["detail"]
        assert ask(slave, "POST", f"{old}&identity=1").status == 400  # there is no list of pairs
