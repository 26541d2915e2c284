"""A Firestore database as releases without segments made it: raw writes, and no code of today."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable
from typing import Any

from google.cloud.firestore_v1 import types

from portable_core.adapters.firestore.client import Database
from portable_core.records import Record, pack_value

#: The bytes of a part, and the milliseconds of a time bucket.
PART, BUCKET = 960_000, 10_000

_Write = types.Write.pb()


class FormerWriter:
    """Writes records as the former store did, one page for each call and bucket."""

    def __init__(self, database: Database, writer: str = "0199e0e0e0eabcde") -> None:
        self._database = database
        self._writer = writer
        self._number = 0

    def create(self) -> None:
        """Write the identity and a free lease."""
        self._commit(
            self._write("meta/store", uuid="0" * 8 + "-0000-0000-0000-" + "0" * 12),
            self._write("leases/00000000000000", key="0" * 14, token=0, holder="", expires=0),
        )

    def append(self, records: Iterable[Record], *, placed: bool = True) -> None:
        """Write records; ``placed``: with a place in the order of arrival."""
        buckets: dict[int, list[Record]] = {}
        for record in sorted(records, key=lambda record: record.pair):
            buckets.setdefault(record.pair.timestamp // BUCKET, []).append(record)
        for group in buckets.values():
            writes = [write for record in group for write in self._list_writes(record)]
            for write in writes:
                self._commit(write)
            self._commit(self._write_page(group, placed))

    def _list_writes(self, record: Record) -> list[Any]:
        id_ = f"{record.pair.hash:014x}{record.pair.timestamp:014x}"
        fields: dict[str, Any] = {"hash": record.pair.hash, "timestamp": record.pair.timestamp}
        if record.recovery:
            fields["recovered_from"] = record.recovery.slave
            fields["recovered_at"] = record.recovery.at
        if len(record.payload) <= PART:
            meta = json.dumps(record.meta.to_mapping()) if record.meta else None
            fields |= {"payload": record.payload} | ({"meta": meta} if meta else {})
            return [self._write(f"webhooks/{id_}", **fields)]
        value = pack_value(record)
        pieces = [value[start : start + PART] for start in range(0, len(value), PART)]
        parts = [self._write(f"parts/{id_}-{n:04d}", body=piece) for n, piece in enumerate(pieces)]
        return [*parts, self._write(f"webhooks/{id_}", parts=len(pieces), **fields)]

    def _write_page(self, records: list[Record], placed: bool) -> Any:
        pairs = b"".join(struct.pack(">QQ", *record.pair) for record in records)
        digest = hashlib.blake2b(pairs, digest_size=16).hexdigest()
        entries = b"".join(
            struct.pack(
                ">QQIH",
                *record.pair,
                record.size,
                -(-len(pack_value(record)) // PART) if len(record.payload) > PART else 0,
            )
            for record in records
        )
        fields: dict[str, Any] = {
            "key": f"{records[0].pair.timestamp:014x}-{digest}",
            "pairs": entries,
            "bytes": sum(record.size for record in records),
        }
        if placed:
            self._number += 1
            fields["place"] = f"{self._writer}-{self._number:012x}"
        return self._write(f"pages/{digest}", **fields)

    def _write(self, path: str, **fields: str | int | bytes) -> Any:
        if path == "meta/store":
            fields |= {"generation": 1, "algorithm": "crc32c"}
        write = _Write()
        write.update.name = f"{self._database.path}/documents/{path}"
        kinds = {str: "string_value", int: "integer_value", bytes: "bytes_value"}
        for name, value in fields.items():
            setattr(write.update.fields[name], kinds[type(value)], value)
        return write

    def _commit(self, *writes: Any) -> None:
        self._database.commit(writes)
