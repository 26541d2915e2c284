"""The sync of one slave: window after window, from the cursor to the master's horizon.

What makes it right after every cut is the order of its steps: records are saved before the cursor
that lies behind them, and the cursor moves only over what an answer has proved.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

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
from portable_core.sync.merge import LimitReached, RecordMerger, SyncContext
from portable_core.sync.report import SlaveReport, extend_day, find_begin
from portable_core.sync.sending import Sent, count_bytes, count_pairs, limit_pairs
from portable_core.wire.negotiation import ENCODINGS, Encoding

_LIMIT_REACHED = "a limit of this sync was reached; the next one goes on"

_LIMIT_TOO_LOW = (
    "Limit reached: nothing could be saved within SYNC_SLAVE_S, SYNC_SLAVE_RECORDS and "
    "SYNC_SLAVE_BYTES (or SYNC_BUDGET_S); the slave is too slow, or they are too low"
)

#: The first window that a slave is asked for; from then on windows double and halve.
FIRST_WINDOW_MS = 3_600_000


class SlaveLimits(NamedTuple):
    """What one slave may use of one sync. ``deadline`` is a reading of ``Clock.monotonic``.

    ``whole_turn``: that is all the time a slave can get, not what others have left of the sync's.
    """

    deadline: float
    records: int
    bytes: int
    whole_turn: bool


class _Outcome(NamedTuple):
    """Of one window: up to where everything is in now, whether the answer was whole, what cut it.

    ``reached`` is the window's start where nothing was gained.
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
        progress: Callable[[SlaveReport], None],
    ) -> None:
        self._context = context
        self._settings = context.settings
        self._client = client
        self._state = state
        self._limits = limits
        self._progress = progress
        self._encodings = list(ENCODINGS.values())
        self._day = state.report.get("day")
        self._missed: Counter[int] = Counter()
        self._report = SlaveReport(client.name, context.clock.now(), cursor=state.cursor)
        self._last_began = find_begin(state.report)
        self._began = self._report.started
        self._moved = False  # whether the cursor did

    # -- the loop over windows -----------------------------------------------------------------

    def run(self, now: Callable[[], Milliseconds], horizon: Milliseconds) -> SlaveReport:
        """Sync everything that was stamped up to one span before the master's ``horizon``.

        ``now`` tells the timestamp that the master would give. Errors of the slave end up in the
        report; those of the master's own store and lease are raised.
        """
        started = self._context.clock.monotonic()
        try:
            self._sync_windows(now, horizon - self._settings.span_ms)
        except (SlaveError, BadRequest, StreamCut) as error:
            self._note(error=_describe(error))
        except LimitReached:
            if self._report.saved or self._moved:
                self._note(warning=_LIMIT_REACHED)
            elif self._used_its_turn():
                # The next sync would end here as well.
                self._note(error=_LIMIT_TOO_LOW)
            else:
                # As if it had not begun: next time it is among the first.
                self._note(warning=_LIMIT_REACHED)
                self._began = self._last_began
        self._note(seconds=self._context.clock.monotonic() - started)
        self._save_state()
        return self._report

    def _used_its_turn(self) -> bool:
        """Whether a limit of this slave was reached, and it was not that the sync had to end."""
        late = self._context.clock.monotonic() >= self._limits.deadline
        return self._limits.whole_turn if late else not self._has_room()

    def _sync_windows(self, now: Callable[[], Milliseconds], end: Milliseconds) -> None:
        asked = now()
        info = self._client.describe(self._keep_waiting)
        # The slave read its clock somewhere between the two moments.
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
            self._note(behind_ms=end - start)
            if not self._may_go_on():
                raise LimitReached
            window = max(1, min(self._state.window or FIRST_WINDOW_MS, longest))
            reached, whole, error = self._sync_window(start, min(end, start + window), window)
            moved = reached > start
            self._moved = self._moved or moved
            self._state = replace(
                self._state,
                cursor=max(reached, start),
                window=min(window * 2, longest) if moved else max(1, window // 2),
            )
            self._save_state()
            if error is not None and not moved:
                raise error
            if whole and not moved:
                self._note(warning="the slave's horizon has moved back; the next sync goes on")
                return
            start = reached
        self._note(behind_ms=max(0, end - start))

    def _check_agreement(self, info: SlaveInfo, skew: Milliseconds) -> None:
        span, algorithm = self._settings.span_ms, self._context.algorithm
        self._note(skew_ms=skew, horizon=info.horizon)
        if info.span != span:
            raise AnswerInvalid(
                f"span: the slave has {info.span} ms, the master {span} ms; set the same SPAN_S"
            )
        if info.hash != algorithm:
            raise AnswerInvalid(
                f"hash: the slave has {info.hash}, the master {algorithm}; "
                "set the same HASH and HASH_KEY"
            )
        if abs(skew) * 2 > span:
            raise AnswerInvalid(
                f"clock: the slave's differs by {skew} ms, more than half the span; set it right"
            )
        if abs(skew) * 4 > span:
            self._note(warning=f"clock: the slave's differs by {skew} ms; set it right")
        self._encodings = [e for e in self._encodings if e.media_type in info.encodings]
        if not self._encodings:
            raise AnswerInvalid(f"the slave speaks only {', '.join(info.encodings) or 'nothing'}")

    # -- one window ----------------------------------------------------------------------------

    def _sync_window(
        self, start: Milliseconds, end: Milliseconds, window: Milliseconds
    ) -> _Outcome:
        """Ask for ``[start, end)``."""
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
        settings, sent = self._settings, Sent()
        pairs = self._context.store.pairs(start - settings.span_ms, end + settings.span_ms)
        if limited:
            # A span on either side is needed however short the window is, so it does not count.
            pairs = limit_pairs(pairs, start + settings.span_ms, settings.sync_window_pairs)
        body = count_bytes(encoding.encode_pairs(count_pairs(pairs, sent)), sent)
        self._note(windows=self._report.windows + 1, encoding=encoding.media_type)
        merger = RecordMerger(self._context, self._client.name, start)
        count = partial(self._count, self._report, sent, merger)

        def keep_waiting() -> None:
            merger.save_when_due()
            count()
            self._keep_waiting()

        request = SyncRequest(
            start,
            end,
            settings.span_ms,
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
                    self._take_answer(answer, merger, through, count)
            finally:
                merger.save()
                count()
                self._missed += merger.missed
            return _Outcome(max(start, through), whole=True)
        except LimitReached:
            pass
        except SlaveRefused:
            raise
        except (StreamCut, SlaveError, BadRequest) as problem:
            error = problem
            self._note(cut=self._report.cut + 1, warning=_describe(problem))
        return _Outcome(merger.reached, error=error)

    def _take_answer(
        self,
        answer: SyncAnswer,
        merger: RecordMerger,
        through: Milliseconds,
        count: Callable[[], None],
    ) -> None:
        reader = ENCODINGS[answer.media_type].read_records()
        try:
            for chunk in answer.chunks:
                self._note(bytes_received=self._report.bytes_received + len(chunk))
                merger.add(reader.feed(chunk), through)
                count()
                if not self._may_go_on() and not reader.whole:
                    raise LimitReached
        except SlaveError:
            if not reader.whole:  # with its closing mark it is whole, whatever came after it
                raise
        reader.finish()

    def _check_answer(self, answer: SyncAnswer) -> Milliseconds:
        """Return the answer's ``through``; raise if the answer is not one to this session."""
        if (answer.store, answer.generation) != (self._state.store, self._state.generation):
            raise SlaveRefused(
                "the slave's store changed meanwhile; the next sync starts over", 200
            )
        if answer.media_type not in ENCODINGS:
            raise AnswerInvalid(f"it is encoded as {answer.media_type!r}")
        return answer.through

    def _keep_waiting(self) -> None:
        if not self._may_go_on():
            raise LimitReached

    def _may_go_on(self) -> bool:
        in_time = self._context.clock.monotonic() < self._limits.deadline
        return self._context.may_go_on() and in_time and self._has_room()

    def _has_room(self) -> bool:
        report, limits = self._report, self._limits
        if not report.records_received:
            return True  # one record is taken in any case; the wire limits its size
        return report.records_received < limits.records and report.bytes_received < limits.bytes

    # -- telling and keeping -------------------------------------------------------------------

    def _count(self, before: SlaveReport, sent: Sent, merger: RecordMerger) -> None:
        """Add what a window has done so far to what was done ``before`` it."""
        self._note(
            pairs_sent=before.pairs_sent + sent.pairs,
            bytes_sent=before.bytes_sent + sent.bytes,
            records_received=before.records_received + merger.received,
            saved=before.saved + merger.saved,
            represented=before.represented + merger.represented,
            set_aside=before.set_aside + merger.set_aside,
        )

    def _note(self, **changes: object) -> None:
        self._report = replace(self._report, **changes)  # type: ignore[arg-type]  # by field name
        self._progress(self._report)

    def _save_state(self) -> None:
        self._note(cursor=self._state.cursor)
        day = extend_day(self._day, self._context.clock.now(), self._missed, self._report.saved)
        kept = {**self._report.to_json(), "started": self._began, "day": day}
        self._state = replace(self._state, report=kept)
        self._context.store.save_slave(self._context.lease, self._client.name, self._state)


def _describe(error: WebhookSyncError) -> str:
    return f"{error.title}: {error}"
