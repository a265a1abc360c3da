"""Log lines: one JSON object for each fact on standard error, or a console for people.

How this works: `configure` is called by the program, and again when its settings were changed. Rooms hold
`structlog.get_logger()`; a hot loop binds its logger once (`log = log.bind()`), which takes the set-up
lookup out of every line. A line costs a few microseconds: it never passes through `logging`, and msgspec
writes it. The canonical lines, one for each attempt, are gathered for some milliseconds, then made and
written together, in any case before the next other line. What libraries say through `logging` (warnings and
worse) and through `warnings` joins the same stream.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import logging
import os
import sys
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Protocol

import msgspec
import structlog

from dispatcher.telemetry.steady import Steady

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping

    from dispatcher.config import Log

    _Line = MutableMapping[str, Any]
    _Render = Callable[[object, str, _Line], bytes]

# syslog's numbers, which journald reads from the `<N>` in front of a line
_PRIORITY: Final = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
_NUMBER: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def configure(settings: Log, stream: BinaryIO | None = None, environ: Mapping[str, str] = os.environ) -> None:
    """Set logging up for the whole process; `stream` is standard error unless a test says otherwise."""
    out = sys.stderr.buffer if stream is None else stream
    terminal = out.isatty()
    console = settings.format == "console" or (settings.format == "auto" and terminal)
    render: _Render = _Console(colors=terminal) if console else _json_line
    if writes_to_journal(out, environ):
        render = _Prefixed(render)
    steady = Steady(out, partial(_lost, render))
    # One list for ever: rooms hold loggers that have it, and follow when `configure` is called again.
    _processors[:] = [_Threshold(_NUMBER[settings.level]), _complete, render]
    structlog.configure(
        processors=_processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=structlog.BytesLoggerFactory(_InOrder(steady)),  # type: ignore[arg-type]  # two methods do
        cache_logger_on_first_use=True,
    )
    _canonical.flush()
    _canonical.out = steady if _NUMBER[settings.level] <= logging.INFO else None
    _canonical.render = render
    _adopt_standard_logging(_NUMBER[settings.level])


_processors: Final[list[Any]] = []


def _lost(render: _Render, count: int, why: str) -> bytes:
    """Give the line that says that others were lost."""
    line = _complete(None, "warning", {"event": "lines of the log were lost", "count": count, "reason": why})
    return render(None, "warning", line) + b"\n"


class _Threshold:
    """Drops what is less important than the operator wants to hear."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __call__(self, _logger: object, level: str, line: _Line) -> _Line:
        if _NUMBER.get(_LEVEL.get(level, level), logging.CRITICAL) < self._number:
            raise structlog.DropEvent
        return line


def writes_to_journal(stream: BinaryIO, environ: Mapping[str, str]) -> bool:
    """Tell whether the stream leads to journald: `$JOURNAL_STREAM` is `device:inode` of its socket."""
    named = environ.get("JOURNAL_STREAM", "")
    try:
        status = os.fstat(stream.fileno())
    except OSError:  # a stream in memory has no descriptor
        return False
    return named == f"{status.st_dev}:{status.st_ino}"


def _complete(_logger: object, level: str, event: _Line) -> _Line:
    """Put time, level and event first, and the traceback, if any, last."""
    line = {
        "timestamp": dt.datetime.now(dt.UTC),
        "level": _LEVEL.get(level, level),
        "event": event.pop("event"),
    }
    line.update(event)
    if "exc_info" in line:
        structlog.processors.format_exc_info(None, level, line)
    return line


_LEVEL: Final = {"exception": "error", "warn": "warning", "fatal": "critical", "msg": "info"}

_encoder: Final = msgspec.json.Encoder(enc_hook=repr)


def _json_line(_logger: object, _level: str, line: _Line) -> bytes:
    try:
        return _encoder.encode(line)
    except (TypeError, ValueError):  # lone surrogates, keys that are no strings: escaped rather than lost
        line["timestamp"] = line["timestamp"].isoformat().replace("+00:00", "Z")
        return json.dumps(line, default=repr, skipkeys=True).encode()


_GATHER_S: Final = 0.02
_MOST_GATHERED: Final = 256


class CanonicalLine(msgspec.Struct, kw_only=True, gc=False):
    """What every line begins with; the fields of a subclass follow, in their order."""

    timestamp: dt.datetime
    level: str = "info"
    event: str


class Told(Protocol):
    """What has a canonical line. It is made when it is written: many at a time cost less than one by one."""

    def line(self) -> CanonicalLine:
        """Give the line."""
        ...


class _CanonicalLines:
    """Where `canonical_line` writes; nowhere until `configure` was called."""

    def __init__(self) -> None:
        self.out: Steady | None = None
        self.render: _Render = _json_line
        self._gathered: list[Told] = []

    def add(self, what: Told) -> None:
        """Write its line soon; at once where no loop runs."""
        self._gathered.append(what)
        if len(self._gathered) == 1:
            try:
                asyncio.get_running_loop().call_later(_GATHER_S, self.flush)
            except RuntimeError:
                self.flush()
        elif len(self._gathered) == _MOST_GATHERED:
            self.flush()

    def flush(self) -> None:
        """Write what was gathered."""
        if self._gathered and self.out is not None:
            gathered, self._gathered = self._gathered, []
            self.out.write(self._rendered([what.line() for what in gathered]))

    def _rendered(self, lines: list[CanonicalLine]) -> bytes:
        if self.render is _json_line:
            with suppress(TypeError, ValueError):  # then they are written one by one, that one escaped
                return _encoder.encode_lines(lines)
        render = self.render
        return b"".join([render(None, line.level, msgspec.structs.asdict(line)) + b"\n" for line in lines])


_canonical: Final = _CanonicalLines()


class _InOrder:
    """The stream of all other lines: what was gathered before one of them is written before it.

    Not where another thread speaks, such as an exporter of traces: what is gathered belongs to the loop's.
    """

    def __init__(self, out: Steady) -> None:
        self._out = out
        self.flush = out.flush

    def write(self, line: bytes) -> None:
        """Write a line."""
        if threading.current_thread() is threading.main_thread():
            _canonical.flush()
        self._out.write(line)


def canonical_line(what: Told) -> None:
    """Write one line at level info, as structlog would, in a tenth of the time: for the hot path alone."""
    if _canonical.out is not None:
        _canonical.add(what)


class _Console:
    """Colours and columns for people."""

    def __init__(self, *, colors: bool) -> None:
        plain = structlog.dev.plain_traceback
        self._render = structlog.dev.ConsoleRenderer(
            colors=colors, exception_formatter=plain, sort_keys=False
        )

    def __call__(self, logger: object, level: str, line: _Line) -> bytes:
        line["timestamp"] = line["timestamp"].astimezone().strftime("%H:%M:%S.%f")[:-3]
        text: str = self._render(logger, level, line)
        return text.encode(errors="backslashreplace")


class _Prefixed:
    """Tells journald each line's priority."""

    def __init__(self, render: _Render) -> None:
        self._render = render

    def __call__(self, logger: object, level: str, line: _Line) -> bytes:
        priority = _PRIORITY.get(line["level"], 6)
        text = self._render(logger, level, line)
        return b"\n".join(b"<%d>%b" % (priority, part) for part in text.split(b"\n"))


class _Adopt(logging.Handler):
    """Hands on what libraries log."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record as one of our own lines."""
        log = structlog.get_logger()
        log.log(record.levelno, record.getMessage().strip(), logger=record.name, exc_info=record.exc_info)


def _adopt_standard_logging(level: int) -> None:
    """Send the libraries' own records, from warnings up, through structlog."""
    root = logging.getLogger()
    root.handlers = [_Adopt()]
    root.setLevel(max(level, logging.WARNING))
    logging.captureWarnings(capture=True)
