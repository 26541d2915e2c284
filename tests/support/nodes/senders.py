"""Concurrent senders that record what was acknowledged, and nodes to send to."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from portable_core.demo.cluster import read_records
from portable_core.demo.processes import Kind, NodeProcess
from tests.support.nodes.sync_nodes import TOKEN


def make_slave(
    folder: Path, name: str = "slave", kind: Kind = "container", **env: str
) -> NodeProcess:
    """Return a slave on the SQLite folder ``folder``/store, not started."""
    settings = {"SYNC_TOKENS": TOKEN, "STORE": f"sqlite:{folder / 'store'}", **env}
    return NodeProcess(name, "slave", kind, settings, folder / f"{name}.log")


class Refusal(NamedTuple):
    """A response that was not 200: its status, its text, and the seconds that its sender waited."""

    status: int
    text: str
    seconds: float


@dataclass(slots=True)
class SenderResults:
    """By a webhook's number: its timestamp, and the monotonic time of the acknowledgement.

    ``unanswered``: the errors of requests that got no complete response within 15 s.
    """

    timestamps: dict[int, int] = field(default_factory=dict)
    acknowledged_at: dict[int, float] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)


def read_numbers(folder: Path) -> list[int]:
    """Return the numbers of the webhooks in the store, in the store's order."""
    return [
        json.loads(record.payload)["n"]
        for record in read_records({"STORE": f"sqlite:{folder / 'store'}"})
    ]


def read_health(url: str) -> dict[str, object] | None:
    """Return the document of ``/health`` with its status; None while no process listens."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=10) as answer:
            return {**json.load(answer), "status": answer.status}
    except urllib.error.HTTPError as error:
        return {**json.load(error), "status": error.code}
    except OSError:
        return None


@contextmanager
def sending(
    find_port: Callable[[], int], threads: int = 16, limit: int | None = None, first: int = 0
) -> Iterator[SenderResults]:
    """Send numbered webhooks, each until it is acknowledged, while the block runs (or up to
    ``limit`` of them, which the block's end then waits for)."""
    results = SenderResults()
    numbers = itertools.count(first)
    stop = threading.Event()

    def send() -> None:
        connection: http.client.HTTPConnection | None = None
        for number in numbers:
            if limit is not None and number >= first + limit:
                break
            while number not in results.timestamps:
                if stop.is_set():
                    return
                begun = time.monotonic()
                try:
                    if connection is None:
                        connection = http.client.HTTPConnection(
                            "127.0.0.1", find_port(), timeout=15
                        )
                    connection.request("POST", "/webhook/test", json.dumps({"n": number}))
                    answer = connection.getresponse()
                    body = answer.read()
                    if answer.status == 200:
                        results.acknowledged_at[number] = time.monotonic()
                        results.timestamps[number] = json.loads(body)["timestamp"]
                        continue
                    results.refusals.append(
                        Refusal(answer.status, body.decode(), time.monotonic() - begun)
                    )
                except (OSError, http.client.HTTPException) as error:
                    # all that a sender knows: the webhook is not acknowledged
                    results.unanswered.append(repr(error))
                if connection is not None:
                    connection.close()
                connection = None
                time.sleep(0.02)

    workers = [threading.Thread(target=send) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield results
    finally:
        if limit is None:
            stop.set()
        deadline = time.monotonic() + 90
        for worker in workers:
            worker.join(max(0.1, deadline - time.monotonic()))
        stop.set()


def ask_until_it_listens(url: str) -> int:
    """Return the status of the first response, whatever it is."""
    for _ in range(200):
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"no response from {url}")
