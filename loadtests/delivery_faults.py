"""``make delivery-faults``: webhooks from senders to an application, with every fault between them.

    .venv/bin/python -m loadtests.delivery_faults [--webhooks 10000] [--kills 20] [--away 60]

Senders send numbered webhooks of five sources to a master and to a slave, some of them twice.
Meanwhile ``forward`` is killed again and again, the master is killed and started again, the slave
is away for a while, and the application fails one request in twenty. Every acknowledged webhook
has to reach the application, in the order of the feed for each source, and only webhooks that were
in flight at a kill may be repeated.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from portable_core.client import Webhook, follow
from portable_core.demo.processes import NodeProcess

_TOKEN = "a-token-for-load"
_SOURCES = 5
_SENDERS = 4
_SPAN_S = 2
_FAILURES = 0.05
_REPEATS = 0.03
_PATIENCE_S = 120.0


@dataclass(slots=True)
class Application:
    """The receiver. ``accepted``: the ids of webhooks, one for each response 200."""

    rng: random.Random
    url: str = ""
    accepted: list[str] = field(default_factory=list)
    keys: Counter[str] = field(default_factory=Counter)
    failed: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, headers: dict[str, str]) -> int:
        with self.lock:
            if self.rng.random() < _FAILURES:
                self.failed += 1
                return self.rng.choice((500, 503, 429, 404))
            self.accepted.append(headers["webhook-sync-id"])
            self.keys[headers["webhook-sync-key"]] += 1
            return 200


@contextmanager
def _run_application(rng: random.Random) -> Iterator[Application]:
    application = Application(rng)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.send_response(application.answer(headers))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *args: object) -> None:
            pass  # a sender that was killed

    server = Server(("127.0.0.1", 0), Handler)
    application.url = f"http://127.0.0.1:{server.server_port}/webhooks"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield application
    finally:
        server.shutdown()
        server.server_close()


class Senders:
    """Threads that send each number to a node that accepts it."""

    def __init__(self, nodes: list[NodeProcess], count: int, seconds: float, seed: int) -> None:
        self.sent = 0
        self._nodes, self._count, self._seconds, self._seed = nodes, count, seconds, seed
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self._threads = [
            threading.Thread(target=self._send_all, args=(index,), daemon=True)
            for index in range(_SENDERS)
        ]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _send_all(self, index: int) -> None:
        rng = random.Random(self._seed * 100 + index)
        for number in range(index, self._count, _SENDERS):
            due = self._started + self._seconds * number / self._count
            time.sleep(max(0.0, due - time.monotonic()))
            for _ in range(2 if rng.random() < _REPEATS else 1):
                self._send(number, rng)
            with self._lock:
                self.sent += 1

    def _send(self, number: int, rng: random.Random) -> None:
        body = json.dumps({"number": number, "price": 12.0}).encode()
        while True:
            node = rng.choice(self._nodes)
            connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=10)
            with suppress(OSError, http.client.HTTPException):
                headers = {"Content-Type": "application/json"}
                connection.request("POST", f"/webhook/s{number % _SOURCES}", body, headers)
                if connection.getresponse().status == 200:
                    return
            connection.close()
            time.sleep(0.05)


@dataclass(slots=True)
class Outcome:
    """What came of a run; ``faults`` is empty if every law holds."""

    webhooks: int
    records: int
    delivered: int
    repeated_by_kills: int
    repeats_in_feed: int
    kills: int
    failed: int
    seconds: float
    faults: list[str] = field(default_factory=list)


class _Run:
    def __init__(self, folder: Path, stack: ExitStack, concurrency: int, options: list[str]):
        settings = {"SYNC_TOKENS": _TOKEN, "SPAN_S": str(_SPAN_S)}
        self.slave = NodeProcess(
            *("slave", "slave", "container"),
            {**settings, "STORE": f"sqlite:{folder / 'slave'}"},
            folder / "slave.log",
        )
        self.master = NodeProcess(
            *("master", "master", "container"),
            {
                **settings,
                "STORE": f"sqlite:{folder / 'master'}",
                "SLAVES": f"slave={self.slave.url}",
            },
            folder / "master.log",
        )
        self._folder, self._concurrency, self._options = folder, concurrency, options
        self._stopped = threading.Event()
        self._forward: subprocess.Popen[bytes] | None = None
        stack.callback(self.end)

    def start(self) -> None:
        for node in (self.slave, self.master):
            node.start()
        for node in (self.slave, self.master):
            node.wait_until_healthy()
        threading.Thread(target=self._sync_always, daemon=True).start()

    def end(self) -> None:
        self._stopped.set()
        for node in (self.slave, self.master):
            node.kill()
        if self._forward is not None:
            self._forward.kill()
            self._forward.wait()

    def _sync_always(self) -> None:
        while not self._stopped.wait(0.5):
            self.sync()

    def sync(self) -> bool:
        request = urllib.request.Request(
            f"{self.master.url}/trigger-sync",
            method="POST",
            headers={"Authorization": f"Bearer {_TOKEN}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    def start_forward(self, url: str) -> None:
        """Start it; the one before is killed."""
        if self._forward is not None:
            self._forward.kill()
            self._forward.wait()
        command = [
            *(sys.executable, "-m", "portable_core", "forward", url, "--json"),
            *("--state", str(self._folder / "state"), "--concurrency", str(self._concurrency)),
            *("--rejections", "100", "--master", self.master.url, "--token", _TOKEN),
            *self._options,
        ]
        with (self._folder / "forward.log").open("ab") as log:
            self._forward = subprocess.Popen(command, stdout=log, stderr=log)

    def read_feed(self) -> list[Webhook]:
        return list(follow(self.master.url, _TOKEN, once=True))


def run(
    count: int,
    *,
    kills: int,
    away_s: float,
    seconds: float,
    concurrency: int = 4,
    skip_repeats: bool = False,
    seed: int = 1,
) -> Outcome:
    """Send ``count`` webhooks over ``seconds``, with the faults; check what came of them."""
    started = time.monotonic()
    options = ["--skip-repeats"] if skip_repeats else []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        application = stack.enter_context(_run_application(random.Random(seed)))
        nodes = _Run(folder, stack, concurrency, options)
        nodes.start()
        nodes.start_forward(application.url)
        senders = Senders([nodes.slave, nodes.master], count, seconds, seed)
        back = threading.Thread(target=_take_away, args=(nodes, senders, count, away_s))
        back.start()
        for kill in range(kills):
            _wait_until(lambda kill=kill: senders.sent >= (kill + 1) * count // (kills + 1))
            nodes.start_forward(application.url)
        senders.join()
        back.join()
        _wait_until(nodes.sync)
        time.sleep(2 * _SPAN_S)  # a sync covers what is older than a span
        _wait_until(nodes.sync)
        feed = nodes.read_feed()
        keys = {webhook.key for webhook in feed}
        with suppress(TimeoutError):
            _wait_until(lambda: len(application.keys) >= len(keys))
            ids = {webhook.id for webhook in feed}
            if not skip_repeats:
                _wait_until(lambda: len(set(application.accepted)) >= len(ids))
        nodes.start_forward(application.url)  # nothing more may come
        time.sleep(2)
        outcome = Outcome(
            count,
            len(feed),
            len(application.accepted),
            len(application.accepted) - len(set(application.accepted)),
            len(feed) - len(keys),
            kills,
            application.failed,
            time.monotonic() - started,
        )
        outcome.faults = [
            *_find_faults(feed, application, count, skip_repeats),
            *_find_repeats(outcome, concurrency),
        ]
        return outcome


def _take_away(nodes: _Run, senders: Senders, count: int, away_s: float) -> None:
    """Stop the slave at a fifth of the webhooks, kill the master at half of them."""
    _wait_until(lambda: senders.sent >= count // 5)
    nodes.slave.stop()
    time.sleep(away_s)
    nodes.slave.start()
    nodes.slave.wait_until_healthy()
    _wait_until(lambda: senders.sent >= count // 2)
    nodes.master.kill()
    time.sleep(min(5.0, away_s))
    nodes.master.start()
    nodes.master.wait_until_healthy()


def _wait_until(condition: object) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():  # type: ignore[operator]  # a callable without arguments
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.02)


def _find_faults(
    feed: list[Webhook], application: Application, count: int, skip_repeats: bool
) -> Iterator[str]:
    numbers = {webhook.data["number"] for webhook in feed if isinstance(webhook.data, dict)}
    lacking = set(range(count)) - numbers
    if lacking:
        yield f"the feed lacks {len(lacking)} acknowledged webhooks: {sorted(lacking)[:5]}"
    accepted = set(application.accepted)
    seen = set(application.keys)
    missing = [
        w.id
        for w in feed
        if (w.key if skip_repeats else w.id) not in (seen if skip_repeats else accepted)
    ]
    if missing:
        yield f"{len(missing)} webhooks were not delivered: {missing[:5]}"
    first = list(dict.fromkeys(application.accepted))
    places = {webhook.id: (webhook.source, place) for place, webhook in enumerate(feed)}
    for source in {webhook.source for webhook in feed}:
        order = [places[id][1] for id in first if places[id][0] == source]
        if order != sorted(order):
            yield f"source {source}: not in the order of the feed"


def _find_repeats(outcome: Outcome, concurrency: int) -> Iterator[str]:
    most = (outcome.kills + 1) * concurrency
    if outcome.repeated_by_kills > most:
        yield f"{outcome.repeated_by_kills} webhooks were repeated, more than {most} in flight"


def main() -> None:
    """Run once and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--webhooks", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--away", type=float, default=60.0, help="seconds without the slave")
    parser.add_argument("--seconds", type=float, default=120.0, help="of sending")
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--skip-repeats", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    outcome = run(
        options.webhooks,
        kills=options.kills,
        away_s=options.away,
        seconds=options.seconds,
        concurrency=options.concurrency,
        skip_repeats=options.skip_repeats,
        seed=options.seed,
    )
    print(outcome)
    sys.exit(1 if outcome.faults else 0)


if __name__ == "__main__":
    main()
