"""Forward behind real nodes: kills, an outage of the master, a slave away; positions of others."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.delivery_faults import run
from portable_core.client import ConsumerPosition, follow
from portable_core.demo.processes import NodeProcess
from tests.e2e.test_forward import Forwarding, list_numbers
from tests.support.delivery.feed_server import make_webhook
from tests.support.nodes.receivers import run_receiver
from tests.support.nodes.sync_nodes import TOKEN, Nodes, ask, fill, start


@pytest.mark.parametrize("skip_repeats", [False, True])
def test_every_webhook_arrives_in_order_in_spite_of_all_faults(skip_repeats: bool) -> None:
    outcome = run(
        300, kills=4, away_s=2, seconds=7, skip_repeats=skip_repeats, seed=3 + skip_repeats
    )
    assert outcome.faults == []
    assert outcome.failed


def test_a_store_that_was_replaced_is_named_and_can_be_followed(tmp_path: Path) -> None:
    with Nodes(tmp_path) as nodes, run_receiver() as receiver:
        records = [make_webhook(number) for number in range(4)]
        fill(tmp_path / "first", records[:2])
        fill(tmp_path / "second", records)
        first, second = (
            nodes.make_master({}, name="master", STORE=f"sqlite:{tmp_path / name}")
            for name in ("first", "second")
        )
        forwarding = follow_node(first, tmp_path)
        start(first)
        assert forwarding.run(receiver.url, "--once")[0] == 0
        first.stop()
        forwarding = follow_node(second, tmp_path)
        start(second)
        code, lines = forwarding.run(receiver.url, "--once")
        assert code == 3
        assert "--resume" in lines[-1]["problem"]
        assert forwarding.run(receiver.url, "--once", "--resume")[0] == 0
        assert list_numbers(receiver) == [0, 1, 0, 1, 2, 3]
        assert forwarding.run(receiver.url, "--once")[1][-1]["delivered"] == 0


def test_a_new_state_may_begin_now(tmp_path: Path) -> None:
    with Nodes(tmp_path) as nodes, run_receiver() as receiver:
        fill(tmp_path / "master", [make_webhook(number) for number in range(4)])
        master = nodes.make_master({})
        start(master)
        forwarding = follow_node(master, tmp_path)
        assert forwarding.run(receiver.url, "--once", "--from-now")[1][-1]["delivered"] == 0
        master.stop()
        fill(tmp_path / "master", [make_webhook(9)])
        start(master)
        assert forwarding.run(receiver.url, "--once", "--from-now")[0] == 0
        assert list_numbers(receiver) == [9]


def test_the_master_shows_the_lag_of_consumers(tmp_path: Path) -> None:
    with Nodes(tmp_path) as nodes, run_receiver() as receiver:
        fill(tmp_path / "master", [make_webhook(number) for number in range(4)])
        master = nodes.make_master({})
        start(master)
        forwarding = follow_node(master, tmp_path)
        assert forwarding.run(receiver.url, "--once", "--consumer", "shop")[0] == 0
        store = ConsumerPosition(master.url, "other", TOKEN)
        for webhook in follow(master.url, TOKEN, store=store, once=True):
            if webhook.record == make_webhook(2):
                break
        assert next(follow(master.url, TOKEN, store=store, once=True)).record == make_webhook(2)
        consumers = {one["name"]: one for one in ask(master, "GET", "/consumers").body["consumers"]}
        assert consumers["shop"]["lag_ms"] == 0
        assert consumers["other"]["lag_ms"] > 0
        assert ConsumerPosition(master.url, "new", TOKEN).load() is None


def follow_node(node: NodeProcess, folder: Path) -> Forwarding:
    return Forwarding(node.url, folder)
