"""Reads what `dispatcher emit` is given: JSON lines or one JSON document, of data or of whole envelopes.

How this works. If the first line that is not blank is JSON by itself, every line is one object; else the
whole input is one document. An object that has `type` and `data`, and nothing beside them but `timestamp`,
is an envelope, as a webhook carries it; any other object is `data`, and needs a type from elsewhere. The
text of `data` goes to the database as it stands here: key order and spelling of numbers are kept.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias

import msgspec

from dispatcher.core.timestamps import parse_rfc3339
from dispatcher.store.producer import NewEvent

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Iterator

_ENVELOPE: Final = frozenset({"type", "data"})
_WITH_TIMESTAMP: Final = _ENVELOPE | {"timestamp"}
_SHOWN: Final = 60  # characters of what somebody wrote, in an error


class Row(msgspec.Struct, frozen=True):
    """One event, and the line that it begins on."""

    line: int
    event: NewEvent


class Unreadable(msgspec.Struct, frozen=True):
    """A line that is no event; `problem` says what was expected."""

    line: int
    problem: str


Read: TypeAlias = Row | Unreadable


class _NoEventError(ValueError):
    """What was written is no event; says what was expected."""


class Defaults(msgspec.Struct, frozen=True):
    """What holds for every row: `event_type` None asks for envelopes, a `timestamp` beats `occurred_at`."""

    event_type: str | None = None
    occurred_at: dt.datetime | None = None
    network_id: str | None = None
    dedup_key_field: str | None = None  # the field of `data` that becomes the row's dedup_key


def read_rows(lines: Iterable[bytes], defaults: Defaults) -> Iterator[Read]:
    """Read events from lines of UTF-8; a line that is no event does not hide the others."""
    for number, text in _objects(lines):
        try:
            event = _event(text.decode("utf-8-sig").rstrip(), defaults)
        except json.JSONDecodeError as error:
            at = number + error.lineno - 1
            yield Unreadable(at, f"expected JSON, got something else: {error.msg} (column {error.colno})")
        except UnicodeError as error:
            yield Unreadable(number, f"expected UTF-8, got something else: {error}")
        except RecursionError:
            yield Unreadable(number, "nested too deeply")
        except _NoEventError as error:
            yield Unreadable(number, str(error))
        else:
            yield Row(number, event)


def _objects(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Give the text of each object, with the number of its first line."""
    numbered = ((number, line) for number, line in enumerate(lines, start=1))
    number, first = next(((number, line) for number, line in numbered if line.strip()), (0, b""))
    if not number:
        return
    if not _is_json(first):
        yield number, b"".join([first, *(line for _, line in numbered)])
        return
    yield number, first
    yield from ((number, line) for number, line in numbered if line.strip())


def _is_json(line: bytes) -> bool:
    try:
        _decoder.decode(line.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return False
    return True


def _event(text: str, defaults: Defaults) -> NewEvent:
    """Make an event of the text of one object; raises `_NoEventError`."""
    value = _decoder.decode(text)
    if not isinstance(value, dict):
        raise _NoEventError(f"expected a JSON object, got {text.strip()[:_SHOWN]}")
    event_type, occurred_at = defaults.event_type, defaults.occurred_at
    if _ENVELOPE <= value.keys() <= _WITH_TIMESTAMP:
        event_type = _type(value["type"], event_type)
        if "timestamp" in value:
            occurred_at = _time(value["timestamp"])
        text, value = _member_text(text, "data"), value["data"]
    elif event_type is None:
        raise _NoEventError(
            'expected {"type": …, "timestamp": …, "data": …}, got other fields; '
            "for bare data, name its type: `dispatcher emit TYPE`"
        )
    dedup_key = None
    if defaults.dedup_key_field is not None:
        dedup_key = _dedup_key(value, defaults.dedup_key_field)
    return NewEvent(event_type, text, occurred_at, defaults.network_id, dedup_key)


def _type(value: Any, wanted: str | None) -> str:
    if not isinstance(value, str) or isinstance(value, _Number):
        raise _NoEventError(f"type: expected a string, got {_short(value)}")
    if wanted not in {None, value}:
        raise _NoEventError(
            f"type: expected {wanted}, got {_short(value)}; `dispatcher emit -` takes each line's own"
        )
    value.encode()  # half of a surrogate pair is JSON, but no text: UnicodeError
    return value


def _time(value: Any) -> dt.datetime:
    if not isinstance(value, str):
        raise _NoEventError(f"timestamp: expected an RFC 3339 timestamp, got {_short(value)}")
    try:
        return parse_rfc3339(value)
    except ValueError as error:
        raise _NoEventError(f"timestamp: {error}") from None


def _dedup_key(data: Any, field: str) -> str:
    value = data.get(field) if isinstance(data, dict) else None
    if not isinstance(value, str) or not value:
        raise _NoEventError(
            f"data.{field}: expected a string or a number to be the dedup_key, got {_short(value)}"
        )
    value.encode()
    return value


def _short(value: Any) -> str:
    return str.__str__(value) if isinstance(value, _Number) else json.dumps(value)[:_SHOWN]


class _Number(str):
    """A number as it was written: it may be longer than Python cares to read."""

    __slots__ = ()


def _refuse(constant: str) -> NoReturn:
    raise _NoEventError(f"{constant} is not JSON")


_decoder: Final = json.JSONDecoder(parse_int=_Number, parse_float=_Number, parse_constant=_refuse)


def _member_text(text: str, name: str) -> str:
    """Give the text of an object's member as it stands in `text`, which has been decoded already."""
    found = ""
    at = _skip(text, text.index("{") + 1)
    while text[at] != "}":
        key, at = _decoder.raw_decode(text, at)
        start = _skip(text, _skip(text, at) + 1)  # over the colon
        _, end = _decoder.raw_decode(text, start)
        if key == name:
            found = text[start:end]  # of duplicate keys the last one counts
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return found


def _skip(text: str, at: int) -> int:
    """Give the place of the next character that is not JSON's whitespace."""
    while text[at] in " \t\r\n":
        at += 1
    return at
