from __future__ import annotations

import datetime as dt

import pytest

from dispatcher.core.timestamps import envelope_timestamp, parse_rfc3339

CET = dt.timezone(dt.timedelta(hours=1))


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (dt.datetime(2024, 1, 15, 14, 32, 50, tzinfo=dt.UTC), "2024-01-15T14:32:50Z"),
        (dt.datetime(2024, 1, 15, 14, 32, 50, 500_000, tzinfo=dt.UTC), "2024-01-15T14:32:50.500Z"),
        (dt.datetime(2024, 1, 15, 14, 32, 50, 1_000, tzinfo=dt.UTC), "2024-01-15T14:32:50.001Z"),
        (dt.datetime(2024, 1, 15, 14, 32, 50, 999, tzinfo=dt.UTC), "2024-01-15T14:32:50Z"),
        (dt.datetime(2024, 12, 31, 23, 59, 59, 999_999, tzinfo=dt.UTC), "2024-12-31T23:59:59.999Z"),
        (dt.datetime(2024, 1, 1, 0, 30, 0, tzinfo=CET), "2023-12-31T23:30:00Z"),
        (
            dt.datetime(2024, 1, 1, 0, 30, 0, 120_000, tzinfo=dt.timezone(dt.timedelta(0), "GMT")),
            "2024-01-01T00:30:00.120Z",
        ),
        (dt.datetime(1, 1, 1, tzinfo=dt.UTC), "0001-01-01T00:00:00Z"),
    ],
)
def test_envelope_has_utc_and_three_digits_or_none(at: dt.datetime, expected: str) -> None:
    """The envelope's time is UTC with `Z`, cut to milliseconds, without a fraction of zeros."""
    assert expected == envelope_timestamp(at)


def test_a_time_without_a_zone_is_refused() -> None:
    """A naive time is not guessed to be UTC."""
    with pytest.raises(ValueError, match="without a zone"):
        envelope_timestamp(dt.datetime(2024, 1, 15))  # noqa: DTZ001 - the case under test


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-01-15T14:32:50Z", dt.datetime(2024, 1, 15, 14, 32, 50, tzinfo=dt.UTC)),
        ("2024-01-15t14:32:50.5z", dt.datetime(2024, 1, 15, 14, 32, 50, 500_000, tzinfo=dt.UTC)),
        ("2024-01-15 14:32:50.1234567Z", dt.datetime(2024, 1, 15, 14, 32, 50, 123_456, tzinfo=dt.UTC)),
        ("2024-01-15T14:32:50-05:30", dt.datetime(2024, 1, 15, 20, 2, 50, tzinfo=dt.UTC)),
        ("2024-01-15T14:32:50+02:00", dt.datetime(2024, 1, 15, 12, 32, 50, tzinfo=dt.UTC)),
        ("2024-01-15T14:32:50-00:00", dt.datetime(2024, 1, 15, 14, 32, 50, tzinfo=dt.UTC)),
        ("2016-12-31T23:59:60.7Z", dt.datetime(2017, 1, 1, tzinfo=dt.UTC)),
    ],
)
def test_rfc3339_is_read(text: str, expected: dt.datetime) -> None:
    """Every form of RFC 3339 section 5.6 is read, and given in UTC."""
    assert (expected, dt.UTC) == (parse_rfc3339(text), parse_rfc3339(text).tzinfo)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2024-01-15",
        "2024-01-15T14:32:50",
        "2024-01-15T14:32Z",
        "2024-01-15T14:32:50.Z",
        "2024-01-15T14:32:50+0100",
        "2024-01-15T14:32:50Z\n",
        "٢٠٢٤-01-15T14:32:50Z",
        "2024-02-30T14:32:50Z",
        "2024-01-15T24:00:00Z",
        "2024-01-15T14:32:61Z",
        "2024-01-15T14:32:50+24:00",
        "2024-01-15T14:32:50+01:60",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:60Z",
        "1705329170",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    """A text that is no RFC 3339 date-time, or names none that exists, is a ValueError that quotes it."""
    with pytest.raises(ValueError, match=r"(?s)^(expected an RFC 3339 timestamp|.* that exists)"):
        parse_rfc3339(text)
