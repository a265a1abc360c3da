"""Says in words what an event is about, for a person at a terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from dispatcher.tools.terminal import duration, printable


def describe(event_type: str, data: object) -> str:
    """Describe an event in a line; an unknown type, or data of another shape, gives an empty text."""
    teller = _TELLERS.get(event_type)
    if teller is None or not isinstance(data, Mapping):
        return ""
    return printable(teller(data))


def _detected(data: Mapping[str, Any]) -> str:
    parts = [_magnitude(data.get("magnitude")), str(data.get("location_description") or _place(data))]
    if isinstance(depth_km := data.get("depth_km"), int | float):
        parts.append(f"depth {depth_km:g} km")
    return ", ".join(parts)


def _magnitude(value: object) -> str:
    return f"M {value:.1f}" if isinstance(value, int | float) else "M not known yet"


def _place(data: Mapping[str, Any]) -> str:
    return f"{data.get('latitude')}, {data.get('longitude')}"


def _updated(data: Mapping[str, Any]) -> str:
    changes = data.get("changes")
    if not isinstance(changes, Mapping):
        return ""
    told = [
        f"{str(field).removesuffix('_km')} {_value(change.get('old'))} → {_value(change.get('new'))}"
        for field, change in sorted(changes.items(), key=lambda item: _RANK.get(item[0], len(_RANK)))
        if isinstance(change, Mapping)
    ]
    if len(told) > _TOLD_CHANGES:
        told[_TOLD_CHANGES:] = [f"{len(told) - _TOLD_CHANGES} more"]
    return f"{data.get('event_id')}: {', '.join(told)}"


# What people look for first.
_RANK: Final = {name: rank for rank, name in enumerate(("magnitude", "depth_km", "magnitude_type"))}
_TOLD_CHANGES: Final = 3


def _value(value: object) -> str:
    return "none" if value is None else str(value)


def _offline(data: Mapping[str, Any]) -> str:
    return f"{data.get('station_code')} went offline, last seen {data.get('last_seen')}"


def _online(data: Mapping[str, Any]) -> str:
    away_s = data.get("offline_duration_seconds")
    away = f" after {duration(away_s)}" if isinstance(away_s, int | float) else ""
    return f"{data.get('station_code')} is back{away}"


_TELLERS: Final[dict[str, Callable[[Mapping[str, Any]], str]]] = {
    "event.detected": _detected,
    "event.updated": _updated,
    "sensor.offline": _offline,
    "sensor.online": _online,
}
