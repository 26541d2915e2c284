"""Compression: what went in comes out, and no frame uses more memory than allowed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portable_core.zstd import compress, decompress

#: 1 GiB of zeros is a frame of 33 kB; so many bytes are one of 135.
_BOMB = compress(bytes(4_000_000))


@given(st.binary(max_size=2000), st.sampled_from([1, 3, 9]))
def test_data_comes_out_as_it_went_in(data: bytes, level: int) -> None:
    assert decompress(compress(data, level), len(data)) == data


def test_a_frame_that_states_too_much_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"at most 3999999 bytes \(got 4000000\)"):
        decompress(_BOMB, 3_999_999)
    assert len(_BOMB) < 1000


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"{}",
        _BOMB[:-1],
        _BOMB + b"x",
        _BOMB + _BOMB,
        # A frame that states no size: its descriptor is 0, then a window and an empty last block.
        bytes.fromhex("28b52ffd 00 58 010000"),
    ],
)
def test_anything_but_one_whole_frame_is_rejected(frame: bytes) -> None:
    with pytest.raises(ValueError, match=r"frame"):
        decompress(frame, 2**30)
