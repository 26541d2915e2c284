"""The durable state of ``forward``, and its dead letters, in one SQLite file.

One transaction writes the position, the webhooks delivered after it, and new dead letters. WAL with
``synchronous=FULL`` makes it durable with one fsync.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from portable_core.errors import NotFound, StoreLocked, Unavailable
from portable_core.records import Pair, pack_value, unpack_value
from portable_core.webhooks.dead_letters import StoredDeadLetter
from portable_core.webhooks.delivery_request import Outcome
from portable_core.webhooks.delivery_values import Changes
from portable_core.webhooks.feed_webhook import Webhook
from portable_core.webhooks.forward import MAX_KEYS

_SCHEMA = """
CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS done (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS keys (number INTEGER PRIMARY KEY, key TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS dead_letters (
    id TEXT PRIMARY KEY, timestamp INTEGER NOT NULL, hash INTEGER NOT NULL, event TEXT NOT NULL,
    attempts INTEGER NOT NULL, status INTEGER NOT NULL, reason TEXT NOT NULL,
    died INTEGER NOT NULL, size INTEGER NOT NULL, record BLOB NOT NULL);
"""
_BUSY_S = 30.0
_MOST = (MAX_KEYS,)


class DeliveryFile:
    """The file. With ``exclusive``, this process alone delivers by it; see ``DeliveryState``.

    Raises ``Unavailable``; ``StoreLocked`` if another process delivers by it.
    """

    def __init__(self, path: Path, *, exclusive: bool, keep_s: float | None = None) -> None:
        """``keep_s``: a dead letter is dropped so long after its last request; None for never."""
        self._path = path
        self._keep_s = keep_s
        self._lock: int | None = None
        with self._translate():
            if exclusive:
                self._lock = self._acquire_lock()
            # SQLite gives its other files the mode of this one.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._db = sqlite3.connect(
                path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
            )
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("PRAGMA secure_delete=ON")
            self._db.executescript(_SCHEMA)
            self._drop_old()
            row = self._db.execute("SELECT value FROM state WHERE name='position'").fetchone()
            self.position: str | None = None if row is None else row[0]
            self.done = frozenset(id for (id,) in self._db.execute("SELECT id FROM done"))

    def _drop_old(self) -> None:
        if self._keep_s is not None:
            before = round((time.time() - self._keep_s) * 1000)
            self._db.execute("DELETE FROM dead_letters WHERE died < ?", (before,))

    def _acquire_lock(self) -> int:
        path = f"{self._path}.lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise StoreLocked(
                f"{self._path} is in use by another process that forwards. Stop that process, or "
                "name another file with --state."
            ) from None
        return descriptor

    @contextmanager
    def _translate(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise Unavailable(f"{self._path}: {error}") from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._translate():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def write(self, changes: Changes[Webhook]) -> None:
        """See the port."""
        with self._transaction():
            execute = self._db.execute
            self._drop_old()
            if changes.position is not None:
                execute("INSERT OR REPLACE INTO state VALUES ('position', ?)", (changes.position,))
            many = self._db.executemany
            many("INSERT OR IGNORE INTO done VALUES (?)", [(id,) for id in changes.done])
            many("DELETE FROM done WHERE id=?", [(id,) for id in changes.passed])
            many("INSERT INTO keys (key) VALUES (?)", [(key,) for key in changes.keys])
            execute("DELETE FROM keys WHERE number <= (SELECT MAX(number) FROM keys) - ?", _MOST)
            for letter in changes.dead:
                webhook, outcome = letter.item, letter.outcome
                record = webhook.record
                execute(
                    "INSERT OR REPLACE INTO dead_letters VALUES (?,?,?,?,?,?,?,?,?,?)",
                    (
                        webhook.id,
                        *record.pair,
                        webhook.event,
                        letter.attempts,
                        outcome.status,
                        outcome.reason,
                        round(time.time() * 1000),
                        webhook.size,
                        pack_value(record),
                    ),
                )
        self.position = changes.position or self.position

    @property
    def keys(self) -> list[str]:
        """See the port."""
        with self._translate():
            return [key for (key,) in self._db.execute("SELECT key FROM keys ORDER BY number")]

    # -- dead letters ------------------------------------------------------------------------------

    @property
    def dead_letters(self) -> int:
        """The number of dead letters."""
        return self._sum("COUNT(*)")

    @property
    def dead_letter_bytes(self) -> int:
        """The approximate size of all dead letters."""
        return self._sum("COALESCE(SUM(size), 0)")

    def _sum(self, expression: str) -> int:
        with self._translate():
            row = self._db.execute(f"SELECT {expression} FROM dead_letters").fetchone()  # noqa: S608  # a constant
            return int(row[0])

    def list_dead_letters(self, ids: Iterable[str] | None = None) -> Iterator[StoredDeadLetter]:
        """Yield all dead letters, oldest webhook first, or those with these ids.

        Raises ``NotFound`` for an unknown id.
        """
        with self._translate():
            if ids is None:
                query = "SELECT id FROM dead_letters ORDER BY timestamp, hash"
                ids = [id for (id,) in self._db.execute(query).fetchall()]
        for id in ids:
            with self._translate():
                row = self._db.execute(
                    "SELECT timestamp, hash, event, attempts, status, reason, died, record "
                    "FROM dead_letters WHERE id=?",
                    (id,),
                ).fetchone()
            if row is None:
                raise NotFound(f"{self._path} has no dead letter {id[:60]}")
            timestamp, hash_, event, attempts, status, reason, died, value = row
            record = unpack_value(Pair(timestamp, hash_), value)
            yield StoredDeadLetter(id, event, attempts, status, reason, died, record)

    def note_failure(self, id: str, attempts: int, outcome: Outcome) -> None:
        """See the port."""
        values = (attempts, outcome.status, outcome.reason, round(time.time() * 1000), id)
        with self._transaction():
            self._db.execute(
                "UPDATE dead_letters SET attempts=?, status=?, reason=?, died=? WHERE id=?", values
            )

    def drop_dead_letter(self, id: str) -> bool:
        """Remove a dead letter; return whether it was there."""
        with self._transaction():
            return self._db.execute("DELETE FROM dead_letters WHERE id=?", (id,)).rowcount > 0

    def close(self) -> None:
        self._db.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
