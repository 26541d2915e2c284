"""A fault that met nothing is told as such: it proves nothing."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from loadtests.accidents import Accidents, find_idle_kinds
from loadtests.fault_nodes import FaultNodes
from loadtests.faults import MASTER, Fault
from loadtests.proxy import Proxy
from loadtests.timeline import Timeline

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("kind", ["reset", "cut-answer", "slow", "half-open"])
def test_a_fault_without_traffic_had_no_effect(tmp_path: Path, kind: str) -> None:
    nodes = FaultNodes(tmp_path)
    door = nodes.doors[MASTER] = Proxy(1, name="idle")
    door.start()
    try:
        accidents = Accidents(nodes, Timeline())
        plan = [Fault(0, kind, MASTER, 0.0, 0.05, 10)]
        accidents.run(plan, lambda line: None)
    finally:
        door.close()
    assert accidents.notes[0].startswith("no effect: 0 connections reset")
    assert find_idle_kinds(plan, accidents.notes) == [kind]
    assert find_idle_kinds(plan, {0: "1 connections reset (0.1 s)"}) == []


@pytest.mark.parametrize(("value", "broken"), [("", False), ("0", False), ("1", True)])
def test_only_a_true_value_breaks_the_build(value: str, broken: bool) -> None:
    command = ["make", "--dry-run", "chaos", f"BROKEN={value}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
    assert ("--broken" in done.stdout) is broken
