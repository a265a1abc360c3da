"""Log lines: their form, their order, and that nothing said is lost."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import json
import logging
import os
import socket
import threading
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import structlog

from dispatcher.config import Log
from dispatcher.telemetry import log
from tests.postgres import wait_for


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    """Leave the process's logging as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def out() -> io.BytesIO:
    """Stand in for a redirected standard error: no terminal, no journal."""
    return io.BytesIO()


def lines(out: io.BytesIO) -> list[dict[str, Any]]:
    """Read what was logged."""
    return [json.loads(line) for line in out.getvalue().splitlines()]


class Attempt(log.CanonicalLine, kw_only=True):
    """A canonical line with fields of its own."""

    event: str = "attempt"
    attempt: int
    message: str | None = None

    def line(self) -> log.CanonicalLine:
        """Give itself."""
        return self


def attempt(number: int, message: str | None = None) -> Attempt:
    """Make the line of an attempt."""
    return Attempt(timestamp=dt.datetime(2026, 11, 21, 14, tzinfo=dt.UTC), attempt=number, message=message)


def test_a_line_is_one_json_object_that_begins_with_time_level_and_event(out: io.BytesIO) -> None:
    """People scan the beginning, programs read the rest."""
    log.configure(Log(), out, {})
    structlog.get_logger().bind(lane="alert").info("attempt", status=200, duration_ms=1.5)
    (line,) = lines(out)
    assert ["timestamp", "level", "event", "lane", "status", "duration_ms"] == list(line)
    assert ("info", "attempt", "alert", 200, 1.5) == tuple(line.values())[1:]
    assert line["timestamp"].endswith("Z")


def test_lines_below_the_level_are_not_written(out: io.BytesIO) -> None:
    """The operator decides how much is said."""
    log.configure(Log(level="warning"), out, {})
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")
    assert ["loud"] == [line["event"] for line in lines(out)]


@pytest.mark.parametrize("value", ["\ud800", b"\xff", 2**80, {1: 2}, float("nan"), object])
def test_a_value_that_json_cannot_hold_costs_no_line(out: io.BytesIO, value: object) -> None:
    """Whatever a receiver or a producer sends can be logged."""
    log.configure(Log(), out, {})
    structlog.get_logger().info("odd", value=value, after="here")
    (line,) = lines(out)
    assert ("odd", "here") == (line["event"], line["after"])


def test_a_traceback_is_part_of_its_line(out: io.BytesIO) -> None:
    """One fact stays one line."""
    log.configure(Log(), out, {})
    try:
        int("soon")
    except ValueError:
        structlog.get_logger().exception("failed", room="tail")
    (line,) = lines(out)
    assert ("error", "failed", "tail") == (line["level"], line["event"], line["room"])
    assert line["exception"].endswith("'soon'")


def test_libraries_join_from_warnings_up(out: io.BytesIO) -> None:
    """What asyncio says about a lost task must be seen; its chatter must not."""
    log.configure(Log(level="debug"), out, {})
    logging.getLogger("asyncio").error("task %s was lost", 7)
    logging.getLogger("aiohttp.access").info("chatter")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("old call", UserWarning, stacklevel=1)
    first, second = lines(out)
    assert ("error", "task 7 was lost", "asyncio") == (first["level"], first["event"], first["logger"])
    assert "old call" in second["event"]


def test_the_console_is_for_people(out: io.BytesIO) -> None:
    """Colours only on a terminal."""
    log.configure(Log(format="console"), out, {})
    structlog.get_logger().info("attempt", status=200)
    text = out.getvalue().decode()
    assert "attempt" in text
    assert "status=200" in text
    assert "\x1b" not in text


@pytest.mark.parametrize(("level", "priority"), [("debug", 7), ("info", 6), ("warning", 4), ("error", 3)])
def test_the_journal_is_told_each_lines_priority(level: str, priority: int) -> None:
    """Only where `$JOURNAL_STREAM` names the very stream that is written to (systemd.exec(5))."""
    ours, journal = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, journal, ours.makefile("wb") as stream:
        status = os.fstat(ours.fileno())
        environ = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        log.configure(Log(level="debug"), stream, environ)
        getattr(structlog.get_logger(), level)("said")
        line = journal.recv(4096)
    assert f"<{priority}>{{".encode() == line[:4]
    assert "said" == json.loads(line[3:])["event"]


def test_no_prefix_where_standard_error_was_redirected(tmp_path: os.PathLike[str]) -> None:
    """A service whose stream was sent elsewhere still has the variable."""
    with open(os.path.join(tmp_path, "log"), "w+b") as stream:  # noqa: PTH118, PTH123 - a stream is what is tested
        log.configure(Log(), stream, {"JOURNAL_STREAM": "1:2"})
        structlog.get_logger().info("said")
        stream.seek(0)
        assert b"{" == stream.read(1)


def test_a_canonical_line_is_written_at_once_where_no_loop_runs(out: io.BytesIO) -> None:
    """There is nobody who would write it later."""
    log.configure(Log(), out, {})
    log.canonical_line(attempt(1))
    assert ["attempt"] == [json.loads(line)["event"] for line in out.getvalue().splitlines()]


async def test_canonical_lines_are_gathered_and_stay_in_order(out: io.BytesIO) -> None:
    """They are written together, before whatever else is said, and soon in any case."""
    log.configure(Log(), out, {})
    log.canonical_line(attempt(1))
    log.canonical_line(attempt(2))
    assert b"" == out.getvalue()
    structlog.get_logger().warning("something else")
    log.canonical_line(attempt(3))
    expected = ["attempt", "attempt", "something else"]
    assert expected == [json.loads(line)["event"] for line in out.getvalue().splitlines()]
    await wait_for(lambda: 4 == len(lines(out)), "the gathered line")
    assert 3 == json.loads(out.getvalue().splitlines()[-1])["attempt"]


async def test_a_canonical_line_is_as_any_other(out: io.BytesIO) -> None:
    """Time, level and event come first, and what is not known is there as null."""
    log.configure(Log(), out, {})
    log.canonical_line(attempt(1))
    log.canonical_line(attempt(2, "half a pair: \ud800"))
    await wait_for(lambda: 2 == len(lines(out)), "the gathered lines")
    first, second = lines(out)
    names = ["timestamp", "level", "event", "attempt", "message"]
    assert [names, names] == [list(first), list(second)]
    assert ["2026-11-21T14:00:00Z", "info", "attempt", 1, None] == list(first.values())
    assert (2, "half a pair: \ud800") == (second["attempt"], second["message"])


def test_a_canonical_line_for_people(out: io.BytesIO) -> None:
    """The console shows it as it shows every line."""
    log.configure(Log(format="console"), out, {})
    log.canonical_line(attempt(7))
    assert "attempt=7" in out.getvalue().decode()


def test_the_journal_is_told_a_canonical_lines_priority() -> None:
    """It is a line like others."""
    ours, journal = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, journal, ours.makefile("wb") as stream:
        status = os.fstat(ours.fileno())
        log.configure(Log(), stream, {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
        log.canonical_line(attempt(7))
        line = journal.recv(4096)
    assert line.startswith(b"<6>{")
    assert 7 == json.loads(line[3:])["attempt"]


async def test_another_thread_leaves_gathered_lines_alone(out: io.BytesIO) -> None:
    """They are the loop's: taken away from two sides one could be lost."""
    log.configure(Log(), out, {})
    log.canonical_line(attempt(1))
    thread = threading.Thread(target=logging.getLogger("exporter").warning, args=("queue full",))
    thread.start()
    thread.join()
    assert ["queue full"] == [line["event"] for line in lines(out)]
    await wait_for(lambda: 2 == len(lines(out)), "the gathered line")
    assert "attempt" == lines(out)[1]["event"]


@contextlib.contextmanager
def a_pipe() -> Iterator[tuple[int, io.BufferedWriter]]:
    """Give the reading end of a pipe, and a stream that does not wait for it."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        with os.fdopen(writing, "wb") as stream:
            yield reading, stream
    finally:
        os.close(reading)


def test_a_log_that_is_full_stops_nobody() -> None:
    """What finds no room is lost, half of a line with it, and told of as soon as there is some."""
    with a_pipe() as (reading, stream):
        log.configure(Log(), stream, {})
        say = structlog.get_logger("test")
        say.info("long", text="x" * 5_000_000)
        for _ in range(3):
            say.info("short")
        os.set_blocking(reading, False)
        half = b"".join(iter(partial(_read, reading), b""))
        assert half.startswith(b'{"timestamp":')
        assert b"\n" not in half
        say.info("after")
        say.info("as before")
        gap, *others = _read(reading).splitlines()
        assert b"" == gap
        assert [
            ("lines of the log were lost", 4),
            ("after", None),
            ("as before", None),
        ] == [(line["event"], line.get("count")) for line in map(json.loads, others)]


def _read(descriptor: int) -> bytes:
    """Read what there is; nothing where there is nothing."""
    try:
        return os.read(descriptor, 1 << 20)
    except BlockingIOError:
        return b""


def test_a_log_that_nobody_reads_any_more_stops_nobody() -> None:
    """Nor is anything kept for it."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as stream:
        log.configure(Log(), stream, {})
        structlog.get_logger("test").error("this goes nowhere")
        log.canonical_line(attempt(1))
