"""A webhook's filter as fields of a form, judged by `core.filter_form` as in the API."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import msgspec

from dispatcher.core.filter_form import filter_problems

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NUMBERS: Final = ("min_magnitude", "max_magnitude", "max_depth_km", "lat", "lon", "radius")
BOX: Final = ("west", "south", "east", "north")
TEXTS: Final = (*NUMBERS, *BOX, "station_codes", "polygon")
UNKNOWN: Final = "include_unknown"


def texts_of(condition: Mapping[str, Any] | None) -> dict[str, str]:
    """Give the texts of the fields that show a filter."""
    given = condition or {}
    texts = {name: written(given[name]) if name in given else "" for name in NUMBERS}
    box = given.get("bbox") or ("",) * len(BOX)
    texts |= {name: written(value) for name, value in zip(BOX, box, strict=True)}
    texts["station_codes"] = " ".join(given.get("station_codes") or ())
    outline = given.get("polygon")
    texts["polygon"] = "" if outline is None else msgspec.json.encode(outline).decode()
    texts[UNKNOWN] = "yes" if given.get(UNKNOWN) else ""
    return texts


def read(
    texts: Mapping[str, str], present: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any] | None, dict[str, list[str]]]:
    """Make a filter of the fields, None where they are all empty; and name what is wrong, by field.

    `present`: the filter that the form showed.
    """
    numbers = {name: number(texts[name]) for name in NUMBERS if texts[name]}
    wrong = {name: ["must be a number"] for name, value in numbers.items() if value is None}
    given: dict[str, Any] = {name: value for name, value in numbers.items() if value is not None}
    if any(texts[name] for name in BOX):
        given["bbox"] = [number(texts[name]) for name in BOX]
    if codes := names(texts["station_codes"], (present or {}).get("station_codes", ())):
        given["station_codes"] = codes
    if texts["polygon"]:
        try:
            given["polygon"] = msgspec.json.decode(texts["polygon"])
        except (ValueError, RecursionError):
            wrong["polygon"] = ["must be a GeoJSON geometry of the type Polygon or MultiPolygon"]
    if texts[UNKNOWN] and given:
        given[UNKNOWN] = True
    if given:
        for name, words in filter_problems(given):
            wrong.setdefault(name, [words])
    return given or None, wrong


def names(text: str, present: Sequence[str]) -> list[str]:
    """Read names with spaces or commas between them.

    `present`: those that the form showed. Where it still shows them, they stay, whatever is in them: the API
    takes names that hold spaces.
    """
    typed = text.replace(",", " ").split()
    return list(present) if typed == " ".join(present).replace(",", " ").split() else typed


def number(text: str) -> float | int | None:
    """Read a number, with a point or a comma; a whole one stays whole, as in the API."""
    try:
        value = float(text.replace(",", ".").replace("\N{MINUS SIGN}", "-"))
    except ValueError:
        return None
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() else value


def written(value: float | str) -> str:
    """Write a number as the API does, and leave a text as it is."""
    if isinstance(value, str):
        return value
    short = f"{value:.15g}"
    return short if float(short) == value else repr(value)
