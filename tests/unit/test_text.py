"""Times and sizes: what is shown can be entered again, and invalid times are named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portable_core.records import MAX_INTEGER
from portable_core.text import format_size, format_time, parse_time

LAST_SECOND = 253_402_300_799  # of the year 9999


@given(st.integers(0, LAST_SECOND))
def test_a_formatted_time_parses_to_the_same_second(seconds: int) -> None:
    assert parse_time(format_time(seconds * 1000 + 999)) == seconds * 1000


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("1769850300000", 1_769_850_300_000),
        ("2026-01-31T09:05", 1_769_850_300_000),
        ("2026-01-31 09:05:00.250", 1_769_850_300_250),
        ("2026-01-31T10:05+01:00", 1_769_850_300_000),
        ("2026-01-31T09:05Z", 1_769_850_300_000),
        ("1969-12-31T23:59", 0),
        ("20260131", 20_260_131),
        ("99999999", 99_999_999),
        ("100000000000", 100_000_000_000),
    ],
)
def test_times_are_milliseconds_or_iso_8601(text: str, milliseconds: int) -> None:
    assert parse_time(text) == milliseconds


@pytest.mark.parametrize("text", ["100000000", "1769850300", "99999999999"])
def test_seconds_are_not_read_as_milliseconds(text: str) -> None:
    with pytest.raises(ValueError, match=f"{text} is probably in seconds"):
        parse_time(text)


@pytest.mark.parametrize("text", ["", "yesterday", "١", "-1", "2026-01-32", "9" * 17, str(2**53)])
def test_other_times_are_rejected(text: str) -> None:
    with pytest.raises(ValueError, match="must be a"):
        parse_time(text)


def test_the_largest_time_is_an_argument() -> None:
    assert parse_time(str(2**53), 2**53) == 2**53


def test_times_beyond_the_calendar_are_in_milliseconds() -> None:
    assert format_time(MAX_INTEGER, " UTC") == f"{MAX_INTEGER} ms"
    assert format_time(None, " UTC") == "–"
    assert format_time(0, " UTC") == "1970-01-01 00:00:00 UTC"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "–"),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (12_345_678_901_234, "12.3 TB"),
        (10**16, "10000.0 TB"),
    ],
)
def test_sizes_have_one_decimal_below_a_thousand(count: int | None, text: str) -> None:
    assert format_size(count) == text
