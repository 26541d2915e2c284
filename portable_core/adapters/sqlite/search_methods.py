"""The methods of a store for searches."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from portable_core.adapters.sqlite.folder import SqliteFolder
from portable_core.adapters.sqlite.packed_files import FileList
from portable_core.adapters.sqlite.search_index import SqliteSearchIndex
from portable_core.errors import StoreError
from portable_core.ports import Candidates, Milliseconds, SourceVolume
from portable_core.records import MAX_INTEGER, Pair, Record


class SqliteSearchMethods(SqliteFolder):
    """The search index of a store that was opened for writing after :meth:`index_by`."""

    def index_by(self, terms: Callable[[Record], Collection[bytes]], version: int) -> None:
        self._indexed_by = (terms, version)

    def find(
        self, terms: Collection[bytes], start: Milliseconds, before: Pair, limit: int
    ) -> Candidates:
        files = self._list_indexed(start, min(before.timestamp, MAX_INTEGER) + 1)
        return self._require_index().find(files, terms, start, before, limit)

    def volumes(
        self, start: Milliseconds, end: Milliseconds
    ) -> Mapping[Milliseconds, Mapping[str, SourceVolume]]:
        return self._require_index().volumes(self._list_indexed(start, end))

    def finish_index(self) -> None:
        """Index all records now, instead of in the background."""
        self._check_open()
        self._require_index().finish()

    def _list_indexed(self, start: Milliseconds, end: Milliseconds) -> FileList:
        self._check_open()
        if not self._read_only:
            return self._state.files.list_readable(start, end)
        with self._refreshed():
            return self._state.files.list_readable(start, end)

    def _require_index(self) -> SqliteSearchIndex:
        if self._index is None:
            raise StoreError("the store has no index for searches")
        return self._index
