"""Compression with Zstandard: the standard library's module where Python has it."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import BinaryIO, cast

if sys.version_info >= (3, 14):
    from compression import zstd

    _Error = zstd.ZstdError

    def compress(data: bytes, level: int = 3) -> bytes:
        """Return the data as one frame, which states its size."""
        return zstd.compress(data, level)

    def _open(file: BinaryIO) -> BinaryIO:
        return zstd.open(file, "rb")

    def _measure(frame: bytes) -> int | None:
        return zstd.get_frame_info(frame).decompressed_size

    def _decompress(frame: bytes) -> bytes:
        decompressor = zstd.ZstdDecompressor()
        data = decompressor.decompress(frame)  # one frame alone
        if not decompressor.eof or decompressor.unused_data:
            raise ValueError("the frame is incomplete, or other data follow it")
        return data

else:
    import zstandard

    _Error = zstandard.ZstdError

    def compress(data: bytes, level: int = 3) -> bytes:
        """Return the data as one frame, which states its size."""
        return zstandard.ZstdCompressor(level=level).compress(data)

    def _open(file: BinaryIO) -> BinaryIO:
        reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        return io.BufferedReader(cast(io.RawIOBase, reader))

    def _measure(frame: bytes) -> int | None:
        size = zstandard.frame_content_size(frame)
        return None if size < 0 else size

    def _decompress(frame: bytes) -> bytes:
        return zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False)


@contextmanager
def read_frames(file: BinaryIO) -> Iterator[BinaryIO]:
    """Yield a file with the data of all frames of a file; an error in them is a ``ValueError``."""
    try:
        with closing(_open(file)) as opened:
            yield opened
    except (_Error, EOFError) as error:
        raise ValueError(f"not whole frames of Zstandard: {error}") from error


def decompress(frame: bytes, limit: int) -> bytes:
    """Return the data of one frame, at most ``limit`` bytes; the inverse of :func:`compress`.

    Raise ``ValueError`` for anything else. No more memory is used than the frame states.
    """
    try:
        size = _measure(frame)
        if size is None or size > limit:
            raise ValueError(f"the frame must state a size of at most {limit} bytes (got {size})")
        data = _decompress(frame)
    except _Error as error:
        raise ValueError(f"not a frame of Zstandard: {error}") from error
    if len(data) != size:
        raise ValueError(f"the frame has {len(data)} bytes and states {size}")
    return data
