"""The sync of one slave: window after window, from the cursor to the master's horizon.

It is correct after every cut because of the order of its steps: records are saved before the
cursor passes them, and the cursor moves only over what a response has proved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import msgspec

from portable_core.errors import (
    AnswerInvalid,
    BadRequest,
    SlaveError,
    SlaveRefused,
    StreamCut,
    WebhookSyncError,
)
from portable_core.ports import (
    Milliseconds,
    SlaveClient,
    SlaveInfo,
    SlaveState,
    StoreEpoch,
    SyncAnswer,
    SyncRequest,
)
from portable_core.records import Pair
from portable_core.sync.copies import CopyFinder
from portable_core.sync.merge import LimitReached, RecordMerger, SyncContext
from portable_core.sync.progress import Progress
from portable_core.sync.report import SlaveReport, extend_day, read_report
from portable_core.wire.negotiation import ENCODINGS, Encoding

_LIMIT_REACHED = "a limit of this sync was reached; the next one continues"

_LIMIT_TOO_LOW = (
    "Limit reached: nothing could be saved within SYNC_SLAVE_S, SYNC_SLAVE_RECORDS and "
    "SYNC_SLAVE_BYTES (or SYNC_BUDGET_S); the slave is too slow, or they are too low"
)

#: The first window that a slave is asked for; from then on windows double and halve.
FIRST_WINDOW_MS = 3_600_000


class SlaveLimits(NamedTuple):
    """How much of one sync a slave may use. ``deadline`` is a reading of ``Clock.monotonic``.

    ``whole_turn``: the deadline leaves the slave its full time, not the rest of the sync's budget.
    """

    deadline: float
    records: int
    bytes: int
    whole_turn: bool


class _Outcome(NamedTuple):
    """The result of one window.

    - ``reached``: every record of the slave before it is represented in the master; the window's
      start if nothing was gained.
    - ``whole``: whether the response had its closing mark.
    - ``error``: what cut the response.
    """

    reached: Milliseconds
    whole: bool = False
    error: WebhookSyncError | None = None


class SlaveSync:
    """One slave's part of one sync. Made for one use, by one thread."""

    def __init__(
        self,
        context: SyncContext,
        client: SlaveClient,
        state: SlaveState,
        limits: SlaveLimits,
        on_progress: Callable[[SlaveReport], None],
    ) -> None:
        """``on_progress`` is called with the report as it grows."""
        self._context = context
        self._settings = context.settings
        self._client = client
        self._state = state
        self._limits = limits
        self._on_progress = on_progress
        self._encodings = list(ENCODINGS.values())
        self._last_report = read_report(state)
        self._progress = Progress(client.name, context.clock.now(), cursor=state.cursor)
        self._turn_started = self._progress.started
        self._cursor_moved = False
        self._copies = CopyFinder(context.store)

    # -- the loop over windows -----------------------------------------------------------------

    def run(self, now: Callable[[], Milliseconds], horizon: Milliseconds) -> SlaveReport:
        """Sync all records with timestamps up to one span before the master's ``horizon``.

        ``now`` returns the timestamp that the master would assign. Errors of the slave end up in
        the report; errors of the master's own store and lease are raised.
        """
        started = self._context.clock.monotonic()
        progress = self._progress
        try:
            self._sync_windows(now, horizon - self._settings.span_ms)
        except (SlaveError, BadRequest, StreamCut) as error:
            progress.fail(error)
        except LimitReached:
            if progress.saved or self._cursor_moved:
                progress.warn(_LIMIT_REACHED)
            elif self._used_its_turn():
                # The next sync would end here as well.
                progress.fail(_LIMIT_TOO_LOW, LimitReached.__name__)
            else:
                # The turn does not count, so that the slave is among the first next time.
                progress.warn(_LIMIT_REACHED)
                self._turn_started = self._last_report.started
        progress.similar = self._copies.find_members()
        progress.seconds = self._context.clock.monotonic() - started
        self._save_state()
        return progress.report()

    def _used_its_turn(self) -> bool:
        """Return whether a limit of this slave was reached, not the end of the whole sync."""
        late = self._context.clock.monotonic() >= self._limits.deadline
        return self._limits.whole_turn if late else not self._has_room()

    def _sync_windows(self, now: Callable[[], Milliseconds], end: Milliseconds) -> None:
        asked = now()
        info = self._client.describe(self._keep_waiting)
        # The slave read its clock somewhere between the two readings of the master's.
        self._check_agreement(info, info.now - min(max(info.now, asked), now()))
        if (info.store, info.generation) != (self._state.store, self._state.generation):
            self._state = SlaveState(store=info.store, generation=info.generation)
        end = min(end, info.horizon)
        # Before its first record there is nothing to ask for.
        start = max(self._state.cursor or 0, end if info.first is None else min(info.first, end))
        self._state = replace(self._state, cursor=start)
        if info.first is None:
            return
        longest = self._settings.sync_window_ms
        while start < end:
            self._progress.behind_ms = end - start
            self._publish()
            if not self._may_go_on():
                raise LimitReached
            window = max(1, min(self._state.window or FIRST_WINDOW_MS, longest))
            reached, whole, error = self._sync_window(start, min(end, start + window), window)
            moved = reached > start
            self._cursor_moved = self._cursor_moved or moved
            self._state = replace(
                self._state,
                cursor=max(reached, start),
                window=min(window * 2, longest) if moved else max(1, window // 2),
            )
            self._save_state()
            if error is not None and not moved:
                raise error
            if whole and not moved:
                self._progress.warn("the slave's horizon has moved back; the next sync continues")
                return
            start = reached
        self._progress.behind_ms = max(0, end - start)

    def _check_agreement(self, info: SlaveInfo, skew: Milliseconds) -> None:
        """Choose the encodings. Raise ``AnswerInvalid`` if a sync with this slave cannot work."""
        span, algorithm = self._settings.span_ms, self._context.algorithm
        self._progress.skew_ms, self._progress.horizon = skew, info.horizon
        if info.span != span:
            raise AnswerInvalid(
                f"span: the slave has {info.span} ms, the master {span} ms; set the same SPAN_S"
            )
        if info.hash != algorithm:
            raise AnswerInvalid(
                f"hash: the slave has {info.hash}, the master {algorithm}; "
                "set the same HASH and HASH_KEY"
            )
        self._check_rules(info)
        if abs(skew) * 2 > span:
            raise AnswerInvalid(
                f"clock: the slave's differs by {skew} ms, more than half the span; set it right"
            )
        if abs(skew) * 4 > span:
            self._progress.warn(f"clock: the slave's differs by {skew} ms; set it right")
        self._encodings = [e for e in self._encodings if e.media_type in info.encodings]
        if not self._encodings:
            raise AnswerInvalid(
                "encodings: the slave supports none of the master's "
                f"(got {', '.join(info.encodings)}); update both nodes"
            )

    def _check_rules(self, info: SlaveInfo) -> None:
        """Raise ``AnswerInvalid`` if the nodes identify the webhooks of a source differently."""
        if info.rules is None:
            return  # the slave hashes payloads alone; the merger recognises its records
        ours = {name: rule.text for name, rule in self._context.identifier.rules.items()}
        for source in sorted(ours.keys() | info.rules.keys()):
            mine, theirs = ours.get(source, ""), info.rules.get(source, "")
            if mine != theirs:
                raise AnswerInvalid(
                    f"identity: the rules for the source {source[:64]!r} differ (the slave has "
                    f"{_show_rule(theirs)}, the master {_show_rule(mine)}); set the same SOURCES "
                    "and SOURCES_FILE on every node"
                )

    # -- one window ----------------------------------------------------------------------------

    def _sync_window(
        self, start: Milliseconds, end: Milliseconds, window: Milliseconds
    ) -> _Outcome:
        """Sync ``[start, end)``, with another encoding if the slave rejects the first one."""
        while True:
            try:
                return self._exchange(start, end, self._encodings[0], limited=window > 1)
            except SlaveRefused as error:
                if error.answered != 415 or len(self._encodings) == 1:
                    return _Outcome(start, error=error)
                del self._encodings[0]

    def _exchange(
        self, start: Milliseconds, end: Milliseconds, encoding: Encoding, *, limited: bool
    ) -> _Outcome:
        span, progress = self._settings.span_ms, self._progress
        pairs = self._context.store.pairs(start - span, end + span)
        # The pairs of a span on either side are needed however short the window is.
        limit = self._settings.sync_window_pairs if limited else None
        body = self._send_pairs(encoding, self._count_pairs(pairs, start + span, limit))
        progress.windows += 1
        progress.encoding = encoding.media_type
        merger = RecordMerger(self._context, self._client.name, start, progress, self._copies)

        def keep_waiting() -> None:
            merger.save_when_due()
            self._publish()
            self._keep_waiting()

        request = SyncRequest(
            start,
            end,
            span,
            self._context.algorithm,
            encoding.media_type,
            body,
            keep_waiting,
            StoreEpoch(self._state.store, self._state.generation),
        )
        error: WebhookSyncError | None = None
        try:
            try:
                with self._client.exchange(request) as answer:
                    through = min(end, self._check_answer(answer))
                    self._read_answer(answer, merger, through)
            finally:
                merger.save()
                self._publish()
            return _Outcome(max(start, through), whole=True)
        except LimitReached:
            pass
        except SlaveRefused:
            raise
        except (StreamCut, SlaveError, BadRequest) as problem:
            error = problem
            progress.cut += 1
            progress.warn(problem)
        return _Outcome(merger.reached, error=error)

    def _read_answer(self, answer: SyncAnswer, merger: RecordMerger, through: Milliseconds) -> None:
        """Merge the records of a response. Raises ``StreamCut`` without its closing mark."""
        reader = ENCODINGS[answer.media_type].read_records()
        try:
            for chunk in answer.chunks:
                self._progress.bytes_received += len(chunk)
                merger.add(reader.feed(chunk), through)
                self._publish()
                if not self._may_go_on() and not reader.whole:
                    raise LimitReached
        except SlaveError:
            if not reader.whole:  # with its closing mark it is whole, whatever came after it
                raise
        reader.finish()

    def _check_answer(self, answer: SyncAnswer) -> Milliseconds:
        """Return the response's ``through``; raise if it does not belong to this sync."""
        if (answer.store, answer.generation) != (self._state.store, self._state.generation):
            raise SlaveRefused(
                "the slave's store has another epoch since this sync began; "
                "the next one starts over",
                200,
            )
        if answer.media_type not in ENCODINGS:
            raise AnswerInvalid(f"it is encoded as {answer.media_type!r}")
        return answer.through

    # -- the sending thread --------------------------------------------------------------------

    def _count_pairs(
        self, pairs: Iterator[Pair], start: Milliseconds, limit: int | None
    ) -> Iterator[Pair]:
        """Count pairs as they are sent. Raise ``LimitReached`` past ``limit`` from ``start`` on."""
        counted = 0
        for pair in pairs:
            if limit is not None and pair.timestamp >= start:
                counted += 1
                if counted > limit:
                    raise LimitReached
            self._progress.pairs_sent += 1
            yield pair

    def _send_pairs(self, encoding: Encoding, pairs: Iterator[Pair]) -> Iterator[bytes]:
        for chunk in encoding.encode_pairs(pairs):
            self._progress.bytes_sent += len(chunk)
            yield chunk

    # -- limits, progress and state ------------------------------------------------------------

    def _keep_waiting(self) -> None:
        if not self._may_go_on():
            raise LimitReached

    def _may_go_on(self) -> bool:
        in_time = self._context.clock.monotonic() < self._limits.deadline
        return self._context.may_go_on() and in_time and self._has_room()

    def _has_room(self) -> bool:
        progress, limits = self._progress, self._limits
        if not progress.records_received:
            return True  # one record is always accepted; the wire limits its size
        return progress.records_received < limits.records and progress.bytes_received < limits.bytes

    def _publish(self) -> None:
        self._on_progress(self._progress.report())

    def _save_state(self) -> None:
        """Save the cursor and the report, and publish the latter."""
        self._progress.cursor = self._state.cursor
        self._publish()
        now, progress = self._context.clock.now(), self._progress
        day = extend_day(self._last_report.day, now, progress.missed, progress.saved)
        stored = {
            **progress.report().to_json(),
            "started": self._turn_started,
            "day": msgspec.to_builtins(day),
        }
        self._state = replace(self._state, report=stored)
        self._context.store.save_slave(self._context.lease, self._client.name, self._state)


def _show_rule(text: str) -> str:
    return text[:200] or "the default"
