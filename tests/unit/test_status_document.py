"""The documents of ``GET /status`` and of a page: what a node writes is what a command reads."""

from __future__ import annotations

import json

import msgspec
import pytest

from portable_core.documents import convert_document
from portable_core.ingest.pending import BufferStatus
from portable_core.ingest.receiver import NodeStatus
from portable_core.ports import Damage, SlaveState, StoreInfo, StoreStatus
from portable_core.records import Meta, Pair, Recovery
from portable_core.sync.report import SlaveReport
from portable_core.sync.status import (
    MasterStatusDocument,
    SlaveDocument,
    StatusDocument,
    describe_slaves,
    describe_status,
)
from portable_core.webhooks.listing import PageDocument, describe_page
from portable_core.webhooks.search import Page, Row

STATUS = NodeStatus(
    StoreInfo("uuid", 2, "crc32c"),
    StoreStatus(3, 10, 20, 400, 1, (Damage("file", "torn"),), ((5, 7),)),
    BufferStatus(1, 100, 19),
    horizon=21,
    now=22,
)


def pass_on(document: object) -> object:
    """The document as the receiver of its JSON reads it."""
    return json.loads(json.dumps(msgspec.to_builtins(document)))


def test_the_status_of_a_master() -> None:
    states = {
        "alpha": SlaveState(20, "uuid", 1, report=SlaveReport("alpha", 9, saved=4).to_json()),
        "beta": SlaveState(),
    }
    document = describe_status("master", STATUS, describe_slaves(states, {"alpha": "http://a"}))
    received = pass_on(document)
    read = convert_document(received, MasterStatusDocument)
    assert pass_on(read) == received
    alpha, beta = read.slaves["alpha"], read.slaves["beta"]
    assert (alpha.url, alpha.completed, beta.url, beta.completed) == ("http://a", 20, None, 0)
    report = alpha.read_report()
    assert report is not None
    assert (report.slave, report.saved) == ("alpha", 4)
    assert beta.read_report() is None


def test_the_status_of_a_slave_is_no_master_s() -> None:
    received = pass_on(describe_status("slave", STATUS, None))
    assert isinstance(received, dict)
    assert "slaves" not in received
    assert convert_document(received, StatusDocument).store.damaged == [Damage("file", "torn")]
    with pytest.raises(ValueError, match=r"^slaves: missing$"):
        convert_document(received, MasterStatusDocument)


def test_a_slave_as_an_older_master_reports_it() -> None:
    assert convert_document({"in_until": 7, "report": {}}, SlaveDocument).completed == 7
    with pytest.raises(ValueError, match="complete_until: missing"):
        convert_document({"report": {}}, SlaveDocument)
    with pytest.raises(ValueError, match=r"^report\.saved: must be int >= 0"):
        SlaveDocument(complete_until=1, report={"saved": -1}).read_report()


def test_a_page() -> None:
    row = Row(Pair(1, 2), Meta("shop", {"ce-type": "sold"}), 3, Recovery("alpha", 4), "{}", "sold")
    received = pass_on(describe_page(Page((row,), Pair(1, 2))))
    read = convert_document(received, PageDocument)
    assert pass_on(read) == received
    assert (read.before, read.webhooks[0].id, read.webhooks[0].event) == ("1-2", "1-2", "sold")
