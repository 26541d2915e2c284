"""Locust users for any deployment of webhook-sync. ``make load`` runs them against local nodes::

    locust -f loadtests/locustfile.py --headless -u 40 -r 40 --html load.html --csv load \\
        --nodes master=https://m.example,slave-1=https://s1.example --sync-token … \\
        --scenario mixed --secrets github=github:s3cret --webhooks 12000 --rate 100

Each webhook goes to every node, as senders with several registered addresses send it. When all are
sent the run ends: a last sync, and the judgement of :mod:`loadtests.ledger` over the master's
records. The exit code is 1 where a promise or a threshold is broken. Locust's own statistics carry
``acknowledged`` (until the first node did), ``refused`` (by every node), ``recovered`` (until the
master had it) and ``missing``.

The ledger is in one process, so ``--processes`` and workers are refused.
"""

from __future__ import annotations

import itertools
import json
import logging
import time
from argparse import Namespace
from random import Random
from typing import Any

import gevent
from gevent.pool import Pool
from locust import FastHttpUser, constant, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.exception import StopUser
from locust.runners import MasterRunner, WorkerRunner

from loadtests.closing import NotSettled, read_master, settle
from loadtests.ledger import Ledger, Verdict, digest_value
from loadtests.scenarios import SCENARIOS, schedule
from loadtests.signing import Signer, make_signers
from loadtests.webhooks import Webhooks
from portable_core.demo.cluster import trigger_sync
from portable_core.errors import WebhookSyncError
from portable_core.records import Pair

logger = logging.getLogger("loadtests")

_HOUR_MS = 3_600_000


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
    add("sync-every", 5.0, "seconds between syncs that are triggered, 0 for none")
    add("span", 120.0, "the nodes' SPAN_S")
    add("seed", 1, "another seed, other webhooks")
    add("master-store", "", "the master's STORE where this machine can read it")
    add("max-p99", 0.0, "fail where the p99 of a node is above so many ms, 0 for any")
    add("max-errors", 0.0, "fail where a larger share of requests than this is not acknowledged")
    add("verdict", "", "a file for the verdict as JSON")


class Run:
    """What the users share."""

    def __init__(self, environment: Environment, options: Namespace) -> None:
        self.environment = environment
        self.options = options
        self.nodes = _parse_nodes(options)
        self.scenario = SCENARIOS[options.scenario]
        self.webhooks = Webhooks(options.seed, self.scenario.large)
        self.ledger = Ledger(round(options.span * 1000))
        self.signers: dict[str, Signer] = make_signers(options.secrets)
        self.begun = time.monotonic()
        self.started_ms = time.time_ns() // 1_000_000
        self.done = 0
        self.late_s = 0.0
        times = schedule(self.scenario, options.webhooks, options.rate)
        self._due = enumerate(times)
        self._sources = sorted(self.signers) if self.scenario.signed else []

    @property
    def master(self) -> str:
        return self.nodes[self.options.master_node]

    def take(self) -> int | None:
        """The next webhook's number, when it is due; None after the last."""
        number, due = next(self._due, (None, 0.0))
        if number is not None:
            wait = self.begun + due - time.monotonic()
            self.late_s = max(self.late_s, -wait)
            gevent.sleep(max(0.0, wait))
        return number

    def choose_source(self, number: int) -> str:
        return self._sources[number % len(self._sources)] if self._sources else "github"

    def tell(self, name: str, milliseconds: float, error: Exception | None = None) -> None:
        """Add to a row of Locust's statistics."""
        self.environment.events.request.fire(  # type: ignore[no-untyped-call]  # Locust's
            request_type="webhook",
            name=name,
            response_time=milliseconds,
            response_length=0,
            exception=error,
            context={},
        )


_runs: dict[int, Run] = {}


def _parse_nodes(options: Namespace) -> dict[str, str]:
    if not options.nodes:
        return {options.master_node: (options.host or "http://127.0.0.1:8080").rstrip("/")}
    pairs = (item.partition("=") for item in options.nodes.split(","))
    return {name.strip(): url.strip().rstrip("/") for name, _, url in pairs}


class Sender(FastHttpUser):
    """Takes the next webhook when it is due, and brings it to every node at once."""

    host = "http://every-node.invalid"  # addresses are absolute
    wait_time = constant(0)
    connection_timeout = 10
    network_timeout = 30

    @task
    def send(self) -> None:
        run = _runs[id(self.environment)]
        number = run.take()
        if number is None:
            raise StopUser
        value = run.ledger.add(number, run.webhooks.spell(number, 0))
        begun = time.monotonic()
        first: list[float] = []
        pool = Pool(len(run.nodes))
        for index, node in enumerate(run.nodes):
            pool.spawn(self._deliver, run, node, number, index, value, first)
        pool.join()
        if first:
            run.tell("acknowledged", (min(first) - begun) * 1000)
        else:
            run.tell("refused", 0, RuntimeError("no node acknowledged it"))
        run.done += 1

    def _deliver(
        self, run: Run, node: str, number: int, index: int, value: bytes, first: list[float]
    ) -> None:
        random = Random(f"{run.options.seed}/{node}/{number}")
        body = run.webhooks.spell(number, index)
        again = random.random() < run.scenario.duplicates
        for wait in (0.0, *run.scenario.retries_s):
            gevent.sleep(wait)
            if self._post(run, node, number, value, body):
                first.append(time.monotonic())
                if not again:
                    return
                again = False

    def _post(self, run: Run, node: str, number: int, value: bytes, body: bytes) -> bool:
        source, name = run.choose_source(number), run.webhooks.name(number)
        headers = {"Content-Type": "application/json", "X-GitHub-Delivery": name}
        if source in run.signers:
            headers |= run.signers[source](name, int(time.time()), body)
        run.ledger.send(node, value, source, body)
        with self.client.post(
            f"{run.nodes[node]}/webhook/{source}",
            data=body,  # type: ignore[arg-type]  # bytes are taken as they are
            headers=headers,
            name=f"/webhook at {node}",
            catch_response=True,
        ) as answer:
            if answer.status_code != 200:
                run.ledger.refuse(node, str(answer.status_code))
                answer.failure(f"not acknowledged: {answer.status_code} {answer.error or ''}")
                return False
            document = json.loads(answer.content)
            pair = Pair(document["timestamp"], document["hash"])
            run.ledger.acknowledge(node, value, pair, time.monotonic() - run.begun)
            return True


@events.init.add_listener  # type: ignore[untyped-decorator]  # Locust's have no types
def refuse_workers(environment: Environment, **_: object) -> None:
    if isinstance(environment.runner, MasterRunner | WorkerRunner):
        raise SystemExit("the ledger is in one process: no --processes, no --master, no --worker")


@events.test_start.add_listener  # type: ignore[untyped-decorator]  # Locust's have no types
def begin(environment: Environment, **_: object) -> None:
    assert environment.parsed_options is not None  # Locust itself has parsed them
    run = _runs[id(environment)] = Run(environment, environment.parsed_options)
    gevent.spawn(_watch, run)
    if run.options.sync_every and run.options.sync_token:
        gevent.spawn(_sync, run)


def _watch(run: Run) -> None:
    while run.done < run.options.webhooks:
        gevent.sleep(0.2)
    assert run.environment.runner is not None  # the test has started
    run.environment.runner.quit()


def _sync(run: Run) -> None:
    while run.done < run.options.webhooks:
        gevent.sleep(run.options.sync_every)
        begun, error = time.monotonic(), None
        try:
            report = trigger_sync(run.master, run.options.sync_token)
            if not report["ok"]:
                error = RuntimeError("; ".join(s["error"] for s in report["slaves"] if s["error"]))
        except (OSError, ValueError, WebhookSyncError) as trouble:
            error = RuntimeError(str(trouble))
        run.environment.events.request.fire(  # type: ignore[no-untyped-call]  # Locust's
            request_type="POST",
            name="/trigger-sync",
            response_time=(time.monotonic() - begun) * 1000,
            response_length=0,
            exception=error,
            context={},
        )


@events.test_stop.add_listener  # type: ignore[untyped-decorator]  # Locust's have no types
def finish(environment: Environment, **_: object) -> None:
    """The last syncs, the judgement, the thresholds, the exit code."""
    run = _runs.pop(id(environment), None)
    if run is None:
        return
    options = run.options
    faults = []
    verdict = None
    if options.sync_token:
        try:
            settle(run.master, options.sync_token, options.span)
            verdict = _judge(run)
            faults += [] if verdict.holds else ["a promise is broken"]
        except (NotSettled, OSError, WebhookSyncError) as error:
            faults.append(f"nothing could be judged: {error}")
    else:
        faults.append("nothing could be judged without --sync-token")
    faults += _check_thresholds(run)
    environment.process_exit_code = 1 if faults else 0
    _say(run, verdict, faults)


def _judge(run: Run) -> Verdict:
    options = run.options
    since = max(0, run.started_ms - _HOUR_MS)  # more than clocks and retries can make of it
    records = list(read_master(run.master, options.sync_token, options.master_store, since))
    if not options.master_store:
        # Others send to a deployment, too: what this run did not send is not its to judge.
        records = [each for each in records if digest_value(each.payload) in run.ledger.values]
    for record in records:
        if record.recovery is not None:
            run.tell("recovered", record.recovery.at - record.pair.timestamp)
    verdict = run.ledger.judge(records, options.master_node)
    for webhook in verdict.missing:
        run.tell("missing", 0, RuntimeError(f"acknowledged by {webhook.node}, not in the master"))
    return verdict


def _check_thresholds(run: Run) -> list[str]:
    faults = []
    stats = run.environment.stats
    requests = failures = 0
    for node in run.nodes:
        entry = stats.get(f"/webhook at {node}", "POST")
        requests, failures = requests + entry.num_requests, failures + entry.num_failures
        p99 = entry.get_response_time_percentile(0.99)
        if run.options.max_p99 and p99 > run.options.max_p99:
            faults.append(f"p99 of {node} is {p99:.0f} ms, above {run.options.max_p99:.0f}")
    if failures > run.options.max_errors * requests:
        faults.append(f"{failures} of {requests} requests were not acknowledged")
    return faults


def _say(run: Run, verdict: Verdict | None, faults: list[str]) -> None:
    p99 = {
        node: run.environment.stats.get(f"/webhook at {node}", "POST").get_response_time_percentile(
            0.99
        )
        for node in run.nodes
    }
    document = {
        **(verdict.to_json() if verdict else {}),
        "p99 ms": p99,
        "latest start s": round(run.late_s, 2),
        "refused": dict(run.ledger.refused),
        "faults": faults,
    }
    if run.options.verdict:
        with open(run.options.verdict, "w") as file:
            json.dump(document, file, indent=1)
    for what, value in document.items():
        print(f"{what}: {value}")
    for line in itertools.islice(map(str, verdict.missing if verdict else ()), 5):
        print(f"  missing: {line}")
