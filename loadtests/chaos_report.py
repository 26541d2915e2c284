"""What a chaos run says: on the terminal, and as Markdown beside its plots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loadtests.ledger import Verdict
from loadtests.timeline import Timeline


def describe_latencies(timeline: Timeline) -> dict[str, float]:
    ordered = sorted(latency for _, _, latency in timeline.latencies)
    return {
        f"p{part}": round(ordered[min(len(ordered) - 1, len(ordered) * part // 100)], 1)
        for part in (50, 90, 99)
        if ordered
    }


def write_markdown(document: dict[str, Any], verdict: Verdict, path: Path, name: str) -> None:
    lines = [f"# Chaos, seed {document['seed']}", ""]
    lines += ["**Ledger balanced.**" if document["ok"] else "**FAILED.**", ""]
    lines += [f"- {what}: {value}" for what, value in verdict.to_json().items()]
    lines += ["", "## Faults", ""]
    lines += [f"- {line}" for line in document["faults"]]
    lines += ["", "## Without effect", ""]
    lines += [f"- {kind}" for kind in document["without effect"]]
    for what in ("kinds", "left out", "refused", "recovered by slave", "failed syncs"):
        lines += ["", f"## {what.capitalize()}", ""]
        lines += [f"- {key}: {value}" for key, value in document[what].items()]
    lines += ["", f"![latency]({name}-latency.png)", "", f"![recovery]({name}-recovery.png)", ""]
    path.write_text("\n".join(lines))


def say(document: dict[str, Any], verdict: Verdict) -> None:
    print(f"\n{len(document['faults'])} faults of {len(document['kinds'])} kinds")
    for what, reason in document["left out"].items():
        print(f"  left out: {what}: {reason}")
    for kind in document["without effect"]:
        print(f"  never had an effect: {kind}")
    for what, value in verdict.to_json().items():
        print(f"  {what}: {value}")
    for line in document["missing"][:5] + document["needless copies"][:5]:
        print(f"  {line}")
    print(f"  latency: {document['latency ms']}, syncs: {document['syncs']}")
    print(f"  {document['seconds']} s; logs in {document['logs']}")
    print("ledger balanced" if document["ok"] else "FAILED")
