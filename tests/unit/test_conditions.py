"""Conditions: each kind from its cause alone, by severity, and documented."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from portable_core.epochs import NotedLoss
from portable_core.errors import StoreFull
from portable_core.ingest.clock_status import ClockStatus
from portable_core.ingest.pending import BufferStatus
from portable_core.ingest.receiver import NodeStatus
from portable_core.ingest.refusals import Refusal
from portable_core.ports import Damage, QuarantineSize, SlaveState, StoreInfo, StoreStatus
from portable_core.sync.conditions import (
    KINDS,
    REFUSED_MS,
    SEVERITIES,
    ConditionLog,
    NodeView,
    find_conditions,
    is_well,
)
from portable_core.sync.consumer import ConsumerDocument
from portable_core.sync.master_marks import MasterMark
from portable_core.sync.report import StoredReport

NOW = 1_700_000_000_000
LATE_MS = 900_000
DOCUMENT = Path(__file__).parents[2] / "docs" / "troubleshooting.md"

STORE = StoreStatus(3, NOW - 10, NOW - 1)
STATUS = NodeStatus(StoreInfo("uuid", 1, "crc32c"), STORE, BufferStatus(0, 0, None), NOW, NOW)
LOSS = NotedLoss("1f", "file", "it is damaged", 1, 2, reported=False)
REFUSAL = Refusal("hub", "Unauthorized", "wrong", 401, 7, NOW - 5, NOW - 5)


def state(**changes: Any) -> SlaveState:
    """Return the state of a slave that was just synced, with changes of its report."""
    report = StoredReport("a", started=NOW, **changes).to_json()
    return SlaveState(NOW, "uuid", 1, report=report)


def consumer(lag_ms: int | None) -> ConsumerDocument:
    return ConsumerDocument("shop", "1.a.b", NOW, lag_ms)


WELL = NodeView(
    now=NOW,
    span_ms=120_000,
    late_ms=LATE_MS,
    problem=None,
    status=STATUS,
    slaves={"a": state()},
    masters=(),
    refusals=(),
    sources=frozenset({"hub"}),
    fill=0.0,
    consumers=(consumer(LATE_MS),),
)


replace_ = msgspec.structs.replace


def with_store(**changes: Any) -> NodeView:
    return replace(WELL, status=replace(STATUS, store=replace(STORE, **changes)))


def with_slave(changed: SlaveState) -> NodeView:
    return replace(WELL, slaves={"a": changed})


CAUSES: dict[str, Callable[[], NodeView]] = {
    "store-down": lambda: replace(WELL, problem=StoreFull("the disk is full")),
    "part-damaged": lambda: with_store(damaged=(Damage("7.sqlite3", "torn"),)),
    "records-removed": lambda: with_store(gaps=((5, 7),)),
    "slave-failed": lambda: with_slave(state(error="no", error_type="SlaveUnreachable")),
    "slave-lost": lambda: with_slave(replace(state(), losses=(LOSS,))),
    "recovered-again": lambda: with_slave(state(again_at=[NOW - 80_000_000, NOW - 1_000])),
    "slave-late": lambda: with_slave(replace(state(), cursor=NOW - LATE_MS - 1)),
    "slave-warning": lambda: with_slave(state(warning="clocks")),
    "never-synced": lambda: with_slave(SlaveState()),
    "no-slave": lambda: replace(WELL, slaves={}),
    "master-late": lambda: replace(WELL, masters=(MasterMark("m", 5, True),)),
    "consumer-late": lambda: replace(WELL, consumers=(consumer(LATE_MS + 1),)),
    "consumer-unknown": lambda: replace(WELL, consumers=(consumer(None),)),
    "consumer-missed": lambda: replace(WELL, consumers=(replace_(consumer(5), missed=NOW),)),
    "retention-waits": lambda: replace(WELL, waits={"a": "retention waits"}),
    "dead-letters": lambda: replace(WELL, dead_letters=3),
    "quarantine": lambda: with_store(quarantine=QuarantineSize(2, 200)),
    "buffer-full": lambda: replace(WELL, fill=0.51),
    "clock": lambda: replace(WELL, status=replace(STATUS, clock=ClockStatus(60_000, NOW - 5))),
    "slave-removed": lambda: replace(WELL, gone={"a": state()}),
    "identity-rule": lambda: with_slave(state(similar={"hub": ["/attempt"]})),
    "webhooks-refused": lambda: replace(WELL, refusals=(REFUSAL,)),
}


def test_a_node_that_is_well_has_no_condition() -> None:
    assert find_conditions(WELL) == []
    assert find_conditions(replace(WELL, slaves=None)) == []
    assert [*CAUSES] == [*KINDS]


@pytest.mark.parametrize("name", KINDS)
def test_a_cause_has_its_condition_and_no_other(name: str) -> None:
    (condition,) = find_conditions(CAUSES[name]())
    kind = KINDS[name]
    assert (condition.name, condition.severity) == (name, kind.severity)
    assert condition.section == kind.section
    assert condition.text
    assert condition.action.endswith(".")
    subjects = {"master-late": "m"} | dict.fromkeys((n for n in KINDS if "slave-" in n), "a")
    subjects |= {"recovered-again": "a", "never-synced": "a", "identity-rule": "a"}
    subjects |= {"consumer-late": "shop", "consumer-unknown": "shop", "consumer-missed": "shop"}
    subjects["retention-waits"] = "a"
    assert condition.subject == subjects.get(name, "")
    assert is_well([condition]) == (kind.severity == "notice")


def test_a_removed_slave_raises_no_alarm_whatever_its_state() -> None:
    failed = replace(state(error="no"), cursor=NOW - 2 * LATE_MS, losses=(LOSS,))
    for gone in (failed, SlaveState(), state(warning="clocks")):
        (condition,) = find_conditions(replace(WELL, gone={"a": gone}))
        assert (condition.name, condition.severity) == ("slave-removed", "notice")
        assert ("never synced" in condition.text) == (gone.cursor is None)
        assert ("may be lost" in condition.text) == bool(gone.losses)


def test_the_most_severe_comes_first() -> None:
    view = replace(
        with_store(damaged=(Damage("f", "torn"),), quarantine=QuarantineSize(1, 1)),
        refusals=(REFUSAL,),
        slaves={"a": SlaveState(), "b": replace(state(), cursor=None)},
    )
    found = [SEVERITIES.index(each.severity) for each in find_conditions(view)]
    assert found == sorted(found)
    assert set(found) == {0, 1, 2}


def test_a_store_that_cannot_be_read_is_the_only_condition() -> None:
    view = replace(WELL, problem=StoreFull("full"), status=None, slaves=None)
    assert [each.name for each in find_conditions(view)] == ["store-down"]


@pytest.mark.parametrize(
    ("shown", "refusal"),
    [
        (False, replace(REFUSAL, last=NOW - REFUSED_MS)),
        (False, replace(REFUSAL, source="junk")),
        (True, replace(REFUSAL, source="junk", status=503)),
    ],
)
def test_junk_and_old_refusals_are_no_condition(shown: bool, refusal: Refusal) -> None:
    assert bool(find_conditions(replace(WELL, refusals=(refusal,)))) == shown
    open_node = replace(WELL, refusals=(replace(refusal, last=NOW),), sources=frozenset())
    assert find_conditions(open_node)


def test_the_log_has_a_line_when_a_condition_begins_and_when_it_ends() -> None:
    log = ConditionLog()
    late = find_conditions(CAUSES["slave-late"]())
    assert [line.partition(":")[0] for line in log.update(late)] == ["condition began"]
    assert log.update(late) == []
    assert log.update([]) == ["condition ended: slave-late of a"]


def test_the_documentation_lists_every_kind_with_its_section() -> None:
    text = DOCUMENT.read_text()
    rows = re.findall(
        r"^\| `([a-z-]+)` \| (\w+) \| .* \| \[[^]]+\]\(#([a-z0-9-]+)\) \|$", text, re.M
    )
    assert rows == [(name, kind.severity, kind.section) for name, kind in KINDS.items()]
    headings = re.findall(r"^## (.*)$", text, re.M)
    sections = {re.sub(r"[^a-z0-9 -]", "", each.lower()).replace(" ", "-") for each in headings}
    assert {kind.section for kind in KINDS.values()} <= sections
