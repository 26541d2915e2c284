"""The places of records in the order of arrival: each is the rowid of the record's row.

The one writer numbers the records of all files in the order of their commits, so within a file the
places grow, and reading after a place is a search by rowid. A rowid below :data:`FIRST_PLACE` is of
a record that an older version stored, or that was imported: these records come first, in the order
of their pairs.

A place is never used twice. Blocks of places are reserved durably before they are used, and the
rest of a block stays unused after a crash. Each process that writes begins a **stretch**: its first
place and a random tag. A position names its stretch and the ones before, so that a position which
another history of the store gave out (a copy that was written to, a backup that was put back) is
recognised. In a restored store the next stretch begins after the block that was reserved at the
time of the backup, so a position of that block skips nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from portable_core.adapters.sqlite.files import FIRST_PLACE
from portable_core.adapters.sqlite.state import State
from portable_core.adapters.sqlite.stretches import PLACES, Stretch, make_tag, read_stretches
from portable_core.errors import BadRequest, PositionUnknown
from portable_core.ports import BEGINNING
from portable_core.records import Pair, format_sort_key, parse_sort_key

#: The last place: the largest rowid.
_LAST_PLACE = 2**63 - 1

#: How many places one durable write reserves.
_BLOCK = 2**16

#: The most stretches that are remembered, and the most that a position names.
_MOST_STRETCHES = 200
_MOST_NAMED = 4

#: A position after a place: the place, then the tag and the first place of stretches, newest first.
_PLACE = re.compile(r"([0-9a-f]{1,16})((?:-[0-9a-f]{8}[0-9a-f]{1,16}){1,4})")
_STRETCH = re.compile(r"-([0-9a-f]{8})([0-9a-f]+)")
_OLDER = re.compile(r"p([0-9a-f]{28})")


class Start(NamedTuple):
    """Where a reader begins: after a place, or after the pair of a record of an older version."""

    place: int = 0
    pair: Pair | None = None


class Places:
    """Assigns places, and reads positions. ``allocate`` is for one thread at a time."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._next = self._bound = 0
        self._tag = ""
        #: A saved value, and what :meth:`_list_ends` returns of it.
        self._ends: tuple[object, list[tuple[int, str]]] = (None, [])

    # -- assigning ---------------------------------------------------------------------------------

    def allocate(self, count: int, until: float) -> int:
        """Return the first of ``count`` consecutive places that no record has had yet."""
        if self._next + count > self._bound or not self._is_newest():
            self._reserve(count, until)
        first = self._next
        self._next += count
        return first

    def _saved(self) -> dict[str, Any]:
        saved: dict[str, Any] = self._state.values["store"].get(PLACES, {})
        return saved

    def _is_newest(self) -> bool:
        stretches: list[list[Any]] = self._saved().get("stretches", [])
        return bool(stretches) and stretches[-1][1:] == [self._tag, None]

    def _reserve(self, count: int, until: float) -> None:
        with self._state.writing(until):
            saved = self._saved()
            stretches = [list(stretch) for stretch in saved.get("stretches", ())]
            if not self._is_newest():
                highest = self._state.files.find_highest_row()
                self._next = max(self._next, saved.get("bound", 0), FIRST_PLACE, highest + 1)
                self._tag = make_tag()
                if stretches and stretches[-1][2] is None:
                    stretches[-1][2] = self._next - 1
                stretches.append([self._next, self._tag, None])
            bound = self._next + max(count, _BLOCK)
            value = {
                "bound": bound,
                "stretches": stretches[-_MOST_STRETCHES:],
                "older": saved.get("older", len(self._state.files) > 0),
            }
            self._state.commit({("store", PLACES): value}, until)
            self._bound = bound

    def note_older(self, until: float) -> None:
        """Note that there will be records without a place: those that are imported."""
        if not self.has_older:
            with self._state.writing(until):
                value = {**self._saved(), "older": True}
                self._state.commit({("store", PLACES): value}, until)

    # -- positions ---------------------------------------------------------------------------------

    @property
    def has_older(self) -> bool:
        """Whether there may be records of an older version, which have no place."""
        return bool(self._saved().get("older", True))

    def format(self, place: int) -> str:
        """Return the position after this place."""
        for first, end in self._list_ends():
            if first <= place:
                return f"{place:x}{end}"
        return BEGINNING

    def _list_ends(self) -> list[tuple[int, str]]:
        """Return the first place of each stretch with the end of its positions, newest first."""
        saved, (known, ends) = self._saved(), self._ends
        if known is not saved:
            stretches = read_stretches(saved)
            names = [f"-{stretch.tag}{stretch.first:x}" for stretch in stretches]
            ends = [
                (stretch.first, "".join(reversed(names[max(index - _MOST_NAMED, 0) : index])))
                for index, stretch in enumerate(stretches, 1)
            ][::-1]
            self._ends = saved, ends
        return ends

    def parse(self, text: str) -> Start:
        """Return where reading continues after a position.

        Raise ``BadRequest``. Raise ``PositionUnknown`` for a position of another history of this
        store, with the last position that both histories surely share.
        """
        if text == BEGINNING:
            return Start()
        if older := _OLDER.fullmatch(text):
            return Start(pair=parse_sort_key(older[1]))
        match = _PLACE.fullmatch(text)
        if match is None:
            raise BadRequest("after: is not a position. Use one that the feed gave.")
        place = int(match[1], 16)
        named = [(tag, int(first, 16)) for tag, first in _STRETCH.findall(match[2])]
        known = {(stretch.tag, stretch.first): stretch for stretch in read_stretches(self._saved())}
        stretch = known.get(named[0])
        if stretch is not None and place <= self._end(stretch):
            return Start(min(place, _LAST_PLACE))
        if len(known) == _MOST_STRETCHES and named[0][1] < min(first for _, first in known):
            return Start(min(place, _LAST_PLACE))  # of a stretch that is no longer remembered
        raise PositionUnknown(
            "after: this store did not give out this position: it was restored or copied, or a "
            "file came back. Continue after `resume`, and expect repeats.",
            self.format(self._find_common(named, known)),
        )

    def find_earlier(self, text: str, count: int) -> str:
        """Return a position at most ``count`` places before this one, in the same stretch."""
        place = self.parse(text).place
        first = next((first for first, _ in self._list_ends() if first <= place), None)
        return text if first is None else self.format(max(place - count, first - 1))

    def _end(self, stretch: Stretch) -> int:
        """Return the last place that may belong to a stretch."""
        if stretch.last is not None:
            return stretch.last
        return max(int(self._saved()["bound"]) - 1, self._state.files.find_newest_row())

    def _find_common(
        self, named: Sequence[tuple[str, int]], known: dict[tuple[str, int], Stretch]
    ) -> int:
        """Return the last place that this history surely shares with the one of a position."""
        if named[0] in known:
            return self._end(known[named[0]])
        for (_, next_first), before in pairwise(named):
            if before in known:
                # The histories part within this stretch, at most two blocks before its end there.
                stretch = known[before]
                return max(stretch.first, min(self._end(stretch), next_first - 2 * _BLOCK)) - 1
        return 0


def format_older(pair: Pair) -> str:
    """Return the position after a record of an older version."""
    return f"p{format_sort_key(pair)}"
