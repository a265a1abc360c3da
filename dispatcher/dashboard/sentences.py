"""Says in the visitor's language what the rules say in English.

The rules of the core speak in sentences with values in them, which the API passes on as they are. Each kind
of sentence stands here once, with a name in braces for each value; one of an unknown kind stays English.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from dispatcher.dashboard.language import mark as _

if TYPE_CHECKING:
    from dispatcher.dashboard.language import Speech

_KINDS: Final = (
    _("is required"),
    _("must not be empty"),
    _("has {count} entries, at most {most} are allowed"),
    _("{value} is given {count} times"),
    _("{value} is given more than once"),
    _("{value} is given {count} times; case does not tell header names apart"),
    _("{value}: operational events must be named one by one"),
    _("{value} is not a known event type; did you mean {other}?"),
    _("{value} is not a known event type"),
    _("{value} is not a network's id; leave network_ids out to hear of every network"),
    _("{value} is not a network's id"),
    _("{value} is not one of your organization's networks"),
    _("has {count} headers, at most {most} are allowed"),
    _("has {count} bytes of names and values, at most {most} are allowed"),
    _("{value} is not a header name"),
    _("{value} is set by the dispatcher and cannot be overridden"),
    _("the value of {value} is not known; give it instead of {hidden}"),
    _("the value of {value} must be printable ASCII without spaces at its ends"),
    _("line {number} has no colon between name and value"),
    _("must have {least} to {most} characters, has {count}"),
    _("must have at most {most} characters, has {count}"),
    _("must not contain control characters or line breaks"),
    _("must not begin or end with a space"),
    _("begins with whsec_, so base64 must follow it"),
    _("must not contain spaces, control characters or backslashes"),
    _("must not contain a fragment (#…)"),
    _("is not a valid URL: {reason}"),
    _("must begin with https:// or http://"),
    _("must begin with https://"),
    _("must not contain a user name or password"),
    _("must have a port from 1 to 65535"),
    _("must name a host, by its domain name or its address"),
    _("must name a host: what it names is neither a domain name nor an address"),
    _("leads to {host}, a name of the sender's own host, which is not allowed"),
    _("leads to {host}, {reason}, which is not allowed"),
    _("contains a private key: give certificates alone, and replace that key"),
    _("must be certificates in PEM (-----BEGIN CERTIFICATE-----) and nothing else"),
    _("contains a certificate that cannot be read"),
    _("contains a certificate that does not end"),
    _("must be a number"),
    _("must be from {low} to {high}, is {value}"),
    _("must be whole seconds"),
    _("choose one of those shown"),
    _("must be more than 0 km"),
    _("must be [west, south, east, north], four numbers in degrees"),
    _("must have west and east from -180 to 180; across the antimeridian west is the greater"),
    _("must have south and north from -90 to 90, south not above north"),
    _("must be a list of station codes, texts of 1 to {most} characters"),
    _("must have 1 to {most} entries, has {count}"),
    _("holds {value} more than once"),
    _("must not be less than min_magnitude, {low}"),
    _("is required: lat, lon and radius belong together"),
    _("must be a GeoJSON geometry of the type Polygon or MultiPolygon"),
    _("holds {value}, which a GeoJSON geometry does not have"),
    _("must have at least one ring"),
    _("has {count} positions, at most {most} are allowed"),
    _("must have rings of at least four positions, of which the last is the first again"),
    _("must have positions of two numbers, longitude and latitude"),
    _("has the position {value}: longitude comes first, latitude is up to 90"),
    _("has a ring that is not closed: its last position must be its first"),
    _("has a ring without an area"),
    _("is not a date and time"),
    _("must be before the end, and in the past"),
    _("must be at most {days} days before the end"),
    _("choose at least one"),
    _("a private address"),
    _("a loopback address"),
    _("a link-local address"),
    _("a unique-local address"),
    _("a carrier-grade NAT address"),
    _("an unspecified address"),
    _("a documentation address"),
    _("a reserved address"),
    _("a multicast address"),
    _("gone: every attempt of a delivery was answered with 410"),
    _("failing since {since}: nothing but failures for 5 days"),
    _("webhook deactivated"),
    _("webhook deleted"),
    _("older than {limit} s"),
    _("a newer revision waits: event {event}"),
    _("told if it lasts {limit} s"),
    _("the sensor was back within {limit} s"),
    _("the connection was refused"),
    _("no way to the address: {cause}"),
    _("{host} could not be resolved: {cause}"),
    _("{host} has no address"),
    _("the certificate was not accepted: {cause}"),
    _("TLS failed: {cause}"),
)


def _pattern(kind: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", kind)
    text = "".join(f"(?P<{part}>.+?)" if index % 2 else re.escape(part) for index, part in enumerate(parts))
    return re.compile(text, re.DOTALL)


_PATTERNS: Final = tuple((kind, _pattern(kind)) for kind in _KINDS)


def translated(speech: Speech, sentence: str) -> str:
    """Give a sentence of the rules in the visitor's language."""
    for kind, pattern in _PATTERNS:
        found = pattern.fullmatch(sentence)
        if found is not None:
            values = {
                name: translated(speech, value) if name == "reason" else value
                for name, value in found.groupdict().items()
            }
            return speech.gettext(kind).format(**values)
    return sentence
