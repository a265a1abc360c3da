"""What a webhook's fields may be: subscribed events, custom headers, the secret, its networks.

Each function names every problem of one field in plain words; an empty list means that the value is good.
The sentences have no subject: they follow the name of the field. The URL is judged by `core.addresses`.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from typing import TYPE_CHECKING, Final

from dispatcher.core.routing import EVERY_NETWORK, OPERATIONAL
from dispatcher.core.signature import standard_key

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

MAX_EVENTS: Final = 100
MAX_NETWORKS: Final = 100
MAX_HEADERS: Final = 20
MAX_HEADERS_BYTES: Final = 4096  # names and values together
MIN_SECRET_CHARACTERS: Final = 1  # how strong a secret of one's own is, is its owner's choice
MAX_SECRET_CHARACTERS: Final = 256
MAX_AGE_S: Final = 2_592_000  # thirty days
MAX_SETTLE_S: Final = 3_600

# What the dispatcher writes itself, and what belongs to the connection and the framing of the message
# (RFC 9110, 7.6.1). `User-Agent` may be overridden.
PROTECTED_HEADERS: Final = frozenset(
    {
        "content-type",
        "x-grillo-event",
        "x-grillo-delivery",
        "x-grillo-signature",
        "x-grillo-signature-next",
        "x-grillo-attempt",
        "x-grillo-occurred-at",
        "x-grillo-sequence",
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
        "host",
        "content-length",
        "content-encoding",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "proxy-connection",
        "expect",
        "te",
        "trailer",
        "upgrade",
    }
)

HIDDEN: Final = "(hidden)"  # shown in place of a header's value that looks like a credential

_CREDENTIAL: Final = re.compile(r"auth|cookie|credential|key|passw|secret|session|token", re.IGNORECASE)
_LONGEST_NAME: Final = 100  # of an event type: what is longer resembles none
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_FIELD_VALUE: Final = re.compile(r"(?:[!-~](?:[\t -~]*[!-~])?)?")  # RFC 9110, 5.5, without obs-text
_UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def patterns(event_types: Iterable[str]) -> list[str]:
    """Give the patterns that may be subscribed to beside the types themselves: `*`, `event.*`, …."""
    families = {name.partition(".")[0] + ".*" for name in event_types if not name.startswith(OPERATIONAL)}
    return ["*", *sorted(families)]


def closest(name: str, known: Collection[str]) -> str:
    """Give `; did you mean "…"?` with the known name that resembles `name` most, or nothing."""
    if len(name) > _LONGEST_NAME:
        return ""
    found = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    return f'; did you mean "{found[0]}"?' if found else ""


def events_problems(events: Sequence[str], event_types: Collection[str]) -> list[str]:
    """Judge the subscribed types and patterns; `event_types` are the registered ones."""
    if problem := _list_problem(events, MAX_EVENTS):
        return [problem]
    known = [*event_types, *patterns(event_types)]
    problems = _duplicates(events)
    for event in dict.fromkeys(events):
        if event in known:
            continue
        if event == f"{OPERATIONAL}*":
            problems.append(f'"{event}": operational events must be named one by one')
        else:
            problems.append(f"{_shown(event)} is not a known event type{closest(event, known)}")
    return problems


def network_problems(network_ids: Sequence[str], owned: Collection[str]) -> list[str]:
    """Judge the networks a webhook is limited to; `owned` are its organization's, `*` for all."""
    if problem := _list_problem(network_ids, MAX_NETWORKS):
        return [problem]
    problems = _duplicates(network_ids)
    for network_id in dict.fromkeys(network_ids):
        if not network_id or len(network_id) > _LONGEST_NAME:
            problems.append(f"{_shown(network_id)} is not a network's id")
        elif network_id == EVERY_NETWORK:
            problems.append('"*" is not a network\'s id; leave network_ids out to hear of every network')
        elif EVERY_NETWORK not in owned and network_id not in owned:
            problems.append(f"{_shown(network_id)} is not one of your organization's networks")
    return problems


def is_credential(header: str) -> bool:
    """Say whether a custom header's value looks like a credential, by its name: it is never shown."""
    return _CREDENTIAL.search(header) is not None


def shown_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Give custom headers as people may see them."""
    return {name: HIDDEN if is_credential(name) else value for name, value in headers.items()}


def unhidden_headers(given: Mapping[str, str], present: Mapping[str, str]) -> dict[str, str]:
    """Give the headers that are meant where a client sends back what it was shown: `HIDDEN` keeps a value."""
    values = {name.lower(): value for name, value in present.items() if is_credential(name)}
    return {
        name: values.get(name.lower(), value) if value == HIDDEN else value for name, value in given.items()
    }


def kept_headers(given: Mapping[str, str], present: Mapping[str, str]) -> dict[str, str]:
    """Give the same as they are to be stored: what was hidden, and is there no longer, stays away."""
    meant = unhidden_headers(given, present).items()
    return {name: value for name, value in meant if value != HIDDEN or not is_credential(name)}


def headers_problems(headers: Mapping[str, str]) -> list[str]:
    """Judge custom request headers."""
    problems = []
    if len(headers) > MAX_HEADERS:
        problems.append(f"has {len(headers)} headers, at most {MAX_HEADERS} are allowed")
    size = sum(len(name.encode()) + len(value.encode()) for name, value in headers.items())
    if size > MAX_HEADERS_BYTES:
        problems.append(f"has {size} bytes of names and values, at most {MAX_HEADERS_BYTES} are allowed")
    if problems:
        return problems
    spellings = Counter(name.lower() for name in headers)
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name):
            problems.append(f"{_shown(name)} is not a header name")
        elif name.lower() in PROTECTED_HEADERS:
            problems.append(f"{_shown(name)} is set by the dispatcher and cannot be overridden")
        elif value == HIDDEN and is_credential(name):
            problems.append(f"the value of {_shown(name)} is not known; give it instead of {HIDDEN}")
        elif not _FIELD_VALUE.fullmatch(value):
            problems.append(f"the value of {_shown(name)} must be printable ASCII without spaces at its ends")
    problems += [
        f"{_shown(name)} is given {count} times; case does not tell header names apart"
        for name, count in spellings.items()
        if count > 1
    ]
    return problems


def secret_problems(secret: str) -> list[str]:
    """Judge a shared secret: printable text, and base64 behind `whsec_`."""
    if not MIN_SECRET_CHARACTERS <= len(secret) <= MAX_SECRET_CHARACTERS:
        return [f"must have {MIN_SECRET_CHARACTERS} to {MAX_SECRET_CHARACTERS} characters, has {len(secret)}"]
    if _UNPRINTABLE.search(secret):
        return ["must not contain control characters or line breaks"]
    if secret != secret.strip():
        return ["must not begin or end with a space"]
    try:
        standard_key(secret)
    except ValueError:
        return ["begins with whsec_, so base64 must follow it"]
    return []


def _list_problem(values: Sequence[str], at_most: int) -> str | None:
    if not values:
        return "must not be empty"
    if len(values) > at_most:
        return f"has {len(values)} entries, at most {at_most} are allowed"
    return None


def _duplicates(values: Sequence[str]) -> list[str]:
    return [
        f"{_shown(value)} is given {count} times" for value, count in Counter(values).items() if count > 1
    ]


def _shown(text: str) -> str:
    return f'"{text}"' if len(text) <= _LONGEST_NAME else f'"{text[:_LONGEST_NAME]}…"'
