"""Refused webhooks: counted whatever senders do, and logged at a bounded rate without secrets."""

from __future__ import annotations

from portable_core.errors import (
    BufferFull,
    MalformedPayload,
    StoreFull,
    Unauthorized,
    WebhookSyncError,
)
from portable_core.ingest.refusals import LOG_EVERY_MS, MAX_LINES, MAX_SOURCES, OTHER, Refusals

WRONG = Unauthorized("the signature does not match")


def note(refusals: Refusals, source: str, error: WebhookSyncError, *times: int) -> list[str]:
    """Note a refusal at each time; return the lines."""
    return [line for at in times if (line := refusals.note(source, error, at)) is not None]


def test_a_reason_is_logged_once_a_minute_with_the_number_of_the_others() -> None:
    refusals = Refusals(["hub"])
    lines = note(refusals, "hub", WRONG, 0, 1, 2, LOG_EVERY_MS - 1, LOG_EVERY_MS, LOG_EVERY_MS + 1)
    text = "webhook refused with 401 (source 'hub'): Unauthorized: the signature does not match"
    assert lines == [text, f"{text} (3 more since the last such line)"]
    assert note(refusals, "", WRONG, 3) == [text.replace("source 'hub'", "no source")]
    (of_none, of_hub) = sorted(refusals.list_all(), key=lambda group: group.source)
    assert (of_hub.count, of_hub.first, of_hub.last) == (6, 0, LOG_EVERY_MS + 1)
    assert of_none.count == 1


def test_a_fault_of_the_node_is_one_line_for_all_sources() -> None:
    refusals = Refusals()
    error = StoreFull("the disk is full")
    lines = [line for n in range(200) for line in note(refusals, f"s{n % 9}", error, n)]
    assert len(lines) == 1
    assert len(note(refusals, "s1", BufferFull("full"), 300)) == 1
    assert sum(group.count for group in refusals.list_all()) == 201


def test_a_clock_that_jumps_back_does_not_silence_the_log() -> None:
    refusals = Refusals()
    assert len(note(refusals, "s", WRONG, 10 * LOG_EVERY_MS, 5)) == 2


def test_junk_names_displace_no_configured_source_and_fill_neither_memory_nor_log() -> None:
    refusals = Refusals(["hub"])
    junk = [line for n in range(1000) for line in note(refusals, f"junk-{n}", WRONG, n)]
    assert len(junk) == MAX_LINES
    groups = {group.source: group.count for group in refusals.list_all()}
    assert (len(groups), groups[OTHER]) == (MAX_SOURCES + 1, 1000 - MAX_SOURCES)
    note(refusals, "hub", WRONG, 2000)
    assert refusals.list_all()[0].source == "hub"
    assert len(note(refusals, "hub", WRONG, 3 * LOG_EVERY_MS)) == 1


def test_a_reason_has_no_secret_and_no_part_of_a_payload() -> None:
    refusals = Refusals(["hub"], {"s3cret", "s3cret-longer", ""})
    (line,) = note(refusals, "hub", Unauthorized("not s3cret-longer\nnor s3cret"), 0)
    assert "not *** nor ***" in line
    (line,) = note(refusals, "hub", MalformedPayload("the key 'iban' occurs twice", 7), 0)
    assert line.endswith("Malformed payload: at byte 7")
    assert max(len(group.reason) for group in refusals.list_all()) <= 300
