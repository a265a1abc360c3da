"""Makes what strangers wrote fit on a page: payloads, headers and answers, however long or strange they are.

A page must stay below 100 KiB whatever a receiver answers. Escaping makes `<` four characters long, so texts
are cut by their escaped length.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from markupsafe import escape

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dispatcher.store import history

PAYLOAD_CHARACTERS: Final = 20_000
MOST_FACTS: Final = 8  # the newest ones
_ANSWER_CHARACTERS: Final = 2_400
_HEADERS_CHARACTERS: Final = 1_200
_INDENT: Final = "  "


class Clipped(msgspec.Struct, frozen=True):
    """A text, and whether there is more of it."""

    text: str
    cut: bool


class ShownFact(msgspec.Struct, frozen=True):
    """A fact as it is shown."""

    fact: history.Fact
    request_headers: Clipped
    response_headers: Clipped
    answer: Clipped
    answer_bytes: int
    phases: dict[str, float]


def clip(text: str, most: int) -> Clipped:
    """Cut a text so that at most `most` characters of HTML come of it."""
    if len(text) * 6 <= most or len(escape(text)) <= most:
        return Clipped(text, cut=False)
    size = 0
    for place, character in enumerate(text):
        size += len(escape(character))
        if size > most:
            return Clipped(text[:place], cut=True)
    return Clipped(text, cut=False)


def json_text(body: bytes, most: int) -> Clipped:
    """Indent JSON for reading, every number and string as it stands; what is no JSON stays as it is."""
    text = body.decode(errors="replace")
    try:
        msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return clip(text, most)
    return clip("".join(_indented(text[: most + 1])), most)


def _indented(text: str) -> Iterator[str]:
    level, quoted, escaped = 0, False, False
    for place, character in enumerate(text):
        if quoted:
            yield character
            quoted = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character in "{[":
            level += 1
            empty = text[place + 1 : place + 2] in {"}", "]"}
            yield character if empty else f"{character}\n{_INDENT * level}"
        elif character in "}]":
            level -= 1
            empty = text[place - 1] in "{["
            yield character if empty else f"\n{_INDENT * level}{character}"
        elif character == ",":
            yield f",\n{_INDENT * level}"
        elif character == ":":
            yield ": "
        elif not character.isspace():
            quoted = character == '"'
            yield character


def shown(facts: Sequence[history.Fact]) -> list[ShownFact]:
    """Give the newest facts, the newest first."""
    return [_shown(fact) for fact in reversed(facts[-MOST_FACTS:])]


def _shown(fact: history.Fact) -> ShownFact:
    body = fact.response_body or b""
    phases: dict[str, float | None] = msgspec.json.decode(fact.timings) if fact.timings else {}
    return ShownFact(
        fact,
        _headers(fact.request_headers),
        _headers(fact.response_headers),
        clip(body.decode(errors="replace"), _ANSWER_CHARACTERS),
        len(body),
        {name.removesuffix("_ms"): value for name, value in phases.items() if value is not None},
    )


def _headers(recorded: str | None) -> Clipped:
    if recorded is None:
        return Clipped("", cut=False)
    pairs = msgspec.json.decode(recorded, type=list[tuple[str, str]])
    return clip("\n".join(f"{name}: {value}" for name, value in pairs), _HEADERS_CHARACTERS)
