"""A sync through an nginx that rejects requests of more than 1 MB, some 75,000 pairs.

Its response has status 413 and no problem document, whatever the node behind it would accept.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from loadtests.bench_crowd import make_records
from loadtests.bench_sync_nodes import MISSING_EVERY, fill
from portable_core.demo.cluster import trigger_sync
from portable_core.demo.processes import NodeProcess
from tests.support.nodes.nginx import run_nginx
from tests.support.nodes.sync_nodes import TOKEN, Nodes, start

BIN = Path(sys.executable).parent

#: Within two spans, which are in every request however short its window is.
WEBHOOKS = 100_000

_MOST_SYNCS = 4


def verify(master: NodeProcess, slave_url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / "webhook-sync", "verify", "--master", master.url, "--slave-url", slave_url],
        capture_output=True,
        text=True,
        timeout=120,
        env={"SYNC_TOKENS": TOKEN, "PATH": "/usr/bin"},
    )


def test_a_crowd_gets_through_nginx(tmp_path: Path) -> None:
    begin = round(time.time() * 1000) - 3_600_000
    fill(tmp_path / "slave", make_records(WEBHOOKS, begin, whole=True))
    fill(tmp_path / "master", make_records(WEBHOOKS, begin, whole=False))
    with Nodes(tmp_path) as nodes:
        slave = nodes.make_slave()
        start(slave)
        with run_nginx(tmp_path / "nginx", slave.url, "1m") as url:
            master = nodes.make_master({"slave": url})
            start(master)
            missing = verify(master, url)
            assert missing.returncode == 1, missing.stderr
            lines = missing.stdout.splitlines()
            assert len(lines) == len(set(lines)) == WEBHOOKS // MISSING_EVERY
            for _ in range(_MOST_SYNCS):
                report = trigger_sync(master.url, TOKEN)["slaves"][0]
                if report["behind_ms"] == 0:
                    break
            else:
                raise AssertionError(f"{_MOST_SYNCS} syncs were not enough: {report}")
            assert verify(master, url).returncode == 0
            statuses = (tmp_path / "nginx" / "access.log").read_text()
        numbers = sorted(json.loads(record.payload)["number"] for record in nodes.read(master))
    assert 0 < statuses.count(" 413 ") < 20
    assert report["parts"] > 1
    # Of 1,000 missing webhooks 0.02 have the hash of another one.
    assert numbers == list(range(WEBHOOKS))
