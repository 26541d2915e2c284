"""What is wrong with a node: one function for all places that show it.

The status document, the command, the console, the metrics and the log show these conditions. Each
kind has one name, one severity, one sentence with what to do, and a section of
``docs/troubleshooting.md``.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import msgspec

from portable_core.errors import StoreError, WebhookSyncError
from portable_core.ingest.clock_status import describe_clock
from portable_core.ingest.receiver import NodeStatus
from portable_core.ingest.refusals import Refusal
from portable_core.ports import Milliseconds, SlaveState
from portable_core.sync.advice import advise
from portable_core.sync.completeness import slave_complete_until
from portable_core.sync.consumer import ConsumerDocument
from portable_core.sync.master_marks import MasterMark
from portable_core.sync.report import read_report
from portable_core.sync.resuming import describe_losses, find_open_losses, format_moment

#: ``critical``: webhooks are missing, lost or not accepted, or may be. ``warning``: they may be
#: soon, or completeness is unknown. ``notice``: everything is complete, but look at it.
Severity = Literal["critical", "warning", "notice"]

SEVERITIES: tuple[Severity, ...] = ("critical", "warning", "notice")

#: For how long a refused webhook is a condition.
REFUSED_MS = 600_000

#: So many syncs within this time that recovered what the master had lost are a condition. One may
#: follow from a file that was damaged once.
MOST_AGAIN = 2
AGAIN_MS = 86_400_000

#: The fill level of the buffer from which it is a condition.
FULL = 0.5

_MOST_NAMED = 5


class Kind(NamedTuple):
    """A kind of condition: its severity, what to do, and the section of the documentation."""

    severity: Severity
    action: str
    section: str


KINDS: Mapping[str, Kind] = {
    "store-down": Kind(
        "critical",
        "Senders get 503 and retry. See the reason, and free the disk or repair it.",
        "a-node-does-not-accept-webhooks",
    ),
    "part-damaged": Kind(
        "critical",
        "Restore the file from a backup; the next syncs recover what slaves still have.",
        "a-part-of-a-store-is-damaged",
    ),
    "records-removed": Kind(
        "critical",
        "Raise RETENTION_BYTES, and find out why no master synced this slave.",
        "a-gap-in-a-slaves-store",
    ),
    "slave-failed": Kind("critical", "See the master's log.", "a-slave-failed"),
    "slave-lost": Kind(
        "critical",
        advise("LossesNotAcknowledged"),
        "acknowledged-webhooks-may-be-lost",
    ),
    "recovered-again": Kind(
        "critical",
        "Find out what removes records from the master's store: another program, or its disk.",
        "the-master-loses-records",
    ),
    "slave-late": Kind(
        "critical",
        "Sync now, and check that SYNC_EVERY_S is set or a scheduler calls POST /trigger-sync.",
        "a-slave-is-late",
    ),
    "slave-warning": Kind("warning", "See the text of the warning.", "a-slave-failed"),
    "never-synced": Kind(
        "warning",
        "Sync now. Then set SYNC_EVERY_S=60, or let a scheduler call POST /trigger-sync.",
        "a-slave-was-never-synced",
    ),
    "no-slave": Kind(
        "warning",
        "List the slaves in SLAVES: without one, nothing recovers a webhook that this node missed.",
        "no-slave-is-configured",
    ),
    "master-late": Kind(
        "warning",
        "Sync that master, or forget it with webhook-sync masters forget: retention waits for it.",
        "a-slaves-store-grows",
    ),
    "consumer-late": Kind(
        "warning",
        "Look at the consumer's log, or delete it with webhook-sync consumers delete.",
        "an-application-gets-no-webhooks",
    ),
    "consumer-unknown": Kind(
        "warning",
        "Begin again with the position that the response to its next request names as resume.",
        "an-application-gets-no-webhooks",
    ),
    "consumer-missed": Kind(
        "critical",
        "Give the consumer these webhooks from an archive or a backup; then delete it with "
        "webhook-sync consumers delete, and register it again.",
        "retention-on-a-master",
    ),
    "retention-waits": Kind(
        "warning",
        "Sync the slave or acknowledge its losses; let the consumer catch up, or delete it. "
        "The store grows meanwhile.",
        "retention-on-a-master",
    ),
    "dead-letters": Kind(
        "warning",
        "Correct the application; then retry or drop them, on the console's page or by "
        "webhook-sync dead-letters.",
        "an-application-gets-no-webhooks",
    ),
    "quarantine": Kind(
        "warning",
        "Look at the records with webhook-sync quarantine list; release or delete them.",
        "records-in-quarantine",
    ),
    "buffer-full": Kind(
        "warning",
        "Find out why the disk is slow; beyond the limit senders get 503.",
        "a-node-does-not-accept-webhooks",
    ),
    "clock": Kind("warning", "Check the clock of this machine.", "a-clock-is-wrong"),
    "slave-removed": Kind(
        "notice",
        "Forget it with webhook-sync slaves forget, or list it in SLAVES again.",
        "a-slave-was-removed",
    ),
    "identity-rule": Kind(
        "notice",
        "Add an identity rule for the source to SOURCES_FILE on every node.",
        "copies-of-a-webhook",
    ),
    "webhooks-refused": Kind(
        "notice",
        "Compare the source's secret and address with the provider's; see the log.",
        "senders-get-4xx",
    ),
}


#: The conditions whose subject is a slave.
OF_SLAVES = frozenset(
    {
        "slave-failed",
        "slave-lost",
        "slave-late",
        "recovered-again",
        "slave-warning",
        "never-synced",
        "identity-rule",
    }
)


class Condition(msgspec.Struct, frozen=True):
    """A condition of a node.

    ``subject`` is the slave, master or consumer that it concerns; empty for the node itself.
    ``section`` is the anchor of ``docs/troubleshooting.md``.
    """

    name: str
    severity: Severity
    text: str
    action: str
    section: str
    subject: str = ""


@dataclass(frozen=True, slots=True)
class NodeView:
    """What conditions are found from.

    - ``problem``: why the store accepts no webhook; None if it does.
    - ``status``: None if the store cannot be read.
    - ``slaves``: the states of a master's configured slaves; None for a slave.
    - ``masters``: the masters of a slave.
    - ``sources``: the sources with a setting of their own.
    - ``fill``: the fill level of the buffer.
    - ``consumers``: the registered consumers of a master.
    - ``dead_letters``: the number of webhooks that the ``forward`` of a master has not delivered.
    - ``gone``: the states of slaves that are no longer configured.
    - ``floor``: that of a master.
    - ``waits``: by slave or consumer, why the retention of a master keeps records that are due.
    """

    now: Milliseconds
    span_ms: Milliseconds
    late_ms: Milliseconds
    problem: WebhookSyncError | None
    status: NodeStatus | None
    slaves: Mapping[str, SlaveState] | None
    masters: Sequence[MasterMark]
    refusals: Sequence[Refusal]
    sources: frozenset[str]
    fill: float
    consumers: Sequence[ConsumerDocument] = ()
    gone: Mapping[str, SlaveState] = field(default_factory=dict)
    dead_letters: int = 0
    floor: Milliseconds = 0
    waits: Mapping[str, str] = field(default_factory=dict)

    def require_status(self) -> NodeStatus:
        """Return the status; raise the reason if the store cannot be read."""
        if self.status is None:
            raise self.problem or StoreError("the store cannot be read")
        return self.status


def find_conditions(view: NodeView) -> list[Condition]:
    """Return the conditions, the most severe first."""
    found = [*_find_in_store(view), *_find_in_slaves(view), *_find_elsewhere(view)]
    return sort_conditions(found)


def sort_conditions(conditions: Iterable[Condition]) -> list[Condition]:
    """Return conditions, the most severe first."""
    return sorted(conditions, key=lambda condition: SEVERITIES.index(condition.severity))


def is_well(conditions: Iterable[Condition]) -> bool:
    """Return whether none of these is more than a notice."""
    return all(condition.severity == "notice" for condition in conditions)


def _make(name: str, text: str, subject: str = "", action: str = "") -> Condition:
    kind = KINDS[name]
    return Condition(name, kind.severity, text, action or kind.action, kind.section, subject)


def _find_in_store(view: NodeView) -> Iterator[Condition]:
    if view.problem is not None:
        text = f"the store accepts no webhook: {view.problem.title}: {view.problem}"
        yield _make("store-down", text)
    if view.status is None:
        return
    store = view.status.store
    if store.damaged:
        parts = [f"{part.name} is damaged: {part.reason}" for part in store.damaged]
        yield _make("part-damaged", _join(parts))
    if store.gaps:
        gaps = [f"from {format_moment(start)} to {format_moment(end)}" for start, end in store.gaps]
        yield _make("records-removed", f"records were removed unsynced: {_join(gaps)}")
    if store.quarantine is not None and store.quarantine.records:
        records = _count(store.quarantine.records, "invalid record")
        yield _make("quarantine", f"{records} of slaves in quarantine")
    if view.fill > FULL:
        yield _make("buffer-full", f"the buffer of waiting webhooks is {view.fill:.0%} full")
    for sentence in describe_clock(view.status.clock, view.span_ms):
        yield _make("clock", sentence)


def _find_in_slaves(view: NodeView) -> Iterator[Condition]:
    if view.slaves is None or view.status is None:
        return
    if not view.slaves:
        yield _make("no-slave", "no slave is configured")
    for name, state in view.slaves.items():
        yield from find_slave_conditions(view.now, view.late_ms, name, state)
    for name, state in view.gone.items():
        lost = find_open_losses(state.losses)
        more = f"; {describe_losses(lost)}" if lost else ""
        known = "it was never synced"
        if state.cursor is not None:
            until = format_moment(slave_complete_until(state))
            known = f"its webhooks before {until} are in the master"
        text = f"no longer configured; {known}{more}"
        yield _make("slave-removed", text, name)


def find_slave_conditions(
    now: Milliseconds, late_ms: Milliseconds, name: str, state: SlaveState
) -> Iterator[Condition]:
    """Yield the conditions of one slave of a master."""
    report, losses = read_report(state), find_open_losses(state.losses)
    if losses:
        yield _make("slave-lost", describe_losses(losses), name)
    if not state.report:
        yield _make("never-synced", "never synced", name)
        return
    if report.error:
        yield _make("slave-failed", report.error, name, advise(report.error_type))
    if not report.error and (state.cursor is None or now - state.cursor > late_ms):
        text = "late: webhooks received since its last sync may be missing in the master"
        yield _make("slave-late", text, name)
    again = [at for at in report.again_at if now - at < AGAIN_MS]
    if len(again) >= MOST_AGAIN:
        text = f"{len(again)} syncs of the last day recovered records that the master had before"
        yield _make("recovered-again", text, name)
    if report.warning and not losses:
        yield _make("slave-warning", report.warning, name, advise(report.warning_type))
    for source, members in report.similar.items():
        of = f"of the source {source}" if source else "without a source"
        text = f"webhooks {of} differ from the master's only in {', '.join(members)}"
        yield _make("identity-rule", text, name)


def _find_elsewhere(view: NodeView) -> Iterator[Condition]:
    for mark in view.masters:
        if mark.late:
            asked = f"up to {format_moment(mark.asked)}" if mark.asked else "nothing"
            yield _make("master-late", f"this master has synced {asked}", mark.master)
    for consumer in view.consumers:
        if consumer.lag_ms is None:
            yield _make("consumer-unknown", "this store did not give its position", consumer.name)
        elif consumer.lag_ms > view.late_ms:
            lag = f"the next webhook of this consumer came {consumer.lag_ms // 1000} s ago"
            yield _make("consumer-late", lag, consumer.name)
        if consumer.missed is not None:
            until = format_moment(consumer.missed)
            text = f"retention removed webhooks before {until} that this consumer has not got"
            yield _make("consumer-missed", text, consumer.name)
    for name, text in view.waits.items():
        yield _make("retention-waits", text, name)
    if view.dead_letters:
        webhooks = _count(view.dead_letters, "webhook")
        text = f"{webhooks} could not be delivered to the application"
        yield _make("dead-letters", text)
    refused = [
        f"{group.count} of {group.source or 'no source'}: {group.status} {group.title}"
        for group in view.refusals
        if 0 <= view.now - group.last < REFUSED_MS
        and (group.status >= 500 or not view.sources or group.source in view.sources)
    ]
    if refused:
        yield _make("webhooks-refused", f"webhooks were refused lately: {_join(refused)}")


def _join(texts: Sequence[str]) -> str:
    more = len(texts) - _MOST_NAMED
    return "; ".join([*texts[:_MOST_NAMED], *([f"and {more} more"] if more > 0 else [])])


class ConditionLog:
    """Finds which conditions have begun and ended, for the log. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str], Condition] = {}

    def update(self, conditions: Iterable[Condition]) -> list[str]:
        """Return a line for each condition that has begun or ended since the last call."""
        present = {(each.name, each.subject): each for each in conditions}
        with self._lock:
            before, self._known = self._known, present
        began = [each for key, each in present.items() if key not in before]
        ended = [each for key, each in before.items() if key not in present]
        return [
            *(f"condition began: {describe(each)}" for each in began),
            *(f"condition ended: {_label(each)}" for each in ended),
        ]


def describe(condition: Condition) -> str:
    """Return a condition as one sentence with what to do."""
    text = condition.text.rstrip(".")
    return f"{_label(condition)} ({condition.severity}): {text}. {condition.action}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _label(condition: Condition) -> str:
    return f"{condition.name} of {condition.subject}" if condition.subject else condition.name
