"""The store's identity, and its marks: numbers that never decrease.

Each value that a mark was raised to is a document, and the largest value counts. The next raise
deletes the lower ones. So two processes that raise a mark at the same time lose no value, without a
transaction.
"""

from __future__ import annotations

import contextlib
import uuid
from typing import Any
from urllib.parse import quote, unquote

from portable_core.adapters.firestore.client import Database
from portable_core.adapters.firestore.documents import Fields, delete_document, write_document
from portable_core.adapters.firestore.failures import CommitRejected
from portable_core.adapters.firestore.leases import write_lease
from portable_core.adapters.firestore.queries import RangeQuery
from portable_core.errors import SettingsError, StoreDamaged
from portable_core.ports import Lease, StoreInfo

_META, _MARKS = "meta", "marks"

#: Precedes the name of the hash algorithm; see :func:`_mark_former`.
_LAYOUT = "segments/"

_FEW = 16
_PAGE = 256


def open_identity(database: Database, algorithm: str) -> tuple[StoreInfo, bool]:
    """Return the store's identity, and whether it may have pages of the former layout.

    Create the identity if none exists. Raise ``SettingsError``.
    """
    fields = _find_identity(database)
    if fields is None:
        new: Fields = {
            "id": str(uuid.uuid4()),
            "generation": 1,
            "algorithm": _LAYOUT + algorithm,
        }
        create = write_document(database.name(_META, "store"), new)
        create.current_document.exists = False
        with contextlib.suppress(CommitRejected):  # another process created it at the same time
            database.commit([create, write_lease(database, Lease(0, "", 0), "")])
        fields = _require_identity(database)
    info = _read_info(fields)
    check_algorithm(database, info, algorithm)
    if "id" not in fields:
        _mark_former(database, info)
        fields = _require_identity(database)
    return info, "former" in fields


def _mark_former(database: Database, info: StoreInfo) -> None:
    """Change the identity so that releases that know no segments do not answer for the store.

    An instance of them that starts rejects the name of the algorithm. One that runs finds no UUID
    from now on, and no master accepts its response; what it still receives is in pages.
    """
    fields: Fields = {
        "id": info.uuid,
        "uuid": "",
        "algorithm": _LAYOUT + info.algorithm,
        "former": 1,
    }
    write = write_document(database.name(_META, "store"), fields)
    write.update_mask.field_paths.extend(fields)
    write.current_document.exists = True
    database.commit([write])


def check_algorithm(database: Database, info: StoreInfo, algorithm: str) -> None:
    """Raise ``SettingsError`` if the store was created with another hash algorithm."""
    if info.algorithm != algorithm:
        raise SettingsError(
            f"HASH: the store {database.path} was created with {info.algorithm} (got {algorithm}). "
            "Restore HASH and HASH_KEY, or choose another STORE."
        )


def read_identity(database: Database) -> StoreInfo:
    """Return the store's identity. Raise ``StoreDamaged`` if none exists."""
    return _read_info(_require_identity(database))


def _find_identity(database: Database) -> Any:
    """Return the fields of the identity, None if none exists."""
    name = database.name(_META, "store")
    document = database.get([name])[0].get(name)
    return None if document is None else document.fields


def _require_identity(database: Database) -> Any:
    fields = _find_identity(database)
    if fields is None:
        raise StoreDamaged(f"{database.path} contains no store: its document meta/store is missing")
    return fields


def _read_info(fields: Any) -> StoreInfo:
    return StoreInfo(
        fields["id" if "id" in fields else "uuid"].string_value,
        fields["generation"].integer_value,
        fields["algorithm"].string_value.removeprefix(_LAYOUT),
    )


def bump_generation(database: Database) -> None:
    """Begin a new epoch. A repeated request may add 2, which does no harm."""
    write = write_document(database.name(_META, "store"), {})
    write.update_mask.SetInParent()  # change no field but the one below
    write.update_transforms.add(field_path="generation", increment={"integer_value": 1})
    write.current_document.exists = True
    database.commit([write])


def read_marks(database: Database, name: str) -> list[int]:
    """Return the stored values of a mark, the largest first."""
    prefix = quote(name, safe="")
    query = RangeQuery(_MARKS, "key", f"{prefix}/", f"{prefix}0", descending=True)
    documents = database.read_page(query, None, _FEW)
    return [document.fields["value"].integer_value for document in documents]


def list_marks(database: Database, prefix: str) -> dict[str, int]:
    """Return the marks whose names begin with ``prefix``, by name."""
    quoted = quote(prefix, safe="")
    query = RangeQuery(_MARKS, "key", quoted or None, f"{quoted}\x7f")
    marks: dict[str, int] = {}
    last: str | None = None
    while documents := database.read_page(query, last, _PAGE):
        for document in documents:
            last = document.fields["key"].string_value
            name = unquote(last.rpartition("/")[0])
            marks[name] = max(document.fields["value"].integer_value, marks.get(name, 0))
        if len(documents) < _PAGE:
            break
    return marks


def raise_mark(database: Database, name: str, value: int) -> int:
    values = read_marks(database, name)
    if (values and values[0] >= value) or value <= 0:
        return values[0] if values else 0
    _replace_mark(database, name, value, values)
    return value


def set_mark(database: Database, name: str, value: int) -> None:
    values = read_marks(database, name)
    if values != ([value] if value else []):
        _replace_mark(database, name, value, values)


def _replace_mark(database: Database, name: str, value: int, values: list[int]) -> None:
    """Write ``value``, unless it is 0, and delete the documents of the other values."""
    prefix = quote(name, safe="")

    def locate(number: int) -> str:
        return database.name(_MARKS, f"{prefix}-{number:014x}")

    writes = [delete_document(locate(old)) for old in values if old != value]
    if value:
        fields: Fields = {"key": f"{prefix}/{value:014x}", "value": value}
        writes.insert(0, write_document(locate(value), fields))
    database.commit(writes)
