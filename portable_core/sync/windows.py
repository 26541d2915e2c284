"""The windows and parts that a sync requests of one slave, one after another.

Windows double while requests succeed, and halve after a request that gained nothing. Where too many
pairs lie within few spans, a shorter window would not help: from one span on, the range of hashes
is narrowed instead, and the window is compared part by part. The cursor moves after the last part.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from portable_core.errors import SlaveRefused, WebhookSyncError
from portable_core.ports import ALL_HASHES, HashRange, Milliseconds, PartState, SlaveState

#: The first window that a slave is asked for.
FIRST_WINDOW_MS = 3_600_000

#: The fewest pairs to which a 413 reduces a request.
LEAST_PAIRS = 1000

#: A part is widened by at most this factor at once: dense ranges may follow sparse ones.
_MOST_WIDENING = 16


class WindowLimits(NamedTuple):
    """The limits of the requests of one sync.

    - ``longest``: the longest window.
    - ``pairs``: the most pairs in one request.
    - ``bits``: the length of a hash.
    - ``ranges``: whether the slave can compare a range of hashes.
    """

    longest: Milliseconds
    span: Milliseconds
    pairs: int
    bits: int
    ranges: bool


class Step(NamedTuple):
    """One request: the window ``[start, end)``, and the hashes that are compared.

    ``limit``: the most pairs in it with timestamps from ``limited_from`` on; None if the request
    cannot become smaller.
    """

    start: Milliseconds
    end: Milliseconds
    hashes: HashRange
    limit: int | None
    limited_from: Milliseconds

    @property
    def is_part(self) -> bool:
        return self.hashes != ALL_HASHES


class StepOutcome(NamedTuple):
    """The result of one request.

    - ``reached``: every record of the slave before it, with one of the step's hashes, is
      represented in the master; the step's start if nothing was gained.
    - ``sent``: how many pairs were sent.
    - ``whole``: whether the response had its closing mark.
    - ``error``: what cut the response, or why the slave rejected the request.
    - ``last``: the timestamp of the first pair beyond the step's limit, if there was one.
    """

    reached: Milliseconds
    sent: int = 0
    whole: bool = False
    error: WebhookSyncError | None = None
    last: Milliseconds | None = None

    @property
    def too_large(self) -> bool:
        """Whether the request had too many pairs for the slave, a proxy, or its own limit."""
        refused = isinstance(self.error, SlaveRefused) and self.error.answered == 413
        return refused or self.last is not None


class WindowPlan:
    """Chooses the requests, from the state of a slave and from what became of earlier ones."""

    def __init__(self, state: SlaveState, limits: WindowLimits) -> None:
        self._limits = limits
        self._hashes = 1 << limits.bits
        self._pairs = limits.pairs
        self._window = max(1, min(state.window or FIRST_WINDOW_MS, limits.longest))
        #: The shortest window that is better than fewer hashes.
        self._least = max(limits.span, 1) if limits.ranges else 1
        self.cursor = state.cursor or 0
        self._done = 0
        self._end = self.cursor
        self._width = self._hashes
        if state.part is not None and limits.ranges:
            start, end, done, width, pairs = state.part
            self._width = max(1, min(width, self._hashes))
            self._pairs = max(1, min(pairs, limits.pairs))
            if start == self.cursor < end and 0 < done < self._hashes:
                self._done, self._end = done, end

    def apply_to(self, state: SlaveState) -> SlaveState:
        """Return the state with the cursor, the window and the part of this plan."""
        part = None
        if self._done or self._width < self._hashes:
            end = self._end if self._done else self.cursor
            part = PartState(self.cursor, end, self._done, self._width, self._pairs)
        return replace(state, cursor=self.cursor, window=self._window, part=part)

    def choose(self, end: Milliseconds) -> Step:
        """Return the next request; ``end`` is the end of all windows, after the cursor."""
        start, length = self.cursor, self._window
        last = self._done + self._width
        if self._done or last < self._hashes:
            length = min(length, self._least)
        end = min(end, start + length, self._end if self._done else end)
        hashes = HashRange(self._done, last if last < self._hashes else ALL_HASHES.end)
        span, ranges = self._limits.span, self._limits.ranges
        smallest = end - start <= self._least and (self._width == 1 or not ranges)
        # Without parts, the pairs of a span on either side are needed however short the window is.
        limited_from = start - span if ranges else start + span
        return Step(start, end, hashes, None if smallest else self._pairs, limited_from)

    def advance(self, step: Step, reached: Milliseconds, sent: int) -> None:
        """Move on: the records of the step before ``reached`` are represented in the master."""
        roomy = 2 * sent <= self._pairs or not self._limits.ranges
        if not step.is_part:
            self.cursor = reached
            if roomy or self._window < self._least:
                self._window = min(self._window * 2, self._limits.longest)
            return
        self._end = min(step.end, reached)
        room = self._pairs * 3 // 4 // max(sent, 1)
        self._width = min(self._width * max(1, min(room, _MOST_WIDENING)), self._hashes)
        if step.hashes.end < ALL_HASHES.end:
            self._done = step.hashes.end
            return
        self.cursor, self._done = self._end, 0
        self._pairs = min(self._pairs * 2, self._limits.pairs)
        if self._window < self._least:
            self._window = min(self._window * 2, self._least)

    def lighten(self, step: Step) -> bool:
        """Halve the window or, from its shortest on, the range of hashes.

        To be called after a request that gained nothing. Returns whether a smaller one is possible.
        """
        length = step.end - step.start
        if length > self._least:
            self._window = max(self._least, length // 2)
            return True
        width = min(self._width, self._hashes - step.hashes.start)
        if not self._limits.ranges or width <= 1:
            return False
        self._width = width // 2
        return True

    def reduce(self, step: Step, sent: int, last: Milliseconds | None = None) -> bool:
        """Make the next request smaller, after one with too many pairs.

        ``sent`` pairs had been sent by then. ``last`` is the timestamp of the first pair beyond the
        limit of the step; None if the slave, or a proxy before it, rejected the request. Returns
        whether a smaller request is possible.
        """
        if last is None:
            self._pairs = max(min(LEAST_PAIRS, self._pairs), min(sent, self._pairs) // 2)
        length = step.end - step.start
        if last is None or length <= self._least:
            return self.lighten(step)
        # Whatever ends later has too many pairs, too.
        self._window = max(self._least, min(last - self._limits.span - step.start, length - 1))
        return True
