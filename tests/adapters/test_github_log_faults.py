"""Failures, limits, clocks and credentials of GitHub's delivery log."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from portable_core.errors import LogRefused
from portable_core.ports import LogEntry
from portable_core.sync.provider_log import ProviderLogClient
from portable_core.sync.report import SlaveReport
from tests.support.providers.api_server import ApiAnswer, ApiRequest
from tests.support.providers.github import (
    TOKEN,
    refuse,
    run_github,
)
from tests.support.providers.github_master import LIST, run
from tests.support.providers.masters import ago, run_master, sync, wait


def test_an_app_reads_its_own_log(tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 2048)
    none = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    (tmp_path / "k").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, none))
    with run_github("/app/hook/deliveries") as github:
        github.add({"number": 1}, ago(30))
        options = f"app=77&key=file:{tmp_path / 'k'}&base={github.api.url}"
        github.api.respond = lambda request: refuse(401, "no")
        github.api.intercept = lambda request: (
            github.respond(
                request._replace(headers={**request.headers, "authorization": f"Bearer {TOKEN}"})
            )
            if request.headers["authorization"].count(".") == 2
            else None
        )
        with run_master(f"log=github:app?{options}") as node:
            assert sync(node, "log").saved == 1


def test_an_empty_log_and_a_deleted_delivery() -> None:
    with run() as (github, node):
        assert sync(node, "log").error == ""
        assert github.api.forget() == [LIST]
        wait(5)
        gone = github.add({"number": 1}, ago(4))
        github.add({"number": 2}, ago(3))
        github.api.intercept = lambda request: (
            refuse(404, "Not Found") if request.path.endswith(str(gone["id"])) else None
        )
        report = sync(node, "log")
        assert (report.error, report.saved) == ("", 1)


def interrupt(status: int, message: str, **headers: str) -> Callable[[ApiRequest], ApiAnswer]:
    return lambda request: refuse(status, message, **headers)


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        (interrupt(401, f"Bad credentials {TOKEN}"), "LogRefused", "401: Bad credentials [secret]"),
        (interrupt(404, "Not Found"), "LogRefused", "404: Not Found"),
        (interrupt(403, "Resource not accessible"), "LogRefused", "403: Resource not"),
        (interrupt(502, "Server Error"), "LogRefused", "502: Server Error"),
        (interrupt(301, "Moved Permanently"), "LogRefused", "a redirect"),
        (lambda r: ApiAnswer(200, b'[{"id":1'), "AnswerInvalid", "the response is invalid"),
        (lambda r: ApiAnswer(200, b"[" * 100_000), "AnswerInvalid", "the response is invalid"),
        (lambda r: ApiAnswer(200, b"[]  ", {}, cut=2), "LogUnreachable", "was cut"),
    ],
)
def test_a_failure_is_in_the_report_and_the_next_sync_continues(
    answer: Callable[[ApiRequest], ApiAnswer], kind: str, text: str
) -> None:
    with run() as (github, node):
        github.add({"number": 1}, ago(30))
        github.api.intercept = answer
        report = sync(node, "log")
        assert report.error_type == kind
        assert text in report.error
        assert TOKEN not in report.error
        github.api.intercept = lambda request: None
        report = sync(node, "log")
        assert (report.error, report.saved) == ("", 1)


@pytest.mark.parametrize(
    ("status", "headers", "pause"),
    [
        (403, {"x_ratelimit_remaining": "0", "x_ratelimit_reset": "in 900"}, 900),
        (403, {"Retry_After": "17"}, 17),
        (429, {"Retry_After": "40"}, 40),
        (403, {}, 60),
    ],
)
def test_a_rate_limit_is_respected(status: int, headers: dict[str, str], pause: int) -> None:
    reset = str(int(time.time()) + pause)
    headers = {name: reset if text == "in 900" else text for name, text in headers.items()}
    with run() as (github, node):
        for number in range(3):
            github.add({"number": number}, ago(30) + number)
        limit = refuse(status, "You have exceeded a secondary rate limit.", **headers)
        github.api.intercept = lambda request: limit if request.path[-1] == "2" else None
        report = sync(node, "log")
        assert report.error_type == "LogRefused"
        assert report.saved == 2  # what came before the limit is kept
        github.api.forget()
        github.api.intercept = lambda request: None
        assert "rate limit is respected" in sync(node, "log").error
        assert github.api.forget() == []
        assert node.master is not None
        client = node.master.clients["log"]
        assert isinstance(client, ProviderLogClient)
        with pytest.raises(LogRefused) as refused:
            client.log.read(LogEntry("1", 0), lambda: None)
        assert abs((refused.value.retry_after or 0) - pause) <= 20


@pytest.mark.parametrize("seconds", [-600, 600])
def test_a_clock_far_from_the_providers_is_named(seconds: int) -> None:
    with run() as (github, node):
        github.add({"number": 1}, ago(30))
        github.api.clock_s = seconds
        report = sync(node, "log")
        assert report.error_type == "ClocksDiffer"
        assert ("ahead of" if seconds > 0 else "behind") in report.error


def test_no_delivery_is_passed_while_the_log_may_lack_it() -> None:
    with run("&delay=600") as (github, node):
        github.add({"number": 1}, ago(12), status=200)
        assert sync(node, "log").error == ""
        late = github.add({"number": 2}, ago(5))
        github.deliveries.sort(key=lambda each: str(each["delivered_at"]))
        assert sync(node, "log").saved == 0
        state = node.receiver.store.slave_states()["log"]  # type: ignore[attr-defined]
        assert state.cursor <= ago(9.9)
        assert late["id"]


def test_the_reach_is_an_option() -> None:
    for reach, saved in ((7, 2), (1, 1)):
        with run(f"&reach={reach}") as (github, node):
            github.add({"number": 1}, ago(5 * 24 * 60))
            github.add({"number": 2}, ago(30))
            assert sync(node, "log").saved == saved


def test_nothing_before_the_floor_is_fetched_or_missed() -> None:
    with run() as (github, node):
        node.receiver.open()
        node.receiver.store.raise_mark("floor", ago(60))
        github.add({"number": 1}, ago(90))
        github.add({"number": 2}, ago(30))
        report = sync(node, "log")
        assert (report.error, report.saved, report.losses) == ("", 1, 0)


def test_an_app_gets_a_token_for_its_installation(tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    (tmp_path / "key.pem").write_bytes(pem)
    public = serialization.PublicFormat.SubjectPublicKeyInfo
    with run_github("/orgs/acme/hooks/5/deliveries") as github:
        github.app_key = key.public_key().public_bytes(serialization.Encoding.PEM, public).decode()
        github.add({"number": 1}, ago(30))
        options = f"app=77&installation=5&key=file:{tmp_path / 'key.pem'}&base={github.api.url}"
        with run_master(f"log=github:acme/hooks/5?{options}") as node:
            assert sync(node, "log").error == ""
            assert sync(node, "log").error == ""
        tokens = [path for path in github.api.forget() if "access_tokens" in path]
        assert len(tokens) == 1
        assert pem.decode() not in repr(node.settings)


def test_slaves_come_before_logs() -> None:
    """What a slave has is then in the master, and is not read from a log."""
    with run(SLAVES="zeta=http://127.0.0.1:9") as (github, node):
        assert node.master is not None
        for _ in range(2):
            assert [report.slave for report in node.master.sync().slaves] == ["zeta", "log"]
            wait(2)
        assert len(github.api.forget()) == 2


def test_a_failing_log_stops_neither_slaves_nor_other_logs() -> None:
    with run_github() as good, run_github() as bad:
        good.add({"number": 1}, ago(30))
        bad.api.intercept = interrupt(500, "no")
        place = "github:acme/shop/hooks/1?token=env:T&base="
        logs = f"bad={place}{bad.api.url},good={place}{good.api.url}"
        with run_master(logs, {"T": TOKEN}) as node:
            assert node.master is not None
            reports: dict[str, SlaveReport] = {r.slave: r for r in node.master.sync().slaves}
            assert reports["bad"].error
            assert reports["good"].saved == 1
            found = {(c.subject, c.name) for c in node.find_conditions()}
            assert ("bad", "slave-failed") in found
