"""Bad input over bare sockets: refused with its fault named, and nothing comes of it.

The tables are in ``bad_bodies.py``, ``bad_heads.py`` and ``bad_questions.py``; each goes to a slave
and to a master, in a container and as a function. After every refused request a good one
must be answered, and in the end the store must hold the good ones alone. ``pytest -s`` shows every
status, and who answered.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from portable_core.demo.processes import Kind, NodeProcess
from tests.support.nodes.sync_nodes import Nodes, start
from tests.support.requests.bad_authenticated import MASTER, SLAVE
from tests.support.requests.bad_bodies import FRAMINGS, KINDS, PAYLOADS
from tests.support.requests.bad_heads import HEADS, PATHS, SIGNED
from tests.support.requests.bad_requests import REFUSALS, Case, post
from tests.support.requests.raw_http import NO_ANSWER, RawAnswer, exchange

SOURCES = "signed=github:a-secret-for-tests"

EVERY_NODE: Mapping[str, Mapping[str, Case]] = {
    "payload": PAYLOADS,
    "kind": KINDS,
    "framing": FRAMINGS,
    "head": HEADS,
    "path": PATHS,
    "signed": SIGNED,
}
TABLES: Mapping[str, Mapping[str, Mapping[str, Case]]] = {
    "slave": {**EVERY_NODE, "sync": SLAVE},
    "master": {**EVERY_NODE, "master": MASTER},
}


class Sender:
    """Sends bad requests to a node, each followed by a good webhook, and counts both."""

    def __init__(self, node: NodeProcess) -> None:
        self.node = node
        self.good: list[bytes] = []

    def send(self, case: Case) -> RawAnswer:
        answer = exchange(self.node.port, case.request, end=case.end)
        good = b'{"good":%d}' % len(self.good)
        acknowledged = exchange(self.node.port, post(good))
        assert acknowledged.status == 200, "a good webhook after it is not answered"
        self.good.append(good)
        return answer


def find_fault(case: Case, answer: RawAnswer, sender: Sender) -> str:
    """What is wrong with the answer; empty if nothing is."""
    if b"Traceback" in answer.body or b'File "' in answer.body:
        return f"shows a stack trace: {answer.body!r}"
    if case.says is None or case.refused_by == sender.node.kind:
        return "" if answer.status in REFUSALS else f"{answer.status}: {answer.body!r}"
    try:
        named = re.search(case.says, answer.detail) is not None
    except ValueError as error:
        return str(error)
    return "" if named and answer.status == case.status else f"{answer.status}: {answer.detail}"


@pytest.mark.parametrize("kind", ["container", pytest.param("function", marks=pytest.mark.deep)])
@pytest.mark.parametrize("name", TABLES)
def test_bad_requests_are_refused_and_leave_nothing(tmp_path: Path, name: str, kind: Kind) -> None:
    with Nodes(tmp_path) as nodes:
        if name == "master":
            node = nodes.make_master({}, kind, SOURCES=SOURCES)
        else:
            node = nodes.make_slave(name, kind, SOURCES=SOURCES)
        start(node)
        sender, faults = Sender(node), {}
        for group, cases in TABLES[name].items():
            statuses: Counter[str] = Counter()
            for title, case in cases.items():
                answer = sender.send(case)
                statuses[describe(answer)] += 1
                if fault := find_fault(case, answer, sender):
                    faults[f"{group}: {title}"] = fault
            seen = ", ".join(f"{count} x {what}" for what, count in sorted(statuses.items()))
            print(f"{name} as {kind}, {group}: {len(cases)} requests: {seen}")
        assert not faults
        assert node.stop() == 0
        log = node.log.read_text()
        assert "Traceback" not in log
        assert "unexpected error" not in log
        held = Counter(record.payload for record in nodes.read(node))
        assert held == Counter(sender.good)


def describe(answer: RawAnswer) -> str:
    """The status, and whether this project answered or the server."""
    if answer.status == NO_ANSWER:
        return "closed"
    kind = answer.headers.get("content-type", "")
    return f"{answer.status}{'' if 'json' in kind else ' of the server'}"
