"""Nodes behind the proxies of docs/load-balancers.md."""

from __future__ import annotations

import json
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from portable_core.demo.processes import find_free_port
from tests.support.certificates import make_certificates
from tests.support.deployment.pages import TWO_MACHINES, read_page
from tests.support.nodes.proxies import PROXIES, run_proxy, start_proxy
from tests.support.nodes.sync_nodes import Nodes, fill, make_record, now_ms, start, sync

RECORDS = 3000
MIB = 2**20


def send(url: str, body: bytes, tls: ssl.SSLContext | None = None) -> int:
    """Return the status of the response to a webhook."""
    request = urllib.request.Request(
        f"{url}/webhook/test?a=b%20c", body, {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60, context=tls) as response:
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


def test_a_slave_behind_tls(tmp_path: Path) -> None:
    """The blocks of docs/two-machines.md: webhooks and syncs pass both proxies."""
    blocks = read_page(TWO_MACHINES)["TLS"].blocks
    authority = make_certificates(tmp_path / "certificates", "localhost")
    tls = ssl.create_default_context(cafile=str(authority))
    with Nodes(tmp_path) as nodes:
        slave = nodes.make_slave(TRUSTED_PROXIES="127.0.0.1")
        fill(tmp_path / "slave", [make_record(n, now_ms() - 3_600_000 + n) for n in range(RECORDS)])
        start(slave)
        urls = {}
        for language in ("caddyfile", "nginx"):
            port = find_free_port()
            block = blocks[language].replace("127.0.0.1:8080", f"127.0.0.1:{slave.port}")
            block = block.replace("/etc/ssl", str(authority.parent))
            block = block.replace("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;")
            block = block.replace("master.example", "localhost")
            own = f"localhost:{port} {{\n    tls {authority.parent}/localhost.pem "
            own += f"{authority.parent}/localhost.key"
            block = block.replace("slave.example {", own)
            nodes.enter(start_proxy(language, tmp_path / language, block, port))
            urls[language] = f"https://localhost:{port}"
            assert send(urls[language], b'{"through":"%s"}' % language.encode(), tls) == 200
        master = nodes.make_master(urls, CA_FILE=str(authority))
        start(master)
        reports = sync(master).body["slaves"]
        assert [report["error"] for report in reports] == ["", ""]
        assert sum(report["saved"] for report in reports) == RECORDS
