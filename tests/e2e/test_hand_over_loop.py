"""A slave that hands over in a loop delays syncs, and prevents none, nor other hand-overs."""

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from portable_core.demo.processes import NodeProcess
from portable_core.wire.negotiation import ENCODINGS
from tests.support.nodes.sync_nodes import (
    Nodes,
    fill,
    make_record,
    now_ms,
    post,
    start,
    sync,
)

ALPHAS = "the-token-of-alpha"
RECORDS = 3000
PLATFORM_S = 10  # from SIGTERM to SIGKILL on Cloud Run

#: Requests to sync while the loop runs; every one of them has to succeed.
SYNCS = 30


@contextmanager
def hand_over_in_a_loop(master: NodeProcess) -> Iterator[Counter[int]]:
    """Hand over the same records from three threads, with a slave's own token."""
    now = now_ms() - 600_000
    records = [make_record(10**6 + number, now + number) for number in range(300)]
    body = b"".join(ENCODINGS["application/json"].encode_records(records))
    over = threading.Event()
    statuses: Counter[int] = Counter()

    def run() -> None:
        while not over.is_set():
            request = urllib.request.Request(
                f"{master.url}/records?slave=alpha",
                data=body,
                headers={"Authorization": f"Bearer {ALPHAS}", "Content-Type": "application/json"},
            )
            try:
                with urllib.request.urlopen(request, timeout=60) as response:
                    statuses[response.status] += 1
            except urllib.error.HTTPError as error:
                statuses[error.code] += 1
                time.sleep(0.01)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_syncs_complete_while_a_slave_hands_over_in_a_loop(tmp_path: Path) -> None:
    now = now_ms() - 600_000
    fill(tmp_path / "bravo", [make_record(n, now + n) for n in range(RECORDS)])
    with Nodes(tmp_path) as nodes:
        bravo = nodes.make_slave("bravo")
        start(bravo)
        master = nodes.make_master(
            {"alpha": "http://127.0.0.1:9", "bravo": bravo.url}, SLAVE_TOKENS=f"alpha={ALPHAS}"
        )
        charlie = nodes.make_slave("charlie", STORE="memory:", HAND_OVER=master.url)
        start(master, charlie)
        payloads = post(charlie, range(2 * 10**6, 2 * 10**6 + 50))
        with hand_over_in_a_loop(master) as statuses:
            time.sleep(1)
            answers = [sync(master, "?slave=bravo") for _ in range(SYNCS)]
            begun = time.monotonic()
            assert charlie.stop() == 0, charlie.read_log_end()
            stopped_s = time.monotonic() - begun
        held = [record.payload for record in nodes.read(master)]
    assert {answer.status for answer in answers} == {200}, answers
    seconds = [answer.body["slaves"][0]["seconds"] for answer in answers]
    print(f"\nhand-overs {dict(statuses)}, syncs {seconds[:3]} s, the stop {stopped_s:.1f} s")
    assert answers[-1].body["slaves"][0]["behind_ms"] == 0, answers[-1]
    assert sum(answer.body["slaves"][0]["saved"] for answer in answers) == RECORDS
    assert statuses[200] > SYNCS
    assert stopped_s < PLATFORM_S
    assert set(payloads.values()) <= set(held)
    assert len(held) == len(set(held))
