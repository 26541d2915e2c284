"""``make chaos SEED=1``: a load with accidents, and the question whether the ledger balances.

Real nodes, real processes, a plan drawn from the seed: the same seed is the same webhooks and the
same faults at the same moments. What the machine makes of them in between differs, so the figures
of two runs differ; the verdict must not.

Exits 0 only if everything that was acknowledged anywhere is represented in the master, nothing
needless is in it, and every fault of the plan was carried out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from loadtests.fault_nodes import SPAN_S, FaultNodes
from loadtests.faults import KINDS, MASTER, NODES, SLAVES, Fault, make_plan
from loadtests.ledger import Ledger, Verdict, digest_value
from loadtests.machine import describe_machine
from loadtests.plots import plot_latencies, plot_recovery
from loadtests.proxy import FaultProxy
from loadtests.senders import Senders, Timeline
from loadtests.webhooks import Webhooks
from portable_core.demo.cluster import trigger_sync
from portable_core.errors import WebhookSyncError

_SYNC_EVERY_S = 3.0
_CALM_S = 75.0


class Accidents:
    """Carries out a plan: a thread a fault, since several may be under way at once."""

    def __init__(self, nodes: FaultNodes, timeline: Timeline) -> None:
        self._nodes = nodes
        self._timeline = timeline
        self.notes: dict[int, str] = {}
        #: Kills of one node and damage to another must not overlap: damage reads every store.
        self._looking = threading.Lock()
        self._actions: Mapping[str, Callable[[Fault], str | None]] = {
            "sigkill": self._kill,
            "sigterm": self._terminate,
            "freeze": self._freeze,
            "reset": self._reset,
            "cut-answer": lambda f: self._door(f, cut_after=f.amount),
            "cut-sync": lambda f: self._link(f, cut_after=f.amount),
            "slow": lambda f: self._door(f, bytes_per_s=f.amount),
            "half-open": lambda f: self._door(f, silent=True),
            "half-open-sync": lambda f: self._link(f, silent=True),
            "full-disk": self._fill_disk,
            "damaged-file": self._damage,
            "clock": self._set_clock,
            "clock-far": self._set_clock,
            "firestore-gone": self._hide_firestore,
        }

    def run(self, plan: list[Fault], say: Callable[[str], None]) -> None:
        """Carry out the plan; returns when the last fault is over."""
        threads = []
        for fault in plan:
            time.sleep(max(0.0, fault.at - self._timeline.now()))
            thread = threading.Thread(target=self._carry_out, args=(fault, say), daemon=True)
            thread.start()
            threads.append(thread)
        for thread in threads:
            thread.join(120)

    def _carry_out(self, fault: Fault, say: Callable[[str], None]) -> None:
        begun = self._timeline.now()
        try:
            note = self._actions[fault.kind](fault) or "over"
        except Exception as error:  # noqa: BLE001  # said in the report; the run then fails
            note = f"FAILED: {error!r}"
        ended = self._timeline.now()
        self._timeline.faults.append((begun, ended, f"{fault.kind} {fault.target}"))
        self.notes[fault.number] = f"{note} ({ended - begun:.1f} s)"
        say(f"{fault}: {self.notes[fault.number]}")

    def _start_again(self, name: str) -> None:
        node = self._nodes.nodes[name]
        node.start()
        # It may have to wait: for a disk that is full, for a Firestore that is gone.
        with suppress(WebhookSyncError):
            node.wait_until_healthy(20)

    def _kill(self, fault: Fault) -> None:
        self._nodes.nodes[fault.target].kill()
        time.sleep(fault.seconds)
        self._start_again(fault.target)

    def _terminate(self, fault: Fault) -> str:
        code = self._nodes.nodes[fault.target].stop()
        time.sleep(fault.seconds)
        self._start_again(fault.target)
        return f"exit code {code}"

    def _freeze(self, fault: Fault) -> None:
        self._nodes.freeze(fault.target)
        time.sleep(fault.seconds)
        self._nodes.thaw(fault.target)

    def _reset(self, fault: Fault) -> str:
        door = self._nodes.doors[fault.target]
        before = door.resets
        door.behave(refuse=True)
        door.reset_all()
        time.sleep(fault.seconds)
        door.heal()
        return f"{door.resets - before} connections reset"

    def _door(self, fault: Fault, **changes: object) -> str:
        return self._bend(self._nodes.doors[fault.target], fault.seconds, changes)

    def _link(self, fault: Fault, **changes: object) -> str:
        return self._bend(self._nodes.links[fault.target], fault.seconds, changes)

    def _bend(self, proxy: FaultProxy, seconds: float, changes: Mapping[str, object]) -> str:
        before = proxy.resets
        proxy.behave(**changes)
        time.sleep(seconds)
        proxy.heal()
        time.sleep(0.1)  # it resets in its own thread what was half-open
        return f"{proxy.resets - before} connections reset"

    def _fill_disk(self, fault: Fault) -> None:
        self._nodes.fill_disk(fault.target)
        time.sleep(fault.seconds)
        self._nodes.empty_disk(fault.target)

    def _damage(self, fault: Fault) -> str:
        with self._looking:
            self._nodes.nodes[fault.target].kill()
            note = self._nodes.damage(fault.target)
        time.sleep(fault.seconds)
        self._start_again(fault.target)
        return note

    def _set_clock(self, fault: Fault) -> None:
        self._nodes.set_clock(fault.amount)
        time.sleep(fault.seconds)
        self._nodes.set_clock(0)

    def _hide_firestore(self, fault: Fault) -> None:
        proxy = self._nodes.firestore
        assert proxy is not None  # the plan has no such fault without one
        proxy.behave(refuse=True)
        proxy.reset_all()
        time.sleep(fault.seconds)
        proxy.heal()


class Syncs:
    """Triggers a sync every few seconds, as a scheduler would, whatever became of the last."""

    def __init__(self, nodes: FaultNodes, timeline: Timeline) -> None:
        self._nodes = nodes
        self._timeline = timeline
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.failures: Counter[str] = Counter()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(60)

    def sync(self) -> bool:
        """One sync. Returns whether every slave was synced to the end that was aimed at."""
        master = self._nodes.nodes[MASTER]
        try:
            report = trigger_sync(master.url, self._nodes.token, 30)
        except (OSError, ValueError, WebhookSyncError) as error:
            self.failures[type(error).__name__] += 1
            self._timeline.syncs.append((self._timeline.now(), 0, False))
            return False
        for slave in report["slaves"]:
            if slave["error"]:
                self.failures[f"{slave['slave']}: {slave['error'][:90]}"] += 1
            if slave["set_aside"]:
                self._nodes.set_aside.append(f"{slave['slave']}: {slave['set_aside']}")
        saved = sum(slave["saved"] for slave in report["slaves"])
        self._timeline.syncs.append((self._timeline.now(), saved, report["ok"]))
        return bool(report["ok"]) and not any(slave["behind_ms"] for slave in report["slaves"])

    def _run(self) -> None:
        while not self._stop.wait(_SYNC_EVERY_S):
            self.sync()


def run(seed: int, faults: int, seconds: float, rate: float, broken: bool, out: Path) -> bool:
    """One run. Writes the report and its plots into ``out`` and returns whether all is well."""
    begun = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="webhook-sync-chaos-"))
    nodes = FaultNodes(folder, broken=broken)
    ledger = Ledger(SPAN_S * 1000)
    try:
        nodes.start()
        kinds = [kind for kind in KINDS if kind not in nodes.without]
        plan = make_plan(seed, faults, seconds, kinds)
        timeline = Timeline()
        accidents, syncs = Accidents(nodes, timeline), Syncs(nodes, timeline)
        syncs.start()
        trouble = threading.Thread(target=accidents.run, args=(plan, print), daemon=True)
        trouble.start()
        targets = {name: nodes.doors[name].url for name in NODES}
        senders = Senders(ledger, timeline, Webhooks(seed), targets, seed)
        asyncio.run(senders.send(int(rate * seconds), rate, lambda number: None))
        trouble.join(180)
        syncs.stop()
        calm = _settle(nodes, syncs)
        records = nodes.read(MASTER)
        others = {digest_value(r.payload) for name in SLAVES for r in nodes.read(name)}
        verdict = ledger.judge(records, MASTER, nodes.excuses, others)
        traces = _trace_missing(nodes, ledger, verdict)
        recovered = [(r.recovery.at, r.recovery.slave) for r in records if r.recovery is not None]
    finally:
        codes = nodes.stop()
    lines = [f"{fault}: {accidents.notes.get(fault.number, 'NOT CARRIED OUT')}" for fault in plan]
    done = all("FAILED" not in line and "NOT CARRIED" not in line for line in lines)
    ok = verdict.holds and calm and done
    document = {
        "seed": seed,
        "broken build": broken,
        "ok": ok,
        "verdict": verdict.to_json(),
        "all synced in the end": calm,
        "faults": lines,
        "kinds": dict(Counter(fault.kind for fault in plan)),
        "left out": nodes.without,
        "refused": dict(ledger.refused),
        "recovered by slave": dict(Counter(slave for _, slave in recovered)),
        "syncs": len(timeline.syncs),
        "failed syncs": dict(syncs.failures),
        "set aside": nodes.set_aside,
        "latency ms": _describe_latencies(timeline),
        "missing": traces,
        "needless copies": [str(held) for held in verdict.needless[:20]],
        "exit codes": codes,
        "seconds": round(time.monotonic() - begun, 1),
        "logs": "removed" if ok else str(folder),
        "machine": describe_machine(),
    }
    out.mkdir(parents=True, exist_ok=True)
    name = f"chaos-{seed}{'-broken' if broken else ''}"
    (out / f"{name}.json").write_text(json.dumps(document, indent=1))
    plot_latencies(timeline, out / f"{name}-latency.png")
    plot_recovery(timeline, ledger, records, out / f"{name}-recovery.png")
    _write_markdown(document, verdict, out / f"{name}.md", name)
    _say(document, verdict)
    if ok:
        shutil.rmtree(folder, ignore_errors=True)
    return ok


def _trace_missing(nodes: FaultNodes, ledger: Ledger, verdict: Verdict) -> list[str]:
    """Where a missing webhook is and was: who acknowledged it, who has it, what destroyed it."""
    if not verdict.missing:
        return []
    now = {name: [record.pair for record in nodes.read(name)] for name in NODES}
    lines = []
    for webhook in verdict.missing[:50]:
        hash_ = webhook.pair.hash
        told = [(a.node, a.pair.timestamp) for a in ledger.acknowledged if a.value == webhook.value]
        has = [(name, p.timestamp) for name, pairs in now.items() for p in pairs if p.hash == hash_]
        gone = [
            (name, p.timestamp) for name, pairs in nodes.destroyed for p in pairs if p.hash == hash_
        ]
        lines.append(
            f"{webhook.node} at {webhook.at:.1f} s, hash {hash_}: acknowledged {told}, "
            f"stored {has}, destroyed {gone}"
        )
    return lines


def _settle(nodes: FaultNodes, syncs: Syncs) -> bool:
    """Wait until every node is well, and sync until nothing is behind twice in a row."""
    deadline = time.monotonic() + _CALM_S
    for node in nodes.nodes.values():
        with suppress(WebhookSyncError):
            node.wait_until_healthy(20)
    # What was sent last is asked for only one span later.
    time.sleep(SPAN_S * 1.25 + 2)
    calm = 0
    while calm < 2 and time.monotonic() < deadline:
        calm = calm + 1 if syncs.sync() else 0
        time.sleep(0.5)
    return calm == 2


def _describe_latencies(timeline: Timeline) -> dict[str, float]:
    ordered = sorted(latency for _, _, latency in timeline.latencies)
    return {
        f"p{part}": round(ordered[min(len(ordered) - 1, len(ordered) * part // 100)], 1)
        for part in (50, 90, 99)
        if ordered
    }


def _write_markdown(document: dict[str, Any], verdict: Verdict, path: Path, name: str) -> None:
    lines = [f"# Chaos, seed {document['seed']}", ""]
    lines += ["**Ledger balanced.**" if document["ok"] else "**FAILED.**", ""]
    lines += [f"- {what}: {value}" for what, value in verdict.to_json().items()]
    lines += ["", "## Faults", ""]
    lines += [f"- {line}" for line in document["faults"]]
    for what in ("kinds", "left out", "refused", "recovered by slave", "failed syncs"):
        lines += ["", f"## {what.capitalize()}", ""]
        lines += [f"- {key}: {value}" for key, value in document[what].items()]
    lines += ["", f"![latency]({name}-latency.png)", "", f"![recovery]({name}-recovery.png)", ""]
    path.write_text("\n".join(lines))


def _say(document: dict[str, Any], verdict: Verdict) -> None:
    print(f"\n{len(document['faults'])} faults of {len(document['kinds'])} kinds")
    for what, reason in document["left out"].items():
        print(f"  left out: {what}: {reason}")
    for what, value in verdict.to_json().items():
        print(f"  {what}: {value}")
    for line in document["missing"][:5] + document["needless copies"][:5]:
        print(f"  {line}")
    print(f"  latency: {document['latency ms']}, syncs: {document['syncs']}")
    print(f"  {document['seconds']} s; logs in {document['logs']}")
    print("ledger balanced" if document["ok"] else "FAILED")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=int, default=42)
    parser.add_argument("--seconds", type=float, default=130, help="how long the load lasts")
    parser.add_argument("--rate", type=float, default=30, help="webhooks a second, to each node")
    parser.add_argument("--broken", action="store_true", help="a build that acknowledges too early")
    parser.add_argument("--out", type=Path, default=Path("reports"))
    options = parser.parse_args()
    ok = run(
        *(options.seed, options.faults, options.seconds, options.rate, options.broken, options.out)
    )
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
