"""Locust users for any deployment of webhook-sync. ``make load`` runs them against local nodes::

    locust -f loadtests/locustfile.py --headless -u 60 -r 60 --html load.html --csv load \\
        --nodes master=https://m.example,slave-1=https://s1.example --sync-token … \\
        --scenario mixed --secrets github=github:s3cret --webhooks 12000 --rate 100

Each webhook goes to every node, as senders with several registered addresses send it; a share is
left out, so that syncs have something to bring. When all are sent the run ends: a last sync, and
the judgement of :mod:`loadtests.ledger` over the master's records. The exit code is 1 where a
promise or a threshold is broken. Locust's own statistics carry ``acknowledged`` (until the first
node did), ``refused`` (by every node), ``recovered`` (until the master had it) and ``missing``.

The ledger is in one process, so ``--processes`` and workers are refused.
"""

from __future__ import annotations

import json
import time
from typing import Any

import gevent
from gevent.pool import Pool
from geventhttpclient.response import HTTPConnectionClosed
from locust import FastHttpUser, constant, events, task
from locust import stats as locust_stats
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.exception import StopUser
from locust.runners import MasterRunner, WorkerRunner

from loadtests.ledger import DELIVERY_HEADER
from loadtests.load_run import Run
from loadtests.scenarios import SCENARIOS
from portable_core.demo.cluster import trigger_sync
from portable_core.errors import SettingsError, WebhookSyncError
from portable_core.payload_hash.canonical import ALGORITHMS
from portable_core.records import Pair


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]  # Locust's have no types
def add_options(parser: LocustArgumentParser) -> None:
    """Each option has an environment variable, ``LOAD_…``."""

    def add(name: str, default: Any, meaning: str, **more: Any) -> None:
        variable = f"LOAD_{name.upper().replace('-', '_')}"
        kind = {} if more else {"type": type(default)}
        parser.add_argument(
            f"--{name}", default=default, env_var=variable, help=meaning, **kind, **more
        )

    add("nodes", "", "name=url,name=url; without it the master at --host")
    add("master-node", "master", "the master's name among the nodes")
    add("sync-token", "", "one of the master's SYNC_TOKENS")
    add("secrets", "", "the nodes' SOURCES, to sign for them")
    add("scenario", "steady", "what is sent", choices=list(SCENARIOS))
    add("webhooks", 12_000, "how many are sent to each node")
    add("rate", 100.0, "webhooks a second")
    add("left-out", 0.05, "the share of all deliveries that is left out: what syncs have to bring")
    add("sync-every", 5.0, "seconds between syncs that are triggered, 0 for none")
    add("span", 120.0, "the nodes' SPAN_S")
    add("hash", "crc32c", "the nodes' HASH", choices=list(ALGORITHMS))
    add("hash-key", "", "the nodes' HASH_KEY")
    add(
        "seed", 0, "the same seed, the same webhooks; 0 for new ones, as stores need that have some"
    )
    add("master-store", "", "the master's STORE where this machine can read it")
    add("max-p99", 0.0, "fail where the p99 of a node is above so many ms, 0 for any")
    add("max-errors", 0.001, "fail where a larger share of tries than this is not acknowledged")
    add("verdict", "", "a file for the verdict as JSON")
    add("plots", "", "the beginning of two plots' names, -latency.png and -recovery.png")


_runs: dict[int, Run] = {}

#: The most connections that one try may take: a second one where a server closed an idle one. Which
#: connections were idle cannot be seen here, so a second closed one counts as what it may be, a
#: dropped request.
_CONNECTIONS = 2


class Sender(FastHttpUser):
    """Takes the next webhook when it is due, and brings it to every node at once.

    Who has to wait before trying again does so in the background: users are for first tries.
    """

    host = "http://every-node.invalid"  # addresses are absolute
    wait_time = constant(0)
    concurrency = 100  # of this user's connections
    connection_timeout = 10
    network_timeout = 30

    @task
    def send(self) -> None:
        run = _runs[id(self.environment)]
        number = run.take()
        if number is None:
            raise StopUser
        value = run.ledger.add(number, run.webhooks.spell(number, 0))
        nodes = run.choose_nodes(number)
        begun = time.monotonic()
        pool = Pool(len(nodes))
        firsts = [
            (index, node, pool.spawn(self._post, run, node, number, index, value, begun))
            for index, node in nodes
        ]
        pool.join()
        answers = {node: answer.get() for _, node, answer in firsts}
        again = [
            (index, node)
            for index, node, _ in firsts
            if run.tries_again(node, number, 0, answers[node] is not None)
        ]
        if again:
            run.later.spawn(self._send_later, run, again, number, value, begun, answers)
        else:
            self._conclude(run, answers)

    def _send_later(
        self,
        run: Run,
        nodes: list[tuple[int, str]],
        number: int,
        value: bytes,
        begun: float,
        answers: dict[str, float | None],
    ) -> None:
        def retry(index: int, node: str) -> None:
            for attempt, wait in enumerate(run.scenario.retries_s, 1):
                gevent.sleep(wait)
                taken = self._post(run, node, number, index, value, begun)
                if answers[node] is None:
                    answers[node] = taken
                if not run.tries_again(node, number, attempt, taken is not None):
                    return

        gevent.joinall([gevent.spawn(retry, *each) for each in nodes])
        self._conclude(run, answers)

    @staticmethod
    def _conclude(run: Run, answers: dict[str, float | None]) -> None:
        taken = [after for after in answers.values() if after is not None]
        if taken:
            run.tell("acknowledged", min(taken) * 1000)
        else:
            run.tell("refused", 0, RuntimeError("no node acknowledged it"))
        run.done += 1

    def _post(
        self, run: Run, node: str, number: int, spelling: int, value: bytes, begun: float
    ) -> float | None:
        """One try. Returns how many seconds after ``begun`` it was acknowledged, if it was.

        Never raises: a run ends when every webhook has been concluded, whatever nodes answer.
        """
        try:
            return self._request(run, node, number, spelling, value, begun)
        except Exception as error:  # noqa: BLE001  # it counts as not acknowledged, and is reported
            run.ledger.refuse(node, type(error).__name__)
            run.timeline.refused.append((run.timeline.now(), node))
            run.tell(f"/webhook at {node}", 0, error, "POST")
            return None

    def _request(
        self, run: Run, node: str, number: int, spelling: int, value: bytes, begun: float
    ) -> float | None:
        """What :meth:`_post` does where nothing unexpected happens.

        A server may close an idle connection just when it is used again. Clients then take another
        one, and so does this; such tries have a row of their own.
        """
        body = run.webhooks.spell(number, spelling)
        source, name = run.choose_source(number), run.webhooks.name(number)
        headers = {"Content-Type": "application/json", DELIVERY_HEADER: name}
        if source in run.signers:
            headers |= run.signers[source](name, int(time.time()), body)
        for connection in range(_CONNECTIONS):
            run.ledger.send(node, value, source, body, name)
            tried = run.timeline.now()
            with self.client.post(
                f"{run.nodes[node]}/webhook/{source}",
                data=body,  # type: ignore[arg-type]  # bytes are taken as they are
                headers=headers,
                name=f"/webhook at {node}",
                catch_response=True,
            ) as answer:
                now = time.monotonic()
                pair = _read_pair(answer.content) if answer.status_code == 200 else None
                if pair is not None:
                    run.ledger.acknowledge(node, value, pair, now - run.timeline.begun)
                    took = (run.timeline.now() - tried) * 1000
                    run.timeline.latencies.append((tried, node, took))
                    return now - begun
                # Only answers that Locust itself takes for failures have this attribute.
                error = getattr(answer, "error", None)
                if isinstance(error, HTTPConnectionClosed) and connection + 1 < _CONNECTIONS:
                    answer.request_meta["name"] = f"idle connection closed by {node}"
                    answer.success()
                    continue
                run.ledger.refuse(node, str(answer.status_code))
                run.timeline.refused.append((tried, node))
                answer.failure(f"not acknowledged: {answer.status_code} {error or ''}")
                return None
        raise AssertionError("the last connection's answer counts")


def _read_pair(content: bytes | None) -> Pair | None:
    """What a node answers; None where it is not a node's answer."""
    try:
        document = json.loads(content or b"")
        return Pair(int(document["timestamp"]), int(document["hash"]))
    except (ValueError, KeyError, TypeError):
        return None


@events.init.add_listener  # type: ignore[untyped-decorator]  # Locust's have no types
def check_options(environment: Environment, **_: object) -> None:
    """Stop at once where a run could not be judged in the end."""
    if isinstance(environment.runner, MasterRunner | WorkerRunner):
        raise SystemExit("the ledger is in one process: no --processes, no --master, no --worker")
    if environment.parsed_options is not None and not environment.web_ui:
        try:
            Run(environment, environment.parsed_options)
        except SettingsError as error:
            raise SystemExit(str(error)) from error


@events.test_start.add_listener  # type: ignore[untyped-decorator]  # Locust's have no types
def begin(environment: Environment, **_: object) -> None:
    assert environment.parsed_options is not None  # Locust itself has parsed them
    environment.process_exit_code = 1  # until the judgement says otherwise
    run = _runs[id(environment)] = Run(environment, environment.parsed_options)
    gevent.spawn(_watch, run)
    if run.options.sync_every and run.options.sync_token:
        gevent.spawn(_sync, run)


def _watch(run: Run) -> None:
    while not run.over:
        gevent.sleep(0.2)
    assert run.environment.runner is not None  # the test has started
    run.environment.runner.quit()


def _sync(run: Run) -> None:
    while not run.over:
        gevent.sleep(run.options.sync_every)
        begun = time.monotonic()
        error, saved = None, 0
        try:
            report = trigger_sync(run.master, run.options.sync_token)
            saved = sum(slave["saved"] for slave in report["slaves"])
            if not report["ok"]:
                error = RuntimeError("; ".join(s["error"] for s in report["slaves"] if s["error"]))
        except (OSError, ValueError, WebhookSyncError) as trouble:
            error = RuntimeError(str(trouble))
        run.timeline.syncs.append((run.timeline.now(), saved, error is None))
        run.tell("/trigger-sync", (time.monotonic() - begun) * 1000, error, "POST")


@events.test_stop.add_listener  # type: ignore[untyped-decorator]  # Locust's have no types
def finish(environment: Environment, **_: object) -> None:
    """The judgement, and the exit code."""
    run = _runs.pop(id(environment), None)
    if run is None:
        return
    run.later.kill()  # only if the run was stopped
    environment.process_exit_code = run.finish()
    if run.options.csv_prefix:
        gevent.sleep(2 * locust_stats.CSV_STATS_INTERVAL_SEC)  # its writer looks that often
