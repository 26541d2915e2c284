"""Pairs and records in MessagePack: one object after the other, and a final nil.

Pairs are integers: hash, timestamp, hash, timestamp, … A record is an array of four: hash,
timestamp, meta (a map), payload (binary). The format: https://github.com/msgpack/msgpack.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgpack

from portable_core.errors import MalformedStream, StreamTooLarge
from portable_core.records import Meta, Pair, Record
from portable_core.wire.base import (
    DEFAULT_LIMITS,
    OWN_CHUNK_BYTES,
    SLICE_BYTES,
    PairReader,
    Reader,
    WireLimits,
    check_integer,
    flatten_pairs,
    not_an_integer,
    quote,
)

_NIL = b"\xc0"

#: The largest integer on the wire: a byte for its type and eight for its value.
_INTEGER_BYTES = 9

#: The most entries of an array and of a map within meta. The parser allocates memory for all the
#: entries that an array announces, so the first limit is small.
_MAX_ARRAY_LENGTH = 1024
_MAX_MAP_LENGTH = 65535

#: The parser's errors, which have no common root. (FormatError, StackError and UnicodeDecodeError
#: are ValueErrors.)
_PARSER_ERRORS = (ValueError, msgpack.UnpackException)


class MsgpackEncoding:
    """``application/vnd.msgpack``: the payload byte for byte, about 14 bytes a pair."""

    media_type = "application/vnd.msgpack"

    def encode_pairs(self, pairs: Iterable[Pair], chunk_pairs: int = 4096) -> Iterator[bytes]:
        pack = msgpack.Packer().pack
        for values in flatten_pairs(pairs, chunk_pairs):
            # One call packs an array; its header is not sent.
            yield pack(values)[_array_header_size(len(values)) :]
        yield _NIL

    def read_pairs(self) -> Reader[Pair]:
        return _PairReader()

    def encode_records(self, records: Iterable[Record]) -> Iterator[bytes]:
        packer = msgpack.Packer()
        for (timestamp, hash_), payload, meta in (
            (record.pair, record.payload, record.meta) for record in records
        ):
            if len(payload) < OWN_CHUNK_BYTES:
                yield packer.pack((hash_, timestamp, meta.to_mapping(), payload))
            else:
                # The start of an array of four: the items of one of three, and a binary's size.
                head = packer.pack((hash_, timestamp, meta.to_mapping()))
                yield b"\x94" + head[1:] + b"\xc6" + len(payload).to_bytes(4, "big")
                yield payload
        yield _NIL

    def read_records(self, limits: WireLimits = DEFAULT_LIMITS) -> Reader[Record]:
        return _RecordReader(limits)


class _PairReader(PairReader):
    def __init__(self) -> None:
        super().__init__()
        # Only integers are allowed: every length is 0.
        self._unpacker = msgpack.Unpacker(
            max_buffer_size=2 * SLICE_BYTES,
            max_array_len=0,
            max_map_len=0,
            max_str_len=0,
            max_bin_len=0,
            max_ext_len=0,
        )
        self._fed = 0

    def _read(self, data: bytes, items: list[Pair]) -> None:
        if self._closed:
            raise _trailing(self._count)
        values: list[Any] = []
        problem: Exception | None = None
        self._unpacker.feed(data)
        self._fed += len(data)
        try:
            # `extend` keeps the values read before the iterator raises.
            values.extend(iter(self._unpacker.unpack, None))
            closed = True
        except msgpack.OutOfData:
            closed = False
        except _PARSER_ERRORS as error:
            problem, closed = error, False
        self._add(values, items)
        rest = self._fed - self._unpacker.tell()
        if closed:
            self._close(items)
            if rest:
                raise _trailing(self._count + len(items))
        elif problem is not None or rest >= _INTEGER_BYTES:
            element, name = self._next_value(items)
            raise not_an_integer(name, "another type", element) from problem


class _RecordReader(Reader[Record]):
    noun = "records"

    def __init__(self, limits: WireLimits) -> None:
        super().__init__()
        self._limits = limits
        self._unpacker = msgpack.Unpacker(
            # Room for one record, and for the bytes that follow its end in the same slice.
            max_buffer_size=limits.element_bytes + limits.meta_bytes + 2 * SLICE_BYTES,
            max_array_len=_MAX_ARRAY_LENGTH,
            max_map_len=_MAX_MAP_LENGTH,
            max_str_len=limits.meta_bytes,
            max_bin_len=limits.element_bytes,
            max_ext_len=0,
        )
        self._fed = 0
        self._start = 0

    def _read(self, data: bytes, items: list[Record]) -> None:
        if self._closed:
            raise _trailing(self._count)
        try:
            self._unpacker.feed(data)
            self._fed += len(data)
            self._unpack(items)
        except _PARSER_ERRORS as error:
            index = self._count + len(items)
            self._check_size(self._unpacker.tell() - self._start, index)
            raise self._translate(error, index) from error

    def _unpack(self, items: list[Record]) -> None:
        unpack, tell = self._unpacker.unpack, self._unpacker.tell
        while True:
            try:
                element = unpack()
            except msgpack.OutOfData:
                # The parser has consumed the objects of an unfinished record, which may need many
                # times the memory of their bytes; it has not consumed an unfinished payload.
                self._check_size(tell() - self._start, self._count + len(items))
                return
            end = tell()
            if element is None:
                self._closed = True
                if self._fed > end:
                    raise _trailing(self._count + len(items))
                return
            items.append(self._build(element, end - self._start, self._count + len(items)))
            self._start = end

    def _check_size(self, size: int, index: int) -> None:
        """Raise :class:`StreamTooLarge` if a record has too many bytes besides its payload."""
        if size > self._limits.meta_bytes:
            raise StreamTooLarge(
                f"must have at most {self._limits.meta_bytes} bytes besides its payload", index
            )

    def _build(self, element: object, size: int, index: int) -> Record:
        """Return the record of an element, which has ``size`` bytes."""
        fields = element if isinstance(element, list) else []
        payload = fields[-1] if fields else None
        self._check_size(size - len(payload) if isinstance(payload, bytes) else size, index)
        if len(fields) != 4:
            kind = f"an array of {len(fields)}" if fields else quote(element)
            raise MalformedStream(f"must be an array of four (got {kind})", index)
        hash_, timestamp, meta, payload = fields
        check_integer("hash", hash_, index)
        check_integer("timestamp", timestamp, index)
        if not isinstance(payload, bytes):
            raise MalformedStream(f"payload: must be binary (got {quote(payload)})", index)
        try:
            return Record(Pair(timestamp, hash_), payload, Meta.from_mapping(meta))
        except ValueError as error:
            raise MalformedStream(str(error), index) from error

    def _translate(self, error: Exception, index: int) -> MalformedStream:
        """Return an error of the parser as one of a stream."""
        reason = str(error) or type(error).__name__
        if "max_ext_len" in reason:
            return MalformedStream("must not have an extension type", index)
        if isinstance(error, msgpack.BufferFull) or "exceeds max_" in reason:
            limits = self._limits
            return StreamTooLarge(
                f"too large ({reason}): a payload may have {limits.element_bytes} bytes, "
                f"the rest of a record {limits.meta_bytes}",
                index,
            )
        return MalformedStream(f"not valid MessagePack: {reason}", index)


def _array_header_size(length: int) -> int:
    return 1 if length < 16 else 3 if length < 65536 else 5


def _trailing(index: int) -> MalformedStream:
    return MalformedStream("the stream continues after the closing nil", index)
