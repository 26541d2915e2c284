"""The commands for delivery logs, with their exit codes: verify, redeliver, doctor."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pytest
from click.testing import CliRunner, Result

from portable_core.cli.main import main
from portable_core.doctor import Finding, examine
from tests.support.providers.api_server import CLOCK
from tests.support.providers.github import TOKEN, GithubStandIn, refuse, run_github
from tests.support.providers.masters import ago, run_master, sync

ATTEMPT = "POST /repos/acme/shop/hooks/1/deliveries/{}/attempts"


@dataclass
class World:
    github: GithubStandIn
    env: dict[str, str]

    def run(self, *arguments: str) -> Result:
        with patch("portable_core.log_clients.SystemClock", lambda: CLOCK):
            return CliRunner().invoke(main, arguments, env=self.env)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with run_github() as github:
        env = {
            "STORE": f"sqlite:{tmp_path / 'store'}",
            "SYNC_AUTH": "none",
            "T": TOKEN,
            "PROVIDER_LOGS": f"log=github:acme/shop/hooks/1?token=env:T&base={github.api.url}",
        }
        yield World(github, env)


def test_verify_lists_what_the_master_lacks_and_changes_nothing(world: World) -> None:
    for number in range(3):
        world.github.add({"number": number}, ago(30) + number)
    place = {"STORE": world.env["STORE"]}
    with run_master(world.env["PROVIDER_LOGS"], {"T": TOKEN}, **place) as node:
        assert sync(node, "log").saved == 3
        complete = world.run("verify", "--provider-log", "log")  # beside the running master
        assert (complete.exit_code, complete.stdout) == (0, "")
        missing = world.github.add({"number": 9}, ago(10))
        before = world.github.api.forget()
        found = world.run("verify", "--provider-log", "log", "--json")
        (line,) = found.stdout.splitlines()
        assert (found.exit_code, json.loads(line)["source"]) == (1, "log")
        assert f"GET /repos/acme/shop/hooks/1/deliveries/{missing['id']}" in (
            world.github.api.forget()
        )
        assert before
        again = world.run("verify", "--provider-log", "log", "--since", "5m")
        assert again.exit_code == 0
        assert node.receiver.store.status().records == 3


def test_verify_of_an_unknown_or_failing_log_has_no_result(world: World) -> None:
    with run_master(world.env["PROVIDER_LOGS"], {"T": TOKEN}, STORE=world.env["STORE"]) as node:
        node.receiver.open()
    assert "PROVIDER_LOGS has: log" in world.run("verify", "--provider-log", "x").output
    world.github.api.intercept = lambda request: refuse(401, "Bad credentials")
    failed = world.run("verify", "--provider-log", "log")
    assert failed.exit_code == 3
    assert "401: Bad credentials" in failed.output
    assert TOKEN not in failed.output


def test_redeliver_asks_for_what_failed(world: World) -> None:
    old = world.github.add({"number": 1}, ago(300))
    lost = world.github.add({"number": 2}, ago(30))
    world.github.add({"number": 3}, ago(20), status=200)
    dry = world.run("redeliver", "log", "--since", "1h", "--dry-run")
    assert dry.exit_code == 0
    assert str(lost["id"]) in dry.output
    assert world.github.redelivered == []
    done = world.run("redeliver", "log", "--since", "1h", "--json")
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == [str(lost["id"])]
    assert world.github.redelivered == [lost["id"]]
    named = world.run("redeliver", "log", "--id", str(old["id"]))
    assert named.exit_code == 0
    assert world.github.redelivered == [lost["id"], old["id"]]


def test_redeliver_reports_what_the_provider_refuses(world: World) -> None:
    assert world.run("redeliver", "log").exit_code == 2
    refused = world.run("redeliver", "log", "--id", "99")
    assert refused.exit_code == 1
    assert "404: Not Found" in refused.output
    assert "is not the id of a delivery" in world.run("redeliver", "log", "--id", "../x").output
    stripe = {**world.env, "PROVIDER_LOGS": "pay=stripe:events?token=env:T"}
    failed = World(world.github, stripe).run("redeliver", "pay", "--id", "evt_1")
    assert failed.exit_code == 1
    assert "cannot be asked to send again" in failed.output


@pytest.mark.parametrize("status", [200, 401])
def test_doctor_reads_the_log(world: World, status: int) -> None:
    if status != 200:
        world.github.api.intercept = lambda request: refuse(status, "Bad credentials")
    with patch("portable_core.log_clients.SystemClock", lambda: CLOCK):
        findings: list[Finding] = [*examine("master", {**world.env, "PORT": "0"})]
    (found,) = [each for each in findings if each.subject == "log log"]
    assert found.level == ("ok" if status == 200 else "fault")
