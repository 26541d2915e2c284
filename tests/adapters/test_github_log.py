"""GitHub's delivery log as a slave: what is fetched, by which requests, and what it refuses."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from githubkit import GitHub

from portable_core.errors import LogRefused
from portable_core.node import Node
from portable_core.ports import LogEntry
from portable_core.records import Meta, Pair, Record, Recovery
from portable_core.sync.provider_log import ProviderLogClient
from portable_core.sync.report import SlaveReport
from portable_core.webhooks.arrivals import encode_arrival
from tests.support.providers.api_server import CLOCK, ApiAnswer, ApiRequest
from tests.support.providers.github import (
    TOKEN,
    GithubStandIn,
    make_headers,
    refuse,
    run_github,
    send,
)
from tests.support.providers.masters import ago, read, run_master, sync, wait

NOWHERE = "http://127.0.0.1:9/webhook/hub"
LIST = "GET /repos/acme/shop/hooks/1/deliveries"


@contextmanager
def run(options: str = "", **more: str) -> Iterator[tuple[GithubStandIn, Node]]:
    with run_github() as github:
        logs = f"log=github:acme/shop/hooks/1?source=hub&token=env:T&base={github.api.url}{options}"
        with run_master(logs, {"T": TOKEN}, SOURCES="hub=github:whsecret", **more) as node:
            yield github, node


def receive(node: Node, delivery: dict[str, object], at_ms: int) -> None:
    """Put a webhook into the store of a node, as if it had come at this time."""
    request = delivery["request"]
    assert isinstance(request, dict)
    headers = {name.lower(): text for name, text in request["headers"].items()}
    payload = json.dumps(request["payload"], separators=(",", ":")).encode()
    hash_, meta = node.receiver.identifier.identify(payload, Meta("hub", headers))
    node.receiver.open()
    node.receiver.store.append([Record(Pair(at_ms, hash_), payload, meta)])


def test_webhooks_that_no_node_received_are_fetched_once() -> None:
    with run() as (github, node):
        began = ago(10)
        for number in range(50):  # a minute without a node
            github.deliver(NOWHERE, {"number": number}, began + number * 1200)
        first, made = sync(node, "log"), github.api.forget()
        assert (first.error, first.warning, first.saved) == ("", "", 50)
        assert len(made) == 51
        assert made[0] == LIST
        records = read(node)
        numbers = [json.loads(record.payload)["number"] for record in records]
        assert numbers == list(range(50))
        sync(node, "log")
        assert github.api.forget() == []  # the list was read up to a minute ago
        wait(2)
        second = sync(node, "log")
        assert (second.saved, second.records_received, second.error) == (0, 0, "")
        assert github.api.forget() == [LIST]
        assert len(read(node)) == 50


def test_a_record_says_that_it_comes_from_the_log() -> None:
    with run() as (github, node):
        delivery = github.add({"number": 1.5, "text": "é \ud83d\ude00"}, ago(10))
        sync(node, "log")
        (record,) = read(node)
        assert record.meta.via == "github"
        assert record.meta.source == "hub"
        assert record.meta.headers["x-github-delivery"] == delivery["guid"]
        assert isinstance(record.recovery, Recovery)
        assert record.recovery.slave == "log"
        document = json.loads(encode_arrival("1", record, repeat=False))
        assert (document["came"], document["via"]) == ("log", "github")
        # The key is that of the webhook as GitHub sends it.
        sent = json.dumps(delivery["request"]["payload"]).encode()
        headers = {n.lower(): v for n, v in make_headers("push", delivery["guid"]).items()}
        assert (
            record.meta.key
            == node.receiver.identifier.identify(sent, Meta("hub", headers)).meta.key
        )


def test_only_deliveries_without_a_success_are_read() -> None:
    with run() as (github, node):
        github.add({"number": 1}, ago(30), status=200)
        failed = github.add({"number": 2}, ago(29), status=500)
        github.add({"number": 2}, ago(28), status=200, guid=failed["guid"], redelivery=True)
        good = github.add({"number": 3}, ago(27), status=200)
        github.add({"number": 3}, ago(26), status=502, guid=good["guid"], redelivery=True)
        lost = github.add({"number": 4}, ago(25), status=0)
        sync(node, "log")
        assert github.api.forget() == [LIST, f"{LIST}/{lost['id']}"]
        assert [json.loads(record.payload) for record in read(node)] == [{"number": 4}]


def test_a_success_after_the_list_was_read_counts() -> None:
    with run() as (github, node):
        failed = github.add({"number": 1}, ago(1.5))
        assert sync(node, "log").records_received == 0  # its time has not come
        wait(3)
        github.add({"number": 1}, ago(2), status=200, guid=failed["guid"], redelivery=True)
        github.api.forget()
        assert sync(node, "log").records_received == 0
        assert github.api.forget() == [LIST]


def test_few_webhooks_are_in_memory_at_once() -> None:
    windows = []
    for count in (1, 150):
        with run() as (github, node):
            for number in range(count):
                github.add({"number": number}, ago(30) + number)
            report = sync(node, "log")
            assert (report.error, report.saved) == ("", count)
            windows.append(report.windows)
    assert windows[1] >= windows[0] + 2


def test_a_turn_that_ends_keeps_what_was_read() -> None:
    with run(SYNC_SLAVE_S="60") as (github, node):
        for number in range(30):
            github.add({"number": number}, ago(30) + number)

        def pass_time(request: ApiRequest) -> None:
            CLOCK.sleep(7)  # some nine requests in a turn

        github.api.intercept = pass_time
        saved: list[int] = []
        while sum(saved) < 30:
            report = sync(node, "log")
            assert report.error == ""
            assert report.saved > 0
            saved.append(report.saved)
        assert len(saved) > 2
        reads = [path for path in github.api.forget() if path != LIST]
        assert len(reads) <= 30 + len(saved)  # the last one of a turn may be repeated
        assert len(read(node)) == 30


def test_all_deliveries_are_read_where_the_log_says_so() -> None:
    with run("&read=all") as (github, node):
        kept = github.add({"number": 1}, ago(30), status=200)
        receive(node, kept, ago(30))
        lost = github.add({"number": 2}, ago(29), status=200)  # acknowledged, and then lost
        assert sync(node, "log").saved == 1
        assert github.api.forget() == [LIST, f"{LIST}/{lost['id']}"]
        assert len(read(node)) == 2


def test_what_another_node_has_is_not_read() -> None:
    with run() as (github, node):
        failed = github.add({"number": 1}, ago(30), status=503)
        receive(node, failed, ago(30) + 1500)
        assert sync(node, "log").records_received == 0
        assert github.api.forget() == [LIST]


def test_a_webhook_that_came_hours_later_is_found_by_its_key() -> None:
    with run() as (github, node):
        failed = github.add({"number": 1}, ago(300), status=503)
        receive(node, failed, ago(60))
        other = github.add({"number": 2}, ago(50), status=503, redelivery=True)
        receive(node, other, ago(400))
        assert sync(node, "log").records_received == 0
        assert len(read(node)) == 2


def test_a_later_attempt_is_a_repeat_by_its_key() -> None:
    with run() as (github, node):
        failed = github.add({"number": 1}, ago(30))
        assert sync(node, "log").saved == 1
        receive(node, failed, ago(1))  # the provider, or an operator, sends it again
        first, second = read(node)
        assert first.meta.key == second.meta.key
        assert (first.meta.via, second.meta.via) == ("github", "")
        assert node.feed is not None
        wait(5)
        github.add({"number": 1}, ago(3), guid=failed["guid"], redelivery=True)
        assert sync(node, "log").saved == 0


def test_two_failed_attempts_of_one_webhook_are_one_record() -> None:
    with run() as (github, node):
        first = github.add({"number": 1}, ago(50))
        github.add({"number": 1}, ago(40), guid=first["guid"], redelivery=True)
        github.add({"number": 1}, ago(20), guid=first["guid"], redelivery=True)
        report = sync(node, "log")
        assert (report.error, report.saved) == ("", 1)
        (record,) = read(node)
        assert abs(record.pair.timestamp - ago(50)) < 1000


def test_a_body_that_no_node_would_accept_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    with run(MAX_BODY_BYTES="200") as (github, node):
        large = github.add({"text": "x" * 300}, ago(50))
        github.add({"number": 1}, ago(40))
        github.deliveries[-1]["request"]["payload"] = None
        array = github.add({"number": 2}, ago(30))
        github.api.intercept = lambda request: (
            ApiAnswer(200, b'{"request":{"headers":{},"payload":[1]}}')
            if request.path.endswith(str(array["id"]))
            else None
        )
        github.add({"number": 3}, ago(20))
        report = sync(node, "log")
        assert (report.error, report.saved) == ("", 1)
        left_out = [line for line in caplog.messages if "is left out" in line]
        assert len(left_out) == 2
        assert str(large["id"]) in left_out[0]
        assert str(array["id"]) in left_out[1]
        state = node.receiver.store.slave_states()["log"]  # type: ignore[attr-defined]
        assert state.cursor > ago(19)


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


@pytest.mark.parametrize("rate", [0, 1])
def test_pages_are_read_down_to_what_is_known(rate: int) -> None:
    with run() as (github, node):
        for number in range(250):
            github.add({"number": number}, ago(200) + number * 10, status=200)
        assert sync(node, "log").error == ""
        assert github.api.forget() == [LIST] * 3
        wait(10)
        github.add({"number": 999}, ago(5), status=rate * 200)
        assert sync(node, "log").saved == 1 - rate
        assert [path for path in github.api.forget() if path == LIST] == [LIST]
        wait(2)
        assert sync(node, "log").error == ""
        (last,) = github.api.requests
        assert last.headers["if-none-match"]


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
        (
            403,
            {"x_ratelimit_remaining": "0", "x_ratelimit_reset": str(int(time.time()) + 900)},
            900,
        ),
        (403, {"Retry_After": "17"}, 17),
        (429, {"Retry_After": "40"}, 40),
        (403, {}, 60),
    ],
)
def test_a_rate_limit_is_respected(status: int, headers: dict[str, str], pause: int) -> None:
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


def test_the_stand_in_serves_an_independent_client() -> None:
    with run_github() as github:
        delivery = github.add({"number": 1}, ago(30))
        client = GitHub(TOKEN, base_url=github.api.url, http_cache=False)
        listed = client.rest.repos.list_webhook_deliveries("acme", "shop", 1).parsed_data
        assert [each.guid for each in listed] == [delivery["guid"]]
        whole = client.rest.repos.get_webhook_delivery("acme", "shop", 1, delivery["id"])
        assert whole.parsed_data.status_code == 0
        assert send(NOWHERE, delivery) == 0
