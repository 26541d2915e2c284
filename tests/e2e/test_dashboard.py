"""The dashboard on real nodes: every panel has data, and is drawn (``pytest -s`` shows where)."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.e2e.test_alerts import run_prometheus, wait_for
from tests.support.dashboard import ask_panel, draw, is_drawn, read_panels
from tests.support.nodes.sync_nodes import TOKEN, Nodes, fill, make_record, now_ms, start
from tests.support.requests.sync_requests import Question, ask

SECONDS = 20


@pytest.mark.deep
def test_every_panel_of_the_dashboard_shows_what_nodes_report(tmp_path: Path) -> None:
    sources = "hub=github:a-secret-of-a-sender"
    with Nodes(tmp_path) as nodes:
        fill(nodes.folder / "alpha", [make_record(n, now_ms() - 60_000) for n in range(200)])
        slave = nodes.make_slave("alpha", SPAN_S="2", SOURCES=sources)
        start(slave)
        master = nodes.make_master(
            {"alpha": slave.url}, SPAN_S="2", SOURCES=sources, SYNC_EVERY_S="1"
        )
        start(master)
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        consumer = Question("", "PUT", "/consumers/shop", bearer, b'{"position":"now"}')
        assert ask(master, consumer).status == 200
        plain = {"Content-Type": "application/json"}
        with run_prometheus(tmp_path / "prometheus", slave, master) as prometheus:
            wait_for(prometheus, lambda alerts: ("none yet", "", "") not in alerts)
            begin = time.time()
            number = 0
            while time.time() < begin + SECONDS:
                for node in (slave, master):
                    body = b'{"number":%d}' % number
                    assert (
                        ask(node, Question("", "POST", "/webhook/open", plain, body)).status == 200
                    )
                    number += 1
                    refused = Question("", "POST", "/webhook/hub", plain, b"{}")
                    assert ask(node, refused).status == 401
                time.sleep(0.05)
            panels = {
                panel["id"]: ask_panel(prometheus, panel, begin, time.time())
                for panel in read_panels()
            }
    picture = tmp_path / "dashboard.png"
    draw(panels, picture)
    print(f"drawn: {picture}")
    titles = {panel["id"]: panel["title"] for panel in read_panels()}
    assert [titles[number] for number in panels if not is_drawn(panels[number])] == []
    assert picture.stat().st_size > 10_000
