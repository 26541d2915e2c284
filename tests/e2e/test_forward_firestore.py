"""``webhook-sync forward`` from two masters on one Firestore database."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import pytest

from portable_core.demo.processes import NodeProcess
from tests.e2e.test_forward import Forwarding, list_numbers, wait_until
from tests.support.delivery.feed_server import make_webhook
from tests.support.delivery.live_feed import LiveFeed
from tests.support.firestore_emulator import PROJECT, name_database, use_emulator
from tests.support.nodes.receivers import run_receiver
from tests.support.nodes.sync_nodes import TOKEN, start

COUNT = 60


@pytest.mark.slow
def test_webhooks_of_both_instances_are_delivered_across_a_kill(tmp_path: Path) -> None:
    """Each instance keeps the order in which it stored its webhooks, one after the other."""
    store = f"firestore:{PROJECT}/{name_database()}"
    env = {"FIRESTORE_EMULATOR_HOST": use_emulator(), "STORE": store, "SYNC_TOKENS": TOKEN}
    masters = [
        NodeProcess(name, "master", "container", env, tmp_path / f"{name}.log")
        for name in ("one", "two")
    ]
    try:
        for master in masters:
            start(master)
        senders = [
            threading.Thread(
                target=LiveFeed(master).add,
                args=[make_webhook(number, f"s{place}") for number in range(place, COUNT, 2)],
            )
            for place, master in enumerate(masters)
        ]
        for sender in senders:
            sender.start()
        forwarding = Forwarding(masters[0].url, tmp_path)
        with run_receiver() as receiver:
            process = forwarding.start(receiver.url)
            wait_until(lambda: len(receiver.taken) >= COUNT // 4)
            process.kill()
            process.communicate()
            for sender in senders:
                sender.join()
            code, lines = forwarding.run(receiver.url, "--once")
        assert (code, lines[-1]["problem"]) == (0, "")
        counts = Counter(list_numbers(receiver))
        assert sorted(counts) == [*range(COUNT)]
        assert sum(counts.values()) - COUNT <= 2  # in flight at the kill, one for each source
        for place in (0, 1):
            first = list(dict.fromkeys(n for n in list_numbers(receiver) if n % 2 == place))
            assert first == [*range(place, COUNT, 2)]
    finally:
        for master in masters:
            master.kill()
