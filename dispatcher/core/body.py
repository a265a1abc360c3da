r"""The exact bytes a receiver gets: a fixed point of JavaScript's `JSON.stringify(JSON.parse(body))`.

The guide's Node receiver does not sign what it received but what `JSON.stringify` makes of it, so any byte
that JavaScript would write otherwise makes it refuse the delivery (docs/decisions/0002-canonical-body.md).

How this works. PostgreSQL keeps the producer's text, and has checked that it is JSON. Nearly every text is
*plain*: no key is an integer, no integer is long, no escape names a surrogate. A plain text goes through
msgspec, which writes strings and structure as JavaScript does; only numbers with a point or an exponent need
help, which `_plain_number` gives. Three searches tell a plain text from the rest; they may take a plain text
for another (`"p1":`, a long fraction), never the reverse. The rest goes through `_Careful`, which knows every
rule and takes four times as long. A plain text comes out the same either way.
"""

from __future__ import annotations

import json
import json.encoder
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from dispatcher.core.timestamps import envelope_timestamp

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable

# All digits become "0" and whitespace goes, so that substring searches find what regular expressions would
# in a tenth of the time.
_DIGITS_ALIKE: Final = bytes.maketrans(b"123456789", b"000000000")
_WHITESPACE: Final = b" \t\r\n"
_LONG_INTEGER: Final = "0" * 16  # 2^53 has sixteen digits
_KEY_ENDS_IN_DIGIT: Final = '0":'  # written raw or as an escape, `\u0031`
_ESCAPE: Final = "\\u"
_SURROGATE: Final = re.compile(r"\\u[dD]")

_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,9}")
_LARGEST_INDEX: Final = 2**32 - 2  # ECMA-262, array index: the integer keys that come first, ascending


class Canonical(msgspec.Struct, frozen=True):
    """A JSON object as JavaScript writes it."""

    content: bytes
    inexact_integers: tuple[str, ...]  # as the producer wrote them, where a double holds only a neighbour


class Body(msgspec.Struct, frozen=True):
    """The body of every attempt of one event, and what the operator should hear about it."""

    content: bytes
    inexact_integers: tuple[str, ...]  # as the producer wrote them, where a double holds only a neighbour


def build_body(event_type: str, occurred_at: dt.datetime, data_text: str, *, test: bool = False) -> Body:
    """Build the envelope around `data`, the text of a JSON object in the producer's own spelling.

    `test` marks a drill. Raises ValueError where `data_text` is not JSON, is no object, or holds a number
    beyond a double's range (the database refuses such rows), and where `occurred_at` has no zone.
    """
    data = canonical(data_text)
    content = b'{"type":%b,"timestamp":"%b",%b"data":%b}' % (
        _encode(event_type),
        envelope_timestamp(occurred_at).encode(),
        b'"test":true,' if test else b"",
        data.content,
    )
    return Body(content, data.inexact_integers)


def canonical(data_text: str) -> Canonical:
    """Rewrite the text of a JSON object as JavaScript would; ValueError where there is no such thing."""
    inexact: tuple[str, ...] = ()
    try:
        if _is_plain(data_text):
            content = _encode(_plain_decode(data_text))
        else:
            content, inexact = _Careful().rewrite(data_text)
    except msgspec.DecodeError as error:
        raise ValueError(f"data cannot be read: {error}") from error
    except RecursionError:
        raise ValueError("data is nested too deeply") from None
    if content[:1] != b"{":
        raise ValueError("data must be a JSON object")
    return Canonical(content, inexact)


def number_text(value: float) -> str:
    """Write a double as ECMA-262's `Number::toString` does; ValueError for infinity and NaN."""
    if value - value != 0:
        raise ValueError("a number is beyond the range of a double")
    if value == 0:
        return "0"
    mantissa, _, exponent = repr(value).partition("e")  # the shortest digits, as ECMA-262 wants them
    sign = "-" if mantissa[0] == "-" else ""
    whole, _, fraction = mantissa.removeprefix("-").partition(".")
    digits = (whole + fraction).lstrip("0")
    point = int(exponent or 0) + len(digits) - len(fraction)  # the value is 0.digits * 10**point
    digits = digits.rstrip("0")
    if len(digits) <= point <= 21:
        return sign + digits.ljust(point, "0")
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{fraction}e{point - 1:+d}"


def _is_plain(text: str) -> bool:
    """Tell whether msgspec may write this text. False is always safe."""
    folded = text.encode().translate(_DIGITS_ALIKE, _WHITESPACE).decode("latin-1")  # str searches are faster
    return not (
        _LONG_INTEGER in folded
        or _KEY_ENDS_IN_DIGIT in folded
        or (_ESCAPE in folded and _SURROGATE.search(folded))
    )


def _plain_number(token: str) -> float | msgspec.Raw:
    """Give a number with a point or an exponent in a form that msgspec writes as JavaScript does."""
    value = float(token)
    if -1e15 < value < 1e15:
        if value.is_integer():
            return int(value)
        if value >= 1e-4 or value <= -1e-4:
            return value
    return msgspec.Raw(number_text(value).encode())


_plain_decode: Final = msgspec.json.Decoder(float_hook=_plain_number).decode
_encode: Final = msgspec.json.Encoder().encode


class _Number(str):
    """A number as JavaScript writes it, told apart from a string's text."""

    __slots__ = ()


class _Careful:
    """Rewrites any JSON text, and collects the integers that a double cannot hold."""

    def __init__(self) -> None:
        self._inexact: list[str] = []

    def rewrite(self, text: str) -> tuple[bytes, tuple[str, ...]]:
        decoder = json.JSONDecoder(
            parse_float=_exact_text, parse_int=self._integer, parse_constant=_refuse_constant
        )
        pieces: list[str] = []
        _write(decoder.decode(text), pieces)
        # Only a lone surrogate has no UTF-8; it comes out as `\udXXX`, as `JSON.stringify` has it.
        return "".join(pieces).encode(errors="backslashreplace"), tuple(self._inexact)

    def _integer(self, token: str) -> _Number:
        number = _exact_text(token)
        if int(token) != float(token):
            self._inexact.append(token)
        return number


def _exact_text(token: str) -> _Number:
    return _Number(number_text(float(token)))


def _refuse_constant(token: str) -> None:
    raise ValueError(f"{token} is not JSON")


_quoted: Final = json.encoder.encode_basestring  # escapes what `JSON.stringify` escapes but surrogates


def _write(value: Any, out: list[str]) -> None:
    """Append the pieces of a value's text: one frame a level, so that depth costs little of the stack."""
    if isinstance(value, _Number):
        out.append(value)
    elif isinstance(value, str):
        out.append(_quoted(value))
    elif isinstance(value, dict):
        mark = "{"
        for key, item in _in_order(value):
            out += (mark, _quoted(key), ":")
            _write(item, out)
            mark = ","
        out.append("}" if value else "{}")
    elif isinstance(value, list):
        mark = "["
        for item in value:
            out.append(mark)
            _write(item, out)
            mark = ","
        out.append("]" if value else "[]")
    else:
        out.append("null" if value is None else "true" if value else "false")


def _in_order(members: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    """Give members as JavaScript enumerates them: array indices ascending, then the rest as written.

    That the last of duplicate keys stands at the first one's place, Python's dictionaries do as JavaScript's
    objects.
    """
    indices = sorted(int(key) for key in members if _is_index(key))
    if not indices:
        return members.items()
    first = {str(index): members[str(index)] for index in indices}
    return (first | members).items()


def _is_index(key: str) -> bool:
    return _INDEX.fullmatch(key) is not None and int(key) <= _LARGEST_INDEX
