"""The embedded store: a folder of SQLite files, written through sqlitedict.

- ``store.py`` combines the parts; ``folder.py`` opens and closes them.
- ``appender.py`` writes records to many files, ``writer.py`` to one, with bounded waits;
  ``open_files.py`` keeps the writers.
- ``scanner.py`` reads records from many files, ``reader.py`` from one.
- ``retention.py`` chooses the files to remove.
- ``known_files.py`` lists the data files, ``file_rows.py`` is their form in the state;
  ``registry.py`` compares them with the folder (``folder_watch.py``, ``changes.py``), and
  ``checker.py`` does it in the background.
- ``state.py`` keeps the store's identity and marks; ``master_state.py`` leases, cursors and the
  quarantine. Both write through ``state_file.py``.
- ``lock.py`` makes one process the writer; ``files.py`` defines file names and errors.
- ``private_files.py`` creates folders and files for the node's user alone; ``preview.py`` checks a
  folder without opening the store.
- ``backup.py`` copies a store beside the process that writes it, ``restore.py`` makes a store of
  the copies; ``manifest.py`` is the list of them.
"""

from portable_core.adapters.sqlite.store import FILE_BYTES, SqliteStore

__all__ = ["FILE_BYTES", "SqliteStore"]
