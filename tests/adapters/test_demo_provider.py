"""The demonstration's provider: a master reads its log, and the check counts what is missing."""

from __future__ import annotations

from random import Random
from time import time_ns

import pytest

from portable_core.demo.check import check
from portable_core.demo.provider import LOG, DemoProvider
from portable_core.demo.traffic import Deliveries, make_logged_webhooks
from tests.support.providers.api_server import CLOCK
from tests.support.providers.masters import read, run_master, sync


@pytest.mark.parametrize("left_out", [0, 1])
def test_what_no_node_received_is_in_the_log(left_out: int) -> None:
    webhooks = make_logged_webhooks(50, Random(1))
    with DemoProvider() as provider:
        assert provider.send("http://127.0.0.1:9", webhooks[left_out:]) == 0
        CLOCK.set(time_ns() // 1_000_000 + 31_500)  # a span later
        logs = provider.make_settings("github")
        with run_master(logs.pop("PROVIDER_LOGS"), logs, SPAN_S="30") as node:
            assert sync(node, LOG).saved == 50 - left_out
            assert provider.requests <= 55  # 3 pages, the webhooks, and the newest page again
            assert sync(node, LOG).saved == 0
            result = check(
                Deliveries([], acknowledged={"master": set()}, logged=webhooks), read(node)
            )
    assert (result.unlogged, result.foreign, result.needless) == (left_out, 0, 0)
    assert result.ok == (left_out == 0)
