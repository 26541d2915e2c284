"""Requests to a provider: silence, idle connections, large responses, interrupted readings."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from portable_core.adapters.providers import connection as module
from portable_core.adapters.providers.api import ProviderApi
from portable_core.adapters.providers.github import GithubLog
from portable_core.errors import LogUnreachable
from portable_core.ports import wait_on
from portable_core.sources.delivery_logs import parse_delivery_logs
from tests.support.providers.api_server import CLOCK, ApiAnswer, run_api
from tests.support.providers.github import TOKEN, GithubStandIn, run_github
from tests.support.providers.masters import ago, run_master, sync


@contextmanager
def listen_silently() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def make_log(github: GithubStandIn) -> GithubLog:
    text = f"log=github:acme/shop/hooks/1?token=env:T&delay=0&base={github.api.url}"
    log = parse_delivery_logs(text).resolve(lambda reference: TOKEN).logs["log"]
    return GithubLog(log, ProviderApi("log log", log.base, CLOCK), CLOCK)


class GivenUp(Exception):
    pass


def test_a_caller_gives_up_a_request_that_is_not_answered() -> None:
    calls = []

    def wait() -> None:
        calls.append(time.monotonic())
        if len(calls) == 3:  # before the request, and twice meanwhile
            raise GivenUp

    with listen_silently() as url:
        api = ProviderApi("log x", url, CLOCK)
        before = time.monotonic()
        with pytest.raises(GivenUp):
            api.ask("GET", "/", {}, wait)
        assert time.monotonic() - before < 10
        deadline = time.monotonic() + 10
        while any(t.name == "delivery-log" for t in threading.enumerate()):
            assert time.monotonic() < deadline, "the thread of the request is still there"
            time.sleep(0.01)


def test_silence_and_refused_connections_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TIMEOUT_S", 0.2)
    with listen_silently() as url, pytest.raises(LogUnreachable, match=r"log x .*timeout"):
        ProviderApi("log x", url, CLOCK).ask("GET", "/", {}, wait_on)
    with pytest.raises(LogUnreachable, match="ConnectionRefusedError"):
        ProviderApi("log x", url, CLOCK).ask("GET", "/", {}, wait_on)


def test_a_response_that_never_ends_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TOTAL_S", 0.2)
    stop = threading.Event()

    def drip(server: socket.socket) -> None:
        peer, _ = server.accept()
        with peer:
            peer.recv(1000)
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            while not stop.wait(0.02):
                peer.sendall(b" ")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server,), daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(LogUnreachable, match="not complete in time"):
            ProviderApi("log x", url, CLOCK).ask("GET", "/", {}, wait_on)
        stop.set()
        thread.join(10)


def test_a_connection_that_the_provider_has_closed_is_opened_again() -> None:
    with run_api(lambda request: ApiAnswer(200, b"{}")) as server:
        api = ProviderApi("log x", server.url, CLOCK)
        api.ask("GET", "/", {}, wait_on)
        inner = api._connection._connection
        assert inner is not None
        assert inner.sock is not None
        socket.socket.shutdown(inner.sock, socket.SHUT_RDWR)
        assert api.ask("GET", "/", {}, wait_on).status == 200
        assert len(server.requests) == 2


def test_pages_become_smaller_where_one_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_RESPONSE_BYTES", 10_000)  # some 30 deliveries
    with run_github() as github:
        for number in range(120):
            github.add({"number": number}, ago(60) + number, status=200 * (number % 20 > 0))
        logs = f"log=github:acme/shop/hooks/1?token=env:T&base={github.api.url}"
        with run_master(logs, {"T": TOKEN}) as node:
            report = sync(node, "log")
            assert (report.error, report.saved) == ("", 6)
        sizes = [r.query["per_page"] for r in github.api.requests if "per_page" in r.query]
        assert sizes == ["100", *["25"] * 5]


def test_an_interrupted_reading_of_the_list_continues() -> None:
    with run_github() as github:
        for number in range(450):
            github.add({"number": number}, ago(60) + number, status=200 * (number % 50 > 0))
        log = make_log(github)
        requests = iter(range(3))

        def wait() -> None:
            if next(requests, None) is None:
                raise GivenUp

        with pytest.raises(GivenUp):
            log.list_entries(ago(120), ago(2), wait)
        assert len(github.api.forget()) == 3
        listing = log.list_entries(ago(120), ago(2), wait_on)
        assert len(github.api.forget()) == 2
        assert len(listing.entries) == 9
        assert [e.timestamp for e in listing.entries] == sorted(
            e.timestamp for e in listing.entries
        )
        assert log.requests == 5
