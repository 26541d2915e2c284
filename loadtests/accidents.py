"""Carries out the plan of a chaos run, and triggers its syncs."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from loadtests.fault_nodes import FaultNodes
from loadtests.faults import MASTER, Fault
from loadtests.proxy import Proxy
from loadtests.timeline import Timeline
from portable_core.demo.cluster import trigger_sync
from portable_core.errors import WebhookSyncError

_SYNC_EVERY_S = 3.0
_DOWN_S = 0.4

#: How the note of a fault begins that met nothing that it could break.
NO_EFFECT = "no effect"


class Accidents:
    """Carries out a plan: a thread a fault, since several may be under way at once."""

    def __init__(self, nodes: FaultNodes, timeline: Timeline) -> None:
        self._nodes = nodes
        self._timeline = timeline
        self.notes: dict[int, str] = {}
        #: Damage reads every store: only one at a time.
        self._looking = threading.Lock()
        self._actions: Mapping[str, Callable[[Fault], str | None]] = {
            "sigkill": self._kill,
            "sigterm": self._terminate,
            "freeze": self._freeze,
            "reset": self._reset,
            "cut-answer": lambda f: self._door(f, cut_answer=f.amount, reset=True),
            "cut-sync": lambda f: self._link(f, cut_answer=f.amount, reset=True),
            "slow": lambda f: self._door(f, rate=f.amount),
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
        return _count_resets(door.resets - before)

    def _door(self, fault: Fault, **changes: object) -> str:
        return self._bend(self._nodes.doors[fault.target], fault.seconds, changes)

    def _link(self, fault: Fault, **changes: object) -> str:
        return self._bend(self._nodes.links[fault.target], fault.seconds, changes)

    def _bend(self, proxy: Proxy, seconds: float, changes: Mapping[str, object]) -> str:
        before, held = proxy.resets, proxy.held
        proxy.behave(**changes)
        time.sleep(seconds)
        proxy.heal()
        time.sleep(0.1)  # it resets in its own thread what was half-open
        return _count_resets(proxy.resets - before, proxy.held - held)

    def _fill_disk(self, fault: Fault) -> None:
        self._nodes.fill_disk(fault.target)
        time.sleep(fault.seconds)
        self._nodes.empty_disk(fault.target)

    def _damage(self, fault: Fault) -> str:
        with self._looking:
            self._nodes.nodes[fault.target].kill()
            note = self._nodes.damage(fault.target)
        if note in ("no file yet", "0 records unreadable"):
            note = f"{NO_EFFECT}: {note}"
        time.sleep(_DOWN_S)
        self._start_again(fault.target)
        if fault.target == MASTER:
            return note
        time.sleep(fault.seconds)
        with self._looking:
            return f"{note}, {self._nodes.put_back(fault.target)}"

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


def _count_resets(count: int, held: int = 0) -> str:
    """``held``: pieces of the traffic that were slowed down or swallowed."""
    if count:
        return f"{count} connections reset"
    return f"{held} pieces held" if held else f"{NO_EFFECT}: 0 connections reset"


def find_idle_kinds(plan: Iterable[Fault], notes: Mapping[int, str]) -> list[str]:
    """The kinds of faults that never had an effect: they proved nothing in this run."""
    kinds = {fault.kind for fault in plan}
    met = {f.kind for f in plan if not notes.get(f.number, NO_EFFECT).startswith(NO_EFFECT)}
    return sorted(kinds - met)


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
