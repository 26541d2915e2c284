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
from contextlib import suppress
from pathlib import Path

from loadtests.accidents import Accidents, Syncs, find_idle_kinds
from loadtests.chaos_report import describe_latencies, say, write_markdown
from loadtests.chaos_senders import ChaosSenders
from loadtests.fault_nodes import SPAN_S, FaultNodes
from loadtests.faults import KINDS, MASTER, NODES, SLAVES, make_plan
from loadtests.ledger import Ledger, Verdict, digest_value
from loadtests.machine import describe_machine
from loadtests.plots import plot_course, plot_latencies
from loadtests.timeline import Timeline, follow_course, note_presence
from loadtests.webhooks import Webhooks
from portable_core.errors import WebhookSyncError

_CALM_S = 75.0


def run(seed: int, faults: int, seconds: float, rate: float, broken: bool, out: Path) -> bool:
    """One run. Writes the report and its plots into ``out`` and returns whether it succeeded."""
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
        senders = ChaosSenders(ledger, timeline, Webhooks(seed), targets, SLAVES, seed)
        asyncio.run(senders.send(int(rate * seconds), rate))
        trouble.join(180)
        syncs.stop()
        calm = _settle(nodes, syncs)
        records = nodes.read(MASTER)
        others = {digest_value(r.payload) for name in SLAVES for r in nodes.read(name)}
        verdict = ledger.judge(records, MASTER, nodes.excuses, others, nodes.needless)
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
        "without effect": find_idle_kinds(plan, accidents.notes),
        "left out": nodes.without,
        "refused": dict(ledger.refused),
        "recovered by slave": dict(Counter(slave for _, slave in recovered)),
        "syncs": len(timeline.syncs),
        "failed syncs": dict(syncs.failures),
        "set aside": nodes.set_aside,
        "latency ms": describe_latencies(timeline),
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
    course = follow_course(
        timeline, ledger.acknowledged, [*note_presence(records), *nodes.destroyed_presences]
    )
    plot_course(timeline, course, out / f"{name}-recovery.png")
    write_markdown(document, verdict, out / f"{name}.md", name)
    say(document, verdict)
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
        gone = [p.timestamp for p in nodes.destroyed if p.hash == hash_]
        lines.append(
            f"{webhook.node} at {webhook.at:.1f} s, hash {hash_}: acknowledged {told}, "
            f"stored {has}, destroyed in the master {gone}"
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
