"""Reads what a client wrote, field by field, and collects everything that is wrong with it.

How this works: a msgspec struct says which fields there are and their types. `Form` converts each given
value on its own, so that one bad field does not hide the next; the handler then lets the rules of
`core.webhook` and others judge the values that have the right type; `read` gives the struct, or the
problem with one detail for each finding. The same structs describe the API in OpenAPI.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeVar, get_args, get_origin

import msgspec

from dispatcher.api.problems import BODY, Detail, Problem, invalid_request
from dispatcher.core.webhook import closest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

T = TypeVar("T", bound=msgspec.Struct)

MAX_DETAILS: Final = 100

_PLACE: Final = re.compile(r"(.*?)(?: - at `\$(.*)`)?", re.DOTALL)
_WORDS: Final = {"`str`": "string", "`int`": "integer", "`float`": "number", "`bool`": "boolean"}
_OPTION: Final = re.compile(r"`[^`]*`")


class Form(Generic[T]):
    """The fields of one request, against the struct that they should make."""

    def __init__(self, shape: type[T], given: Mapping[str, Any], *, strict: bool = True) -> None:
        """Take the fields; without `strict` numbers may be text and nothing is null, as in a query."""
        self._shape = shape
        self._details: list[Detail] = []
        self._values: dict[str, Any] = {}
        fields = {field.encode_name: field for field in msgspec.structs.fields(shape)}
        for name, value in given.items():
            if name not in fields:
                self.refuse(_printable(name), f"is not a known field{closest(name, fields.keys())}")
            elif _holds_nul(value):
                self.refuse(name, "must not contain the character U+0000")
            else:
                self._take(fields[name], value, strict=strict)
        for name, field in fields.items():
            if field.required and name not in given:
                self.refuse(name, "is required")

    def _take(self, field: msgspec.structs.FieldInfo, value: Any, *, strict: bool) -> None:
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # 60.0 is an integer in JSON Schema
        try:
            read = msgspec.convert(value, field.type, strict=strict)
            if read is None and not strict:
                raise msgspec.ValidationError("Expected `str`, got `null`")  # noqa: TRY301 - one way to refuse
        except msgspec.ValidationError as error:
            choices = _choices(field.type)
            words = f"must be one of {', '.join(choices)}" if choices else _in_words(str(error))
            self.refuse(field.encode_name, words)
        else:
            self._values[field.name] = read

    def refuse(self, field: str, message: str) -> None:
        """Note that a field is wrong."""
        self._details.append(Detail(field, message))

    def check(self, field: str, judge: Callable[[Any], Iterable[str]]) -> None:
        """Let `judge` name the problems of a field that was given, is not null and has the right type."""
        value = self._values.get(field)
        if value is not None:
            for message in judge(value):
                self.refuse(field, message)

    def check_parts(self, field: str, judge: Callable[[Any], Iterable[tuple[str, str]]]) -> None:
        """Let `judge` name the problems of the parts of a field, each by its name; empty: the whole."""
        value = self._values.get(field)
        if value is not None:
            for part, message in judge(value):
                self.refuse(f"{field}.{_printable(part)}" if part else field, message)

    def replace(self, field: str, reading: Callable[[Any], Any]) -> Any:
        """Read a field's text further; where `reading` raises ValueError, its message is the problem.

        Gives what was read, None where the field is absent, null or wrong.
        """
        value = self._values.get(field)
        if value is None:
            return None
        try:
            return reading(value)
        except ValueError as error:
            self.refuse(field, str(error))
            return None

    def given(self, field: str) -> bool:
        """Say whether a field was given, with the right type and not as null."""
        return self._values.get(field) is not None

    def read(self) -> T | Problem:
        """Give the struct, or everything that is wrong."""
        if self._details:
            return invalid_request(self._details[:MAX_DETAILS])
        return self._shape(**self._values)


class NoFields(msgspec.Struct, frozen=True):
    """A request that takes none."""


def read_json(body: bytes) -> dict[str, Any] | Problem:
    """Read a JSON object; an empty body is one without fields."""
    if not body:
        return {}
    try:
        given = msgspec.json.decode(body)
    except RecursionError:
        return invalid_request([Detail(BODY, "is nested too deeply")])
    except ValueError as error:  # msgspec's own errors, and UnicodeDecodeError
        return invalid_request([Detail(BODY, f"is not JSON: {error}")])
    if not isinstance(given, dict):
        return invalid_request([Detail(BODY, "must be a JSON object")])
    return given


def _holds_nul(value: object) -> bool:
    """Look for U+0000, which PostgreSQL's text cannot hold; a stack, because depth is the client's choice."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            if "\0" in item:
                return True
        elif isinstance(item, list):
            stack += item
        elif isinstance(item, dict):
            stack += item.keys()
            stack += item.values()
    return False


def _choices(kind: Any) -> list[str]:
    """Give the values that a type lists, if it does."""
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    return [choice for part in get_args(kind) for choice in _choices(part)]


def _in_words(message: str) -> str:
    """Put msgspec's message in the words of JSON: ``Expected `str`, got `int` - at `$[1]` ``."""
    found = _PLACE.fullmatch(message)
    text, place = found.groups() if found else (message, None)
    for word, plain in _WORDS.items():
        text = text.replace(word, plain)
    text = _OPTION.sub(
        lambda option: " or ".join(_WORDS.get(f"`{one}`", one) for one in _split(option[0])), text
    )
    text = text[:1].lower() + text[1:]
    return f"{text} at {place}" if place else text


def _split(option: str) -> list[str]:
    return option.strip("`").split(" | ")


def _printable(name: str) -> str:
    return name[:100].replace("\0", "\N{REPLACEMENT CHARACTER}")
