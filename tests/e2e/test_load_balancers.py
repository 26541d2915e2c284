"""Nodes behind the proxies of docs/load-balancers.md."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.support.nodes.proxies import PROXIES, run_proxy
from tests.support.nodes.sync_nodes import Nodes, fill, make_record, now_ms, start, sync

RECORDS = 3000
MIB = 2**20


def send(url: str, body: bytes) -> int:
    """Return the status of the response to a webhook."""
    request = urllib.request.Request(
        f"{url}/webhook/test?a=b%20c", body, {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.parametrize("proxy", PROXIES)
def test_a_slave_behind_a_proxy(tmp_path: Path, proxy: str) -> None:
    """It receives small and large webhooks, is synced in a stream, and comes back after a stop."""
    with Nodes(tmp_path) as nodes:
        slave = nodes.make_slave(TRUSTED_PROXIES="127.0.0.1")
        begin = now_ms() - 3_600_000
        fill(tmp_path / "slave", [make_record(n, begin + n) for n in range(RECORDS)])
        start(slave)
        with run_proxy(proxy, tmp_path / "proxy", slave.port) as url:
            assert [send(url, b'{"w":%d}' % number) for number in range(50)] == [200] * 50
            assert send(url, json.dumps({"x": "y" * 5 * MIB}).encode()) == 200
            assert send(url, b"not JSON") == 400
            master = nodes.make_master({"slave": url})
            start(master)
            report = sync(master).body["slaves"][0]
            assert report["error"] == "", report
            assert report["saved"] == RECORDS
            slave.stop()
            assert send(url, b'{"w":"down"}') in (502, 503)
            start(slave)
            deadline = time.monotonic() + 30
            while send(url, b'{"w":"up"}') != 200:
                assert time.monotonic() < deadline
                time.sleep(0.2)
            slave.stop()
        received = nodes.read(slave)[RECORDS:]
        assert {record.meta.query for record in received} == {"a=b%20c"}
        assert len(received) == 52
