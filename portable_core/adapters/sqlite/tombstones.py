"""The tombstones in ``state.sqlite3``: one row each, numbered in the order of their saving."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from portable_core.adapters.sqlite.files import STATE_NAME, FileDamaged
from portable_core.adapters.sqlite.reader import Reader
from portable_core.adapters.sqlite.state import State
from portable_core.adapters.sqlite.writer import Statement
from portable_core.errors import StoreDamaged
from portable_core.ports import Tombstone
from portable_core.records import Pair

_SAVE_SQL = "INSERT OR IGNORE INTO tombstones (key, value) VALUES (?, ?)"
_SCAN_SQL = "SELECT key, value FROM tombstones WHERE key > ? ORDER BY key LIMIT 1000"


class SqliteTombstones:
    """Safe to use from any thread. Every ``until`` is a time of ``time.monotonic()``."""

    def __init__(self, state: State, reader: Reader) -> None:
        self._state = state
        self._reader = reader
        #: The pairs that are saved, and the last number; None until they are read.
        self._known: tuple[set[Pair], int] | None = None

    def save(self, tombstones: Sequence[Tombstone], until: float) -> None:
        """Save those whose pairs have none yet."""
        with self._state.writing(until):
            pairs, number = self._read_known()
            new = {each.pair: each for each in tombstones if each.pair not in pairs}
            statements: list[Statement] = []
            for number_, each in enumerate(new.values(), number + 1):
                value = [each.pair.timestamp, each.pair.hash, each.key, each.at]
                statements.append((_SAVE_SQL, (_format(number_), json.dumps(value).encode())))
            if statements:
                self._known = None  # until the outcome is certain
                self._state.commit({}, until, statements)
                self._known = (pairs | new.keys(), number + len(new))

    def iterate(self, after: int) -> Iterator[tuple[int, Tombstone]]:
        key = _format(after)
        try:
            while rows := self._reader.query(STATE_NAME, _SCAN_SQL, (key,)):
                for raw, value in rows:
                    key = raw.decode()
                    timestamp, hash_, webhook, at = json.loads(value)
                    yield int(key, 16), Tombstone(Pair(timestamp, hash_), webhook, at)
        except (FileDamaged, ValueError, TypeError) as error:
            raise StoreDamaged(f"the tombstones cannot be read: {error}") from error

    def _read_known(self) -> tuple[set[Pair], int]:
        if self._known is None:
            pairs, number = set(), 0
            for number, tombstone in self.iterate(0):  # noqa: B007 -- the last one counts
                pairs.add(tombstone.pair)
            self._known = (pairs, number)
        return self._known


def _format(number: int) -> str:
    return f"{number:014x}"
