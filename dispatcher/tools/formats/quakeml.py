"""Reads earthquakes in QuakeML (basic event description), as FDSN services and SeisComP write them.

Of each event the preferred origin and magnitude count, else the first ones. Depths are metres there. Names
are compared without their namespace, which differs from version to version.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Final

from dispatcher.tools.formats.quake import NoQuakeError, Quake, moment, number

_DESCRIPTIONS: Final = ("earthquake name", "region name", "Flinn-Engdahl region")
_NONE_AT_ALL: Final = frozenset({"not existing", "not reported"})


def read_quakeml(document: bytes) -> Iterator[Quake | str]:
    """Give the earthquakes of a document; a text for what is none. Raises `NoQuakeError` for another one."""
    if b"<!DOCTYPE" in document or b"<!ENTITY" in document:
        raise NoQuakeError("expected QuakeML, which has no document type definition")
    try:
        root = ET.fromstring(document)  # noqa: S314 - no DTD, so no entities of its own
    except ET.ParseError as error:
        raise NoQuakeError(f"expected QuakeML: {error}") from None
    if _name(root) != "quakeml":
        raise NoQuakeError(f"expected QuakeML, got <{_name(root)}>")
    for event in root.iter():
        if _name(event) == "event":
            try:
                yield _quake(event)
            except NoQuakeError as error:
                yield str(error)


def _quake(event: ET.Element) -> Quake:
    kind = _text(event, "type")
    if kind in _NONE_AT_ALL:
        raise NoQuakeError(f"the event's type is {kind!r}")
    origin = _preferred(event, "origin", "preferredOriginID")
    if origin is None:
        raise NoQuakeError("expected an origin: a catalogue without them says when and where of nothing")
    magnitude = _preferred(event, "magnitude", "preferredMagnitudeID")
    depth = _text(origin, "depth", "value")
    return Quake(
        event_id=_event_id(event),
        origin_time=moment(_text(origin, "time", "value"), "origin.time"),
        latitude=number(_text(origin, "latitude", "value"), "origin.latitude"),
        longitude=number(_text(origin, "longitude", "value"), "origin.longitude"),
        depth_km=None if depth is None else round(number(depth, "origin.depth") / 1000, 6),
        magnitude=None if magnitude is None else number(_text(magnitude, "mag", "value"), "magnitude.mag"),
        magnitude_type=None if magnitude is None else _text(magnitude, "type"),
        location_description=_description(event),
    )


def _preferred(event: ET.Element, name: str, reference: str) -> ET.Element | None:
    found = _children(event, name)
    wanted = _text(event, reference)
    return next((one for one in found if one.get("publicID") == wanted), found[0] if found else None)


def _event_id(event: ET.Element) -> str:
    """Give the source's id: the catalogue's attributes, a parameter, or the last part of the name."""
    attributes = {name.rpartition("}")[2]: value for name, value in event.attrib.items()}
    if "eventsource" in attributes and "eventid" in attributes:
        return attributes["eventsource"] + attributes["eventid"]
    public_id = attributes.get("publicID", "")
    found = re.search(r"event_?id=([^&#]+)", public_id, re.IGNORECASE) or re.search(
        r"([^/=:#&?]+)/*$", public_id
    )
    if found is None:
        raise NoQuakeError("publicID: expected a name")
    return found[1]


def _description(event: ET.Element) -> str | None:
    texts = {_text(one, "type"): _text(one, "text") for one in _children(event, "description")}
    named = [texts[kind] for kind in _DESCRIPTIONS if kind in texts]
    return next((text for text in [*named, *texts.values()] if text), None)


def _children(element: ET.Element, name: str) -> list[ET.Element]:
    return [child for child in element if _name(child) == name]


def _text(element: ET.Element, *path: str) -> str | None:
    """Give the text of the first descendant by this path; None where there is none or it is empty."""
    for name in path:
        children = _children(element, name)
        if not children:
            return None
        element = children[0]
    return (element.text or "").strip() or None


def _name(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]
