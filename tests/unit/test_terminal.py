"""What people see: events in words, durations, columns, colours."""

from __future__ import annotations

import io

import pytest

from dispatcher.tools.terminal import Paint, duration, printable, table
from dispatcher.tools.words import describe


@pytest.mark.parametrize(
    ("event_type", "data", "words"),
    [
        (
            "event.detected",
            {"magnitude": 7, "location_description": "Ridgecrest", "depth_km": -0.9},
            "M 7.0, Ridgecrest, depth -0.9 km",
        ),
        ("event.detected", {"magnitude": None, "latitude": 1.5, "longitude": 2}, "M not known yet, 1.5, 2"),
        (
            "event.updated",
            {
                "event_id": "evt_1",
                "changes": {"latitude": {"old": 1, "new": 2}, "magnitude": {"old": None, "new": 5}},
            },
            "evt_1: magnitude none → 5, latitude 1 → 2",
        ),
        ("sensor.online", {"station_code": "A", "offline_duration_seconds": 3600}, "A is back after 60 min"),
        (
            "sensor.offline",
            {"station_code": "\x1b[31m", "last_seen": "x"},
            "\\u001b[31m went offline, last seen x",
        ),
        ("other.type", {"a": 1}, ""),
        ("event.detected", [1], ""),
    ],
)
def test_events_are_told_in_words(event_type: str, data: object, words: str) -> None:
    """For people; nothing that a sender writes reaches the terminal as an escape sequence."""
    assert words == describe(event_type, data)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.00342, "3.4 ms"),
        (0.85, "850 ms"),
        (0.9996, "1.0 s"),
        (2.04, "2.0 s"),
        (75, "75 s"),
        (600, "10 min"),
        (10_800, "3 h"),
        (-0.5, "-500 ms"),
        (86_400 * 1500, "1,500 days"),
    ],
)
def test_durations_have_the_unit_that_suits_them(seconds: float, text: str) -> None:
    """Two or three digits are enough for people."""
    assert text == duration(seconds)


def test_columns_line_up_whatever_the_letters() -> None:
    """Wide letters count twice, and controls are shown by their code."""
    assert ["A     B", "日本  x", "é     \\u000a"] == table(("A", "B"), [("日本", "x"), ("é", "\n")])


def test_colours_only_where_they_are_wanted() -> None:
    """A pipe gets none, nor does a terminal where NO_COLOR is set."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert "x" == Paint(io.StringIO(), {})("x", "red")
    assert "x" == Paint(Terminal(), {"NO_COLOR": "1"})("x", "red")
    assert "x" == Paint(Terminal(), {"TERM": "dumb"})("x", "red")
    assert "\x1b[1;31mx\x1b[0m" == Paint(Terminal(), {})("x", "bold", "red")


def test_line_ends_can_be_kept() -> None:
    """A body is shown on its lines; the rest of the controls is not."""
    assert "a\nb\\u0007" == printable("a\nb\x07", keep="\n")
