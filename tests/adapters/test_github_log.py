"""GitHub's delivery log as a slave: what is fetched, and by which requests."""

from __future__ import annotations

import json

import pytest
from githubkit import GitHub

from portable_core.records import Meta, Recovery
from portable_core.webhooks.arrivals import encode_arrival
from tests.support.providers.api_server import CLOCK, ApiAnswer, ApiRequest
from tests.support.providers.github import (
    TOKEN,
    make_headers,
    run_github,
    send,
)
from tests.support.providers.github_master import LIST, NOWHERE, receive, run
from tests.support.providers.masters import ago, read, sync, wait


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


def test_a_log_with_more_entries_than_memory_is_read_in_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("portable_core.adapters.providers.github.MOST_KEPT", 120)
    with run() as (github, node):
        for number in range(400):
            github.add({"number": number}, ago(90) + number * 1000)
        report = sync(node, "log")
        assert (report.error, report.saved) == ("", 400)
        made = github.api.forget()
        assert 400 < len(made) - made.count(LIST) + 1 <= 401
        assert made.count(LIST) > 4
        wait(2)
        assert sync(node, "log").records_received == 0


def test_a_log_that_was_not_read_for_longer_than_it_reaches_has_lost_webhooks() -> None:
    with run() as (github, node):
        github.add({"number": 1}, ago(30))
        assert sync(node, "log").losses == 0
        wait(2 * 24 * 60)
        assert sync(node, "log").losses == 0
        wait(4 * 24 * 60)
        report = sync(node, "log")
        assert (report.error, report.losses) == ("", 1)
        assert sync(node, "log").losses == 1
        assert node.master is not None
        (loss,) = node.master.slave_states()["log"].losses
        assert loss.end is not None
        assert abs(loss.end - ago(3 * 24 * 60)) < 1000
        assert "slave-lost" in {condition.name for condition in node.find_conditions()}


def test_a_webhook_that_was_deleted_is_not_fetched_again() -> None:
    with run() as (github, node):
        failed = github.add({"number": 1}, ago(30))
        sync(node, "log")
        assert node.master is not None
        node.master.erasing.delete(read(node)[0].pair)
        wait(10)
        github.add({"number": 1}, ago(5), guid=failed["guid"], redelivery=True)
        report = sync(node, "log")
        assert (report.error, report.saved) == ("", 0)


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


def test_the_stand_in_serves_an_independent_client() -> None:
    with run_github() as github:
        delivery = github.add({"number": 1}, ago(30))
        client = GitHub(TOKEN, base_url=github.api.url, http_cache=False)
        listed = client.rest.repos.list_webhook_deliveries("acme", "shop", 1).parsed_data
        assert [each.guid for each in listed] == [delivery["guid"]]
        whole = client.rest.repos.get_webhook_delivery("acme", "shop", 1, delivery["id"])
        assert whole.parsed_data.status_code == 0
        assert send(NOWHERE, delivery) == 0
