"""The sync of one slave: window after window, from the cursor to the master's horizon.

It is correct after every cut because of the order of its steps: records are saved before the
cursor passes them, and the cursor moves only over what a response has proved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import msgspec

from portable_core.errors import (
    AnswerInvalid,
    BadRequest,
    ClocksDiffer,
    QuarantineFull,
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
from portable_core.sync.copies import CopyFinder
from portable_core.sync.floor import begin_at_floor, read_floor
from portable_core.sync.introduction import introduce
from portable_core.sync.log_gap import note_gap
from portable_core.sync.merge import LimitReached, RecordMerger, SyncContext, TooManyPairs
from portable_core.sync.parts import expect_collisions
from portable_core.sync.progress import Progress
from portable_core.sync.report import SlaveReport, extend_again, extend_day, read_report
from portable_core.sync.resuming import (
    LOSSES_WARNING,
    describe_losses,
    find_open_losses,
)
from portable_core.sync.sending import PairSender
from portable_core.sync.slave_limits import (
    COLLISIONS,
    LIMIT_REACHED,
    LIMIT_TOO_LOW,
    SlaveLimits,
)
from portable_core.sync.windows import Step, StepOutcome, WindowLimits, WindowPlan
from portable_core.wire.negotiation import ENCODINGS, Encoding


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
        self._reached = self._last_report.reached
        self._progress = Progress(client.name, context.clock.now(), cursor=state.cursor)
        self._turn_started = self._progress.started
        self._gained = False
        #: Since the sync began or was interrupted.
        self._gained_lately = False
        self._bits = context.identifier.bits
        self._copies = CopyFinder(context.store)
        #: What keeps this sync from being complete, although all of it was done.
        self._differing = ""

    # -- the loop over windows -----------------------------------------------------------------

    def run(self, now: Callable[[], Milliseconds], horizon: Milliseconds) -> SlaveReport:
        """Sync all records with timestamps up to one span before the master's ``horizon``.

        ``now`` returns the timestamp that the master would assign. Errors of the slave end up in
        the report; errors of the master's own store and lease are raised.
        """
        started = self._context.clock.monotonic()
        progress = self._progress
        try:
            while True:
                try:
                    self._sync_windows(now, horizon - self._settings.span_ms)
                    break
                except LimitReached:
                    if not self._resume():
                        raise
        except (SlaveError, BadRequest, StreamCut) as error:
            progress.fail(error)
        except LimitReached:
            if progress.saved or self._gained:
                progress.warn(LIMIT_REACHED)
            elif self._used_its_turn():
                # The next sync would end here as well.
                progress.fail(LIMIT_TOO_LOW, LimitReached.__name__)
            else:
                # The turn does not count, so that the slave is among the first next time.
                progress.warn(LIMIT_REACHED)
                self._turn_started = self._last_report.started
        if self._differing and not progress.error:
            progress.fail(ClocksDiffer(self._differing))
        progress.similar = self._copies.find_members()
        if progress.expected_collisions >= 1 and not progress.warning:
            progress.warn(COLLISIONS.format(count=progress.expected_collisions))
        losses = find_open_losses(self._state.losses)
        progress.losses = len(losses)
        if losses:
            progress.warn(describe_losses(losses), LOSSES_WARNING)
        progress.seconds = self._context.clock.monotonic() - started
        self._save_state()
        return progress.report()

    def _resume(self) -> bool:
        """Give way to a hand-over, if one is the reason for the end; return whether to continue."""
        in_time = self._context.clock.monotonic() < self._limits.deadline
        if not (in_time and self._has_room() and self._context.give_way()):
            return False
        # Meanwhile the store may have lost records, and set the cursor back.
        states = self._context.store.slave_states()
        self._state = states.get(self._client.name, self._state)
        self._gained_lately = False
        return True

    def _used_its_turn(self) -> bool:
        """Return whether a limit of this slave was reached, not the end of the whole sync."""
        late = self._context.clock.monotonic() >= self._limits.deadline
        return self._limits.whole_turn if late else not self._has_room()

    def _sync_windows(self, now: Callable[[], Milliseconds], end: Milliseconds) -> None:
        before = self._state
        info, self._state, self._encodings, self._differing = introduce(
            self._context, self._client, self._state, self._progress, self._keep_waiting, now
        )
        self._reached = self._progress.completed = self._find_reached(before)
        end = min(end, info.horizon)
        # Before its first record there is nothing to ask for.
        start = max(self._state.cursor or 0, end if info.first is None else min(info.first, end))
        self._state = replace(self._state, cursor=start)
        floor = min(read_floor(self._context.store), end)
        self._state = note_gap(before, begin_at_floor(before, self._state, info, floor), info)
        if info.first is None:
            return
        plan = self._make_plan(info)
        while plan.cursor < end:
            self._progress.behind_ms = end - plan.cursor
            self._publish()
            if not self._may_go_on():
                raise LimitReached
            step = plan.choose(end)
            outcome = self._sync_step(step)
            gained = outcome.reached > step.start
            if gained:
                plan.advance(step, outcome.reached, outcome.sent)
                self._gained = self._gained_lately = True
            smaller = self._reduce(plan, step, outcome)
            self._state = plan.apply_to(self._state)
            self._save_state()
            if isinstance(outcome.error, QuarantineFull):
                raise outcome.error
            if outcome.error is not None and not gained and not smaller:
                raise _explain_size(outcome.error, info) if outcome.too_large else outcome.error
            if outcome.whole and not gained:
                self._progress.warn("the slave's horizon has moved back; the next sync continues")
                return
        self._progress.behind_ms = max(0, end - plan.cursor)

    def _find_reached(self, before: SlaveState) -> Milliseconds:
        """Return the largest cursor in this epoch of the slave's store; 0 to compare anew."""
        epoch = (self._state.store, self._state.generation)
        anew = epoch != (before.store, before.generation) or self._state.cursor is None
        return 0 if anew else max(self._reached, before.cursor or 0)

    def _make_plan(self, info: SlaveInfo) -> WindowPlan:
        settings = self._settings
        limits = WindowLimits(
            settings.sync_window_ms,
            settings.span_ms,
            settings.sync_window_pairs,
            self._bits,
            info.ranges,
        )
        return WindowPlan(self._state, limits)

    def _reduce(self, plan: WindowPlan, step: Step, outcome: StepOutcome) -> bool:
        """Make the next request smaller if that helps; return whether it may be sent at once."""
        if isinstance(outcome.error, QuarantineFull):
            return False
        if outcome.too_large:
            return plan.reduce(step, outcome.sent, outcome.last)
        gained = outcome.reached > step.start
        # Without an error, the turn ended within this request. If an earlier request gained
        # something, the next turn gives this one more time.
        if not gained and (outcome.error is not None or not self._gained_lately):
            plan.lighten(step)
        return False

    # -- one request ---------------------------------------------------------------------------

    def _sync_step(self, step: Step) -> StepOutcome:
        """Make one request, with another encoding if the slave rejects the first one."""
        while True:
            sender = PairSender(self._context.store, self._settings.span_ms, step, self._progress)
            try:
                return self._exchange(step, sender, self._encodings[0])
            except SlaveRefused as error:
                if error.answered != 415 or len(self._encodings) == 1:
                    return StepOutcome(step.start, sender.sent, error=error)
                del self._encodings[0]

    def _exchange(self, step: Step, sender: PairSender, encoding: Encoding) -> StepOutcome:
        progress = self._progress
        progress.windows += 1
        progress.parts += step.is_part
        progress.encoding = encoding.media_type
        merger = RecordMerger(
            self._context, self._client.name, step.start, progress, self._copies, step.hashes
        )

        def keep_waiting() -> None:
            merger.save_when_due()
            self._publish()
            self._keep_waiting()

        request = SyncRequest(
            step.start,
            step.end,
            self._settings.span_ms,
            self._context.algorithm,
            encoding.media_type,
            sender.encode(encoding),
            keep_waiting,
            StoreEpoch(self._state.store, self._state.generation),
            stint=self._state.stint,
            hashes=step.hashes,
            master=self._context.master,
        )
        error: WebhookSyncError | None = None
        last: Milliseconds | None = None
        try:
            try:
                with self._client.exchange(request) as answer:
                    through = min(step.end, self._check_answer(answer))
                    self._read_answer(answer, merger, through)
            finally:
                merger.save()
                self._publish()
            self._count_collisions(step, sender)
            return StepOutcome(max(step.start, through), sender.sent, whole=True)
        except TooManyPairs as limit:
            last = limit.timestamp
        except LimitReached:
            pass
        except SlaveRefused:
            raise
        except (StreamCut, SlaveError, BadRequest) as problem:
            error = problem
            progress.cut += 1
            progress.warn(problem)
        return StepOutcome(merger.reached, sender.sent, False, error, last)

    def _count_collisions(self, step: Step, sender: PairSender) -> None:
        span, hashes = self._settings.span_ms, 1 << self._bits
        window = step.end - step.start + 2 * span
        compared = min(step.hashes.end, hashes) - step.hashes.start
        self._progress.expected_collisions += expect_collisions(
            sender.found, window, span, max(compared, 1)
        )

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
        again_at = extend_again(self._last_report.again_at, progress.started, progress.again)
        stored = {
            **progress.report().to_json(),
            "started": self._turn_started,
            "day": msgspec.to_builtins(day),
            "reached": max(self._reached, self._state.cursor or 0),
            "again_at": again_at,
        }
        self._state = replace(self._state, report=stored)
        self._context.store.save_slave(self._context.lease, self._client.name, self._state)


def _explain_size(error: WebhookSyncError, info: SlaveInfo) -> WebhookSyncError:
    """Return the error of a request that is too large and cannot become smaller."""
    if info.ranges:
        return error
    return SlaveRefused(f"{error}. Update the slave: its release cannot compare by parts.", 413)
