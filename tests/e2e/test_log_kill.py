"""A master that is killed while it reads a delivery log."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from pathlib import Path

import pytest

from portable_core.demo.processes import NodeProcess
from tests.support.nodes.sync_nodes import Nodes, start, sync
from tests.support.providers.api_server import ApiAnswer, ApiRequest
from tests.support.providers.github import TOKEN, run_github
from tests.support.providers.masters import ago

WEBHOOKS = 300


@pytest.mark.deep
def test_each_webhook_is_stored_once_after_kills(tmp_path: Path) -> None:
    def slow_down(request: ApiRequest) -> ApiAnswer | None:
        time.sleep(0.005)
        return None

    with run_github() as github, Nodes(tmp_path) as nodes:
        for number in range(WEBHOOKS):
            github.add({"number": number}, ago(30) + number)
        github.api.intercept = slow_down
        log = f"log=github:acme/shop/hooks/1?source=hub&token=env:T&delay=0&base={github.api.url}"
        master = nodes.make_master({}, PROVIDER_LOGS=log, T=TOKEN)
        for pause_s in (0.3, 0.8, 1.3):
            start(master)
            thread = threading.Thread(target=request_sync, args=(master,), daemon=True)
            thread.start()
            time.sleep(pause_s)
            master.kill()
            thread.join(30)
        start(master)
        assert sync(master).body["ok"]
        records = nodes.read(master)
        numbers = sorted(json.loads(record.payload)["number"] for record in records)
        assert numbers == list(range(WEBHOOKS))
        assert {record.meta.via for record in records} == {"github"}


def request_sync(master: NodeProcess) -> None:
    with contextlib.suppress(OSError, ValueError):
        sync(master)  # cut by the kill
