"""One run of the Locust scenarios: what its users share, and the judgement in its end."""

from __future__ import annotations

import json
import secrets
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import gevent
from gevent.pool import Group
from locust.env import Environment

from loadtests.closing import NotSettled, read_master, settle
from loadtests.ledger import Ledger, Verdict, digest_value
from loadtests.scenarios import SCENARIOS, schedule
from loadtests.signing import Signer, make_signers
from loadtests.timeline import Timeline, follow_course, note_presence
from loadtests.webhooks import Webhooks
from portable_core.errors import SettingsError, WebhookSyncError
from portable_core.records import Record

_HOUR_MS = 3_600_000

#: The rows of our own in Locust's statistics.
ROWS = ("acknowledged", "refused", "recovered", "missing")


class Run:
    """What the users share. Raises ``SettingsError`` for options that cannot be meant."""

    def __init__(self, environment: Environment, options: Namespace) -> None:
        self.environment = environment
        self.options = options
        self.nodes = parse_nodes(options.nodes, options.host or "", options.master_node)
        self.scenario = SCENARIOS[options.scenario]
        self.seed = options.seed or secrets.randbits(32)
        self.webhooks = Webhooks(self.seed, self.scenario.large)
        self.ledger = Ledger(round(options.span * 1000), options.hash, options.hash_key.encode())
        self.signers: dict[str, Signer] = make_signers(options.secrets)
        self.timeline = Timeline()
        #: Senders that try again later.
        self.later = Group()
        self.done = 0
        self.late_s = 0.0
        if options.rate <= 0 or options.webhooks < 1:
            raise SettingsError("--rate and --webhooks: more than 0 are needed")
        if not 0 <= options.left_out < 1:
            raise SettingsError("--left-out: a share from 0 to below 1 is needed")
        if self.scenario.signed and not self.signers:
            raise SettingsError(f"--secrets: the scenario {options.scenario} signs, and needs them")
        self._due = enumerate(schedule(self.scenario, options.webhooks, options.rate))
        self._sources = sorted(self.signers) if self.scenario.signed else []

    @property
    def master(self) -> str:
        return self.nodes[self.options.master_node]

    @property
    def over(self) -> bool:
        return bool(self.done >= self.options.webhooks)

    def take(self) -> int | None:
        """The next webhook's number, when it is due; None after the last."""
        number, due = next(self._due, (None, 0.0))
        if number is not None:
            wait = due - self.timeline.now()
            self.late_s = max(self.late_s, -wait)
            gevent.sleep(max(0.0, wait))
        return number

    def choose_nodes(self, number: int) -> list[tuple[int, str]]:
        """The nodes that this webhook is sent to, at least one, with a number for its spelling."""
        random = Random(f"{self.seed}/{number}")
        nodes = list(enumerate(self.nodes))
        chosen = [node for node in nodes if random.random() >= self.options.left_out]
        return chosen or [random.choice(nodes)]

    def choose_source(self, number: int) -> str:
        return self._sources[number % len(self._sources)] if self._sources else "github"

    def tries_again(self, node: str, number: int, attempt: int, acknowledged: bool) -> bool:
        """Whether the sender tries again after this attempt (0 is the first)."""
        if attempt >= len(self.scenario.retries_s):
            return False
        random = Random(f"{self.seed}/{node}/{number}/{attempt}")
        unheard = random.random() < self.scenario.unheard
        repeated = attempt == 0 and random.random() < self.scenario.duplicates
        return not acknowledged or unheard or repeated

    def tell(
        self, name: str, milliseconds: float, error: Exception | None = None, kind: str = "webhook"
    ) -> None:
        """Add to a row of Locust's statistics."""
        self.environment.events.request.fire(  # type: ignore[no-untyped-call]  # Locust's
            request_type=kind,
            name=name,
            response_time=milliseconds,
            response_length=0,
            exception=error,
            context={},
        )

    # -- the end -----------------------------------------------------------------------------------

    def finish(self) -> int:
        """The last syncs, the judgement, the thresholds, the report. Returns the exit code."""
        options, faults = self.options, []
        verdict = None
        if not self.over:
            faults.append(f"stopped after {self.done} of {options.webhooks} webhooks")
        if options.sync_token:
            try:
                settle(self.master, options.sync_token, options.span)
                verdict = self._judge()
                faults += [] if verdict.holds else ["a promise is broken"]
            except (NotSettled, OSError, ValueError, WebhookSyncError) as error:
                faults.append(f"nothing could be judged: {error}")
        else:
            faults.append("nothing could be judged without --sync-token")
        faults += self._check_thresholds()
        self._report(verdict, faults)
        return 1 if faults else 0

    def _judge(self) -> Verdict:
        options = self.options
        since = max(0, self.timeline.begun_ms - _HOUR_MS)  # more than clocks and retries make of it
        records: Sequence[Record] = list(
            read_master(self.master, options.sync_token, options.master_store, since)
        )
        if not options.master_store:
            # Others send to a deployment, too: what this run did not send is not its to judge.
            records = [each for each in records if digest_value(each.payload) in self.ledger.values]
        for record in records:
            if record.recovery is not None:
                self.tell("recovered", record.recovery.at - record.pair.timestamp)
        verdict = self.ledger.judge(records, options.master_node)
        for webhook in verdict.missing:
            why = RuntimeError(f"acknowledged by {webhook.node}, not in the master")
            self.tell("missing", 0, why)
        if options.plots:
            self._plot(records)
        return verdict

    def _plot(self, records: Sequence[Record]) -> None:
        from loadtests.plots import plot_course, plot_latencies  # takes a second to import

        course = follow_course(self.timeline, self.ledger.acknowledged, note_presence(records))
        plot_latencies(self.timeline, Path(f"{self.options.plots}-latency.png"))
        plot_course(self.timeline, course, Path(f"{self.options.plots}-recovery.png"))

    def read_p99(self) -> dict[str, float]:
        """By node, milliseconds."""
        return {
            node: self.environment.stats.get(
                f"/webhook at {node}", "POST"
            ).get_response_time_percentile(0.99)
            for node in self.nodes
        }

    def _check_thresholds(self) -> list[str]:
        options, faults = self.options, []
        for node, p99 in self.read_p99().items():
            if options.max_p99 and p99 > options.max_p99:
                faults.append(f"p99 of {node} is {p99:.0f} ms, above {options.max_p99:.0f}")
        entries = [self.environment.stats.get(f"/webhook at {n}", "POST") for n in self.nodes]
        requests = sum(entry.num_requests for entry in entries)
        failures = sum(entry.num_failures for entry in entries)
        if failures > options.max_errors * requests:
            faults.append(f"{failures} of {requests} tries were not acknowledged")
        return faults

    def _report(self, verdict: Verdict | None, faults: list[str]) -> None:
        for row in ROWS:
            self.environment.stats.get(row, "webhook")  # makes the row where it has no entry yet
        document: dict[str, Any] = {
            "scenario": self.options.scenario,
            "seed": self.seed,
            **(verdict.to_json() if verdict else {}),
            "tries": sum(self.ledger.tries.values()),
            "syncs": len(self.timeline.syncs),
            "p99 ms": self.read_p99(),
            "latest start s": round(self.late_s, 2),
            "refused": dict(self.ledger.refused),
            "faults": faults,
        }
        if self.options.verdict:
            Path(self.options.verdict).write_text(json.dumps(document, indent=1))
        for what, value in document.items():
            print(f"{what}: {value}")
        for webhook in verdict.missing[:5] if verdict else ():
            print(f"  missing: {webhook.node} acknowledged {webhook.pair} at {webhook.at:.1f} s")


def parse_nodes(text: str, host: str, master: str) -> dict[str, str]:
    """``name=url,name=url`` as a mapping; without it the master at ``host``.

    Raises ``SettingsError``.
    """
    if not text:
        return {master: (host or "http://127.0.0.1:8080").rstrip("/")}
    nodes = {}
    for item in text.split(","):
        name, _, url = item.partition("=")
        nodes[name.strip()] = url.strip().rstrip("/")
        if not name.strip() or "://" not in url:
            raise SettingsError(f"--nodes: {item!r} is not name=url")
    if master not in nodes:
        raise SettingsError(f"--nodes: there is no {master!r}, which --master-node names")
    return nodes
