"""Writing one database through sqlitedict, with a time limit on every wait.

A ``SqliteDict`` runs its connection in a thread that reads statements from a queue. Three of its
properties determine this module (sqlitedict 2.1):

1. ``commit()`` waits without a limit, and if the commit fails (a full disk), the thread ends
   without a response. So ``COMMIT`` is sent like any other statement: sqlitedict then catches and
   keeps its error, and this module waits for the response with a deadline.
2. sqlitedict keeps an error until the next call asks for it, and executes what follows. A failed
   statement may have rolled back the transaction, and the statement after it would begin a new one.
   So all statements are confirmed before ``COMMIT`` is sent, unless there is only one: SQLite
   executes it as a whole or not at all, so a ``COMMIT`` after a failed one commits nothing.
3. sqlitedict sets ``synchronous=OFF`` on every connection. This module sets it to ``FULL``
   afterwards, and reads it back.

After any error or missed deadline the connection is abandoned. Whether its last commit took place
is known only once its thread has ended (:attr:`Writer.ended`).
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from queue import Empty, Queue, SimpleQueue
from typing import Any

from sqlitedict import SqliteDict

from portable_core.adapters.sqlite.files import (
    FileDamaged,
    explain_damage,
    is_sync_error,
    sync_folder,
    translate_error,
)
from portable_core.adapters.sqlite.private_files import make_file
from portable_core.errors import StoreError

Statement = tuple[str, Sequence[object]]
Rows = list[tuple[Any, ...]]

#: Seconds for which SQLite itself waits for a lock that another program holds.
BUSY_TIMEOUT_S = 1.0

_NO_TRANSACTION = "no transaction is active"  # part of SQLite's error of COMMIT
_FULL = 2  # the value of PRAGMA synchronous for FULL
_POLL_S = 0.25
_JOIN_S = 0.2

#: The most rows in one INSERT. A smaller batch is one statement of its own length; the sqlite3
#: module caches the last 128 prepared statements.
ROWS_PER_INSERT = 100
_INSERT_SQL = 'INSERT INTO "{}" (rowid, key, value) VALUES {} ON CONFLICT (key) DO NOTHING'

# This module raises every error itself; sqlitedict would first log each one in a dozen lines.
logging.getLogger("sqlitedict").setLevel(logging.CRITICAL)


def build_inserts(table: str, rows: Sequence[tuple[int, str, bytes]]) -> Iterable[Statement]:
    """Return statements that insert the rows (rowid, key, value) whose keys do not exist yet.

    An existing row keeps its rowid, because running scans rely on rowids (see ``reader.py``). A
    rowid that exists is an error: ``INSERT OR IGNORE`` would drop the record.
    """
    for at in range(0, len(rows), ROWS_PER_INSERT):
        chunk = rows[at : at + ROWS_PER_INSERT]
        places = ",".join(["(?,?,?)"] * len(chunk))
        yield _INSERT_SQL.format(table, places), [value for row in chunk for value in row]


def _use_simple_queue(thread: Any) -> None:
    """Exchange the queue of statements for one in C: a statement costs half as much."""
    waited_on, thread.reqs = thread.reqs, SimpleQueue()
    waited_on.put(("SELECT 1", (), None, None))  # the thread looks for the queue after each one


def _unchanged(value: bytes) -> bytes:
    return value


class Writer:
    """One database, open for writing. To be used by one thread at a time.

    Every ``until`` is a time of ``time.monotonic()``. Methods raise ``FileDamaged``, or
    ``StoreError`` for a fault that may be temporary.
    """

    def __init__(self, path: Path, tables: Sequence[str], version: int) -> None:
        """``version`` is written into a new database (``PRAGMA user_version``)."""
        self._path = path
        self._tables = tables
        self._version = version
        self._database: Any = None
        self._connection: Any = None
        self._opener: threading.Thread | None = None
        self._threads: list[threading.Thread] = []
        self._mutex = threading.Lock()
        self._abandoned = False
        self._sync_failed = False

    @property
    def ended(self) -> bool:
        """Whether no statement sent to this writer can still be executed."""
        return not any(thread.is_alive() for thread in self._threads)

    @property
    def abandoned(self) -> bool:
        """Whether the connection was closed, after an error or by :meth:`close`."""
        return self._abandoned

    @property
    def sync_failed(self) -> bool:
        """Whether a sync failed; final once :attr:`ended`."""
        # sqlitedict keeps an error that came after the deadline.
        late = getattr(self._connection, "exception", None)
        return self._sync_failed or bool(late and is_sync_error(late[1]))

    # -- opening -----------------------------------------------------------------------------------

    def open(self, until: float) -> None:
        """Open the database; create it, with a durable folder entry, if it does not exist."""
        # In a thread of its own, because connecting to a file on a hung disk has no time limit.
        outcome: Queue[Exception | None] = Queue()
        opener = threading.Thread(
            target=self._connect, args=(outcome,), name=f"open-{self._path.name}", daemon=True
        )
        self._threads.append(opener)
        opener.start()
        try:
            error = outcome.get(timeout=max(until - time.monotonic(), 0.01))
        except Empty:
            self.abandon()
            raise StoreError(
                f"{self._path.name}: the disk does not respond. The store continues once it does."
            ) from None
        opener.join(_JOIN_S)
        if error is not None:
            self._fail(error)
        self.query("PRAGMA synchronous=FULL", until)
        if self.query("PRAGMA synchronous", until) != [(_FULL,)]:
            self._fail(RuntimeError("synchronous=FULL was not accepted"))
        self.query(f"PRAGMA busy_timeout={int(BUSY_TIMEOUT_S * 1000)}", until)

    def _connect(self, outcome: Queue[Exception | None]) -> None:
        error: Exception | None = RuntimeError("opening was interrupted")
        try:
            self._open_database()
            error = None
        except (sqlite3.Error, OSError, RuntimeError, StoreError) as raised:
            error = raised
        finally:
            outcome.put(error)

    def _open_database(self) -> None:
        make_file(self._path)  # SQLite would create it as the umask has it
        # A plain connection comes first: it creates the tables and reports errors. In sqlitedict's
        # thread, an error at this point would be printed and end the thread.
        with closing(
            sqlite3.connect(self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        ) as plain:
            (mode,) = plain.execute("PRAGMA journal_mode=WAL").fetchone()
            if mode != "wal":
                raise RuntimeError(
                    "this file system does not support WAL mode (a network mount?). "
                    "Use a local disk."
                )
            plain.execute("PRAGMA synchronous=FULL")
            self._make_tables(plain)
            sync_folder(self._path.parent)
            database = SqliteDict.__new__(SqliteDict)
            try:
                database.__init__(
                    str(self._path),
                    tablename=self._tables[0],
                    autocommit=False,
                    journal_mode="WAL",
                    encode=_unchanged,  # the default is pickle
                    decode=_unchanged,
                    outer_stack=False,
                )
            finally:
                self._connection = getattr(database, "conn", None)
                if self._connection is not None:
                    self._threads.append(self._connection)
                with self._mutex:
                    if self._abandoned:
                        database.close(do_log=False, force=True)
                    else:
                        _use_simple_queue(database.conn)
                        self._database = database

    def _make_tables(self, plain: sqlite3.Connection) -> None:
        found = {name for (name,) in plain.execute("SELECT name FROM sqlite_master")}
        if found.issuperset(self._tables):
            return
        plain.execute("BEGIN IMMEDIATE")
        for table in self._tables:
            plain.execute(
                f'CREATE TABLE IF NOT EXISTS "{table}" (key TEXT PRIMARY KEY, value BLOB)'
            )
        plain.execute(f"PRAGMA user_version={self._version}")
        plain.execute("COMMIT")

    # -- writing -----------------------------------------------------------------------------------

    def commit(
        self, statements: Iterable[Statement], until: float, then: Statement | None = None
    ) -> Rows:
        """Execute the statements as one durable transaction; return the rows of query ``then``.

        After an error, either all of the transaction is in the database or nothing.
        """
        sent = list(statements)
        after: list[Statement] = [("COMMIT", ())]
        if then is not None:
            after.append(then)
        with self._abandoned_on_error():
            if len(sent) == 1:
                try:
                    return self._run([*sent, *after], until)
                except sqlite3.OperationalError as error:
                    if _NO_TRANSACTION not in str(error):
                        raise
                    # The statement has failed, and COMMIT's error has replaced the statement's.
            self._run(sent, until)
            return self._run(after, until)

    def query(self, sql: str, until: float, values: Sequence[object] = ()) -> Rows:
        """Return the rows of one statement, executed on the writing connection."""
        with self._abandoned_on_error():
            return self._run([(sql, values)], until)

    @contextmanager
    def _abandoned_on_error(self) -> Iterator[None]:
        """Abandon the connection after any error; translate errors of SQLite and of the system."""
        try:
            yield
        except (sqlite3.Error, OSError, RuntimeError) as error:
            self._fail(error)
        except BaseException:
            self.abandon()
            raise

    def _run(self, statements: Sequence[Statement], until: float) -> Rows:
        """Execute statements in one round trip; return the rows of the last one."""
        database = self._database
        if database is None or self._abandoned:
            raise StoreError(f"{self._path.name}: the connection was abandoned. Try again.")
        answers: SimpleQueue[Any] = SimpleQueue()
        for sql, values in statements[:-1]:
            database.conn.execute(sql, values)
        for sql, values in statements[-1:]:
            database.conn.execute(sql, values, answers)
        rows: Rows = []
        while statements and isinstance(
            row := self._wait_for_answer(database.conn, answers, until), tuple
        ):
            rows.append(row)  # a marker follows the last one
        database.conn.check_raise_error()
        return rows

    def _wait_for_answer(
        self, thread: threading.Thread, answers: SimpleQueue[Any], until: float
    ) -> Any:
        while True:
            rest = until - time.monotonic()
            try:
                return answers.get(timeout=min(max(rest, 0.001), _POLL_S))
            except Empty:
                if rest <= 0:
                    raise StoreError(
                        f"{self._path.name}: the disk did not finish in time. Try again."
                    ) from None
                if not thread.is_alive():
                    raise StoreError(
                        f"{self._path.name}: the writing thread has ended. Try again."
                    ) from None

    # -- ending ------------------------------------------------------------------------------------

    def close(self, until: float) -> None:
        """Move the write-ahead log into the database and close the database.

        Raise ``StoreError`` if that does not finish in time; the thread then ends when it can.
        """
        if self._database is None or self._abandoned:
            return
        try:
            self.query("PRAGMA wal_checkpoint(TRUNCATE)", until)
        except FileDamaged as error:
            raise StoreError(str(error)) from error
        finally:
            self.abandon(max(until - time.monotonic(), _JOIN_S))

    def abandon(self, wait_s: float = _JOIN_S) -> None:
        """Close without a checkpoint; uncommitted statements are rolled back.

        Wait at most ``wait_s`` for the threads to end.
        """
        with self._mutex:
            if not self._abandoned:
                self._abandoned = True
                if self._database is not None:
                    self._database.close(do_log=False, force=True)
        until = time.monotonic() + wait_s
        for thread in self._threads:
            thread.join(max(until - time.monotonic(), 0))

    def _fail(self, error: Exception) -> None:
        """Abandon the connection and raise ``error`` as ``FileDamaged`` or ``StoreError``."""
        self._sync_failed |= is_sync_error(error)
        self.abandon()
        reason = explain_damage(error, self._path)
        if reason is not None:
            raise FileDamaged(self._path.name, reason) from error
        raise translate_error(error, self._path.name) from error
