"""The runbooks of ``docs/runbooks.md``, each followed on running nodes with the command."""

from __future__ import annotations

import itertools
import json
import shutil
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from portable_core.cli.main import main
from portable_core.demo.processes import NodeProcess
from tests.support.nodes.sync_nodes import TOKEN, Nodes, post, start

SPAN = {"SPAN_S": "0.6", "COMMIT_TIMEOUT_S": "0.15"}


class Site:
    """A master with the slaves alpha and beta, and what was acknowledged by any of them."""

    def __init__(self, nodes: Nodes) -> None:
        self.nodes = nodes
        self.slaves = {name: self.make_slave(name) for name in ("alpha", "beta")}
        self.master = nodes.make_master(self.urls(), "container", **SPAN)
        self.sent: list[bytes] = []
        self._numbers = itertools.count()
        start(*self.slaves.values(), self.master)

    def make_slave(self, name: str, **env: str) -> NodeProcess:
        return self.nodes.make_slave(name, "container", **{**SPAN, **env})

    def urls(self) -> dict[str, str]:
        return {name: slave.url for name, slave in self.slaves.items()}

    def restart_master(self) -> None:
        """Restart the master with the current slaves in SLAVES."""
        listed = ",".join(f"{name}={url}" for name, url in self.urls().items())
        self.master.stop()
        self.master.env = {**self.master.env, "SLAVES": listed}
        start(self.master)

    def send(self, *nodes: NodeProcess) -> None:
        """Let each node acknowledge a webhook that no other node gets."""
        for node in nodes:
            acknowledged: dict[int, bytes] = {}
            while not acknowledged:
                acknowledged = post(node, [next(self._numbers)])
            self.sent += acknowledged.values()
        time.sleep(0.7)  # a sync ends a span before the horizon

    def run(self, *command: str, code: int = 0, node: NodeProcess | None = None) -> str:
        """Run the command against the master, or a slave; return its output."""
        option = "--slave-url" if node else "--master"
        done = CliRunner().invoke(
            main,
            [*command, option, (node or self.master).url],
            env={"SYNC_TOKENS": TOKEN, "COLUMNS": "200"},
        )
        assert done.exit_code == code, (command, done.output)
        return done.output

    def sync(self) -> None:
        self.run("sync")

    def list_slaves(self) -> dict[str, dict[str, object]]:
        listed: dict[str, dict[str, object]] = json.loads(self.run("slaves", "list", "--json"))[
            "slaves"
        ]
        return listed

    def list_removed(self) -> set[str]:
        return {name for name, slave in self.list_slaves().items() if slave["url"] is None}

    def read_feed(self) -> list[dict[str, object]]:
        """Return the lines of the master's arrival feed, without the last one."""
        headers = {"Authorization": f"Bearer {TOKEN}"}
        request = urllib.request.Request(f"{self.master.url}/feed", headers=headers)
        with urllib.request.urlopen(request, timeout=30) as response:
            lines: list[dict[str, object]] = [json.loads(line) for line in response]
        assert lines.pop()["end"] is True
        return lines

    def read_status(self, *, code: int = 0) -> dict[str, Any]:
        status: dict[str, Any] = json.loads(self.run("status", "--json", code=code))
        return status

    def read_conditions(self, *, code: int = 0) -> set[str]:
        return {each["name"] for each in self.read_status(code=code)["conditions"]}

    def check(self, *, code: int = 0) -> set[str]:
        """Check that the master has every webhook once; return the names of its conditions."""
        has = [record.payload for record in self.nodes.read(self.master)]
        assert len(has) == len(set(has))
        assert set(self.sent) <= set(has)
        return self.read_conditions(code=code)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Nodes(tmp_path_factory.mktemp("site")) as nodes:
        site = Site(nodes)
        site.send(*site.slaves.values(), site.master)
        site.sync()
        assert site.check() == set()
        yield site


def test_rename(site: Site) -> None:
    alpha = site.slaves.pop("alpha")
    site.send(alpha)
    site.slaves["gamma"] = alpha
    site.restart_master()
    assert site.list_removed() == {"alpha"}
    assert "removed" in site.run("slaves", "list")
    store = site.list_slaves()["alpha"]["store"]
    site.sync()
    listed = site.list_slaves()
    assert set(listed) == set(site.slaves)
    assert listed["gamma"]["store"] == store
    assert site.check() == set()


def test_move(site: Site) -> None:
    beta = site.slaves["beta"]
    before = site.list_slaves()["beta"]
    beta.stop()
    site.slaves["beta"] = moved = site.make_slave("beta")
    start(moved)
    site.send(moved)
    site.restart_master()
    after = site.list_slaves()["beta"]
    assert (after["cursor"], after["store"]) == (before["cursor"], before["store"])
    assert after["url"] == moved.url != before["url"]
    site.sync()
    assert site.check() == set()
    assert site.list_slaves()["beta"]["generation"] == before["generation"]


def test_add_replace_and_remove(site: Site) -> None:
    old = site.make_slave("delta")
    start(old)
    site.send(old, old)
    site.slaves["delta"] = old
    site.restart_master()
    assert site.read_conditions(code=1) == {"never-synced"}
    site.sync()
    assert site.check() == set()
    site.slaves["epsilon"] = new = site.make_slave("epsilon")
    start(new)
    site.send(old, new)
    site.restart_master()
    site.sync()
    del site.slaves["delta"]
    site.restart_master()
    old.stop()
    assert site.check() == {"slave-removed"}
    assert "removed" in site.run("status")
    assert "is in SLAVES or PROVIDER_LOGS" in site.run("slaves", "forget", "epsilon", code=1)
    assert "no slave has the name" in site.run("slaves", "forget", "zeta", code=1)
    site.run("slaves", "forget", "delta")
    assert site.check() == set()


def test_replace_a_lost_disk(site: Site) -> None:
    beta = site.slaves["beta"]
    site.send(beta)
    site.sync()
    beta.kill()
    shutil.rmtree(beta.env["STORE"].removeprefix("sqlite:"))
    start(beta)
    site.send(beta)
    site.sync()
    assert site.check(code=1) == {"slave-lost"}
    site.run("losses", "acknowledge", "--all", "beta")
    assert site.check() == set()


def test_promote(site: Site) -> None:
    beta = site.slaves["beta"]
    alpha = site.slaves.pop(next(name for name in site.slaves if name in ("alpha", "gamma")))
    site.send(alpha, beta)
    store = site.read_status()["store"]["uuid"]
    lost = site.master
    lost.kill()
    alpha.stop()
    site.master = site.nodes.make_master(
        site.urls(), "container", "promoted", **{**SPAN, "STORE": alpha.env["STORE"]}
    )
    start(site.master)
    site.send(site.master)
    # The disk of the lost master is a slave's from now on.
    site.slaves["former"] = former = site.make_slave("former", STORE=lost.env["STORE"])
    start(former)
    site.restart_master()
    site.sync()
    assert site.check() == set()
    fed = {json.dumps(line["data"], separators=(",", ":")).encode() for line in site.read_feed()}
    assert set(site.sent) <= fed
    assert store in site.run("masters", "list", node=beta)
    site.run("masters", "forget", store, node=beta)
    assert store not in site.run("masters", "list", node=beta)


def test_the_document_has_each_runbook() -> None:
    text = (Path(__file__).parents[2] / "docs" / "runbooks.md").read_text()
    for title in (
        "Rename a slave",
        "Move a slave",
        "Add a slave",
        "Replace a slave",
        "Remove a slave",
        "Promote a slave",
    ):
        assert f"## {title}" in text
