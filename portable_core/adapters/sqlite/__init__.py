"""The embedded store: a folder of SQLite files, written through sqlitedict.

``store.py`` puts the parts together. Records: ``appender.py`` writes them over ``writer.py`` (one
file through sqlitedict, with bounded waits), ``scanner.py`` reads many files over ``reader.py``
(one file), ``retention.py`` chooses what goes. ``registry.py`` knows which files there are and
which are damaged. ``state.py`` keeps identity and marks, ``master_state.py`` leases, cursors and
the quarantine, both in ``state_file.py``. ``folder.py`` opens and closes, ``lock.py`` makes one
process the writer, ``files.py`` has names and errors.
"""

from portable_core.adapters.sqlite.store import FILE_BYTES, SqliteStore

__all__ = ["FILE_BYTES", "SqliteStore"]
