"""The Python client against a real server: order, positions, cuts, refusals."""

from __future__ import annotations

from pathlib import Path

import pytest

from portable_core.client import FeedRejected, FilePosition, follow
from portable_core.client.connection import FeedConnection
from portable_core.client.master import FeedUnavailable, Master
from portable_core.errors import SettingsError
from tests.support.delivery.feed_server import TOKEN, FeedServer, make_webhook, serve_feed

RECORDS = [make_webhook(number) for number in range(10)]


@pytest.fixture
def feed() -> object:
    with serve_feed(FeedServer([*RECORDS])) as feed:
        yield feed


@pytest.fixture(autouse=True)
def no_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portable_core.client.following.BASE_S", 0.01)


def test_webhooks_come_in_order_and_exactly(feed: FeedServer) -> None:
    found = list(follow(feed.url, TOKEN, once=True))
    assert [webhook.record for webhook in found] == RECORDS
    assert (found[3].event, found[3].query, found[3].key) == ("push", "n=3", f"{3:032x}")
    assert found[3].data == {"number": 3, "price": 12.0}


@pytest.mark.parametrize("cut_after", [1, 2, 3])
def test_a_cut_response_is_continued(feed: FeedServer, cut_after: int) -> None:
    feed.cut_after = cut_after
    found = []
    for webhook in follow(feed.url, TOKEN, once=True):
        found.append(webhook.record)
        if len(found) == 9:
            feed.cut_after = None
    assert found == RECORDS


def test_a_position_is_saved_once_its_webhook_is_handled(feed: FeedServer, tmp_path: Path) -> None:
    path = tmp_path / "position"
    seen = []

    def handle_until(number: int) -> None:
        for webhook in follow(feed.url, TOKEN, store=path, once=True):
            seen.append(webhook.record)
            if len(seen) == number:
                raise RuntimeError

    for number in (4, 8):
        with pytest.raises(RuntimeError):
            handle_until(number)
    handle_until(0)
    assert seen == RECORDS[:4] + RECORDS[3:7] + RECORDS[6:]
    assert FilePosition(path).load() == "v1:store:10"
    assert list(follow(feed.url, TOKEN, store=str(path), once=True)) == []


def test_a_new_webhook_ends_the_wait(feed: FeedServer) -> None:
    following = follow(feed.url, TOKEN, after="v1:store:9")
    assert next(following).record == RECORDS[9]
    feed.add(make_webhook(10))
    assert next(following).record == make_webhook(10)
    following.close()


def test_repeats_are_skipped_if_asked(feed: FeedServer, tmp_path: Path) -> None:
    feed.add(make_webhook(3), make_webhook(11))
    path = tmp_path / "position"
    found = [w.record for w in follow(feed.url, TOKEN, store=path, skip_repeats=True, once=True)]
    assert found == [*RECORDS, make_webhook(11)]
    marked = [w.repeat for w in follow(feed.url, TOKEN, once=True)]
    assert marked == [False] * 10 + [True, False]


def test_a_filter_moves_the_position_too(feed: FeedServer, tmp_path: Path) -> None:
    path = tmp_path / "position"
    assert list(follow(feed.url, TOKEN, store=path, source="other", event="x", once=True)) == []
    assert FilePosition(path).load() == "v1:store:10"
    assert (feed.queries[0]["source"], feed.queries[0]["event"]) == ("other", "x")


def test_a_restart_of_the_master_is_waited_for(feed: FeedServer) -> None:
    with serve_feed(FeedServer([*RECORDS])) as first:
        following = follow(first.url, TOKEN)
        found = [next(following).record]
    with serve_feed(first, first.port):
        found += [next(following).record for _ in range(9)]
    assert found == RECORDS
    following.close()


@pytest.mark.parametrize(
    ("token", "after", "answered"), [("wrong", None, 401), (TOKEN, "v1:other:3", 409)]
)
def test_a_refusal_is_not_retried(
    feed: FeedServer, token: str, after: str | None, answered: int
) -> None:
    with pytest.raises(FeedRejected, match=f"answered {answered}: ") as caught:
        list(follow(feed.url, token, after=after))
    assert caught.value.answered == answered
    assert len(feed.queries) == 1


@pytest.mark.parametrize("url", ["h:80", "ftp://h", "http://", "http://h:x"])
def test_an_invalid_address_is_an_error(url: str) -> None:
    with pytest.raises(SettingsError):
        list(follow(url))


def test_a_master_that_stays_away_ends_a_consumer_that_does_not_wait() -> None:
    with pytest.raises(FeedUnavailable, match="does not respond"):
        list(follow("http://127.0.0.1:9", once=True))


def test_an_invalid_host_does_not_respond() -> None:
    with pytest.raises(FeedUnavailable, match="does not respond"):
        list(FeedConnection(Master("http://a..b")).read(None))


def test_a_connection_is_used_again(feed: FeedServer) -> None:
    connection = FeedConnection(Master(feed.url, TOKEN), wait_s=0)
    ports = set()
    for after in (None, "v1:store:5", "v1:store:10"):
        *_, end = connection.read(after)
        assert end == "v1:store:10"
        assert connection._http.sock is not None
        ports.add(connection._http.sock.getsockname()[1])
    assert len(ports) == 1
    connection.close()
