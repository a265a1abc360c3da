"""What schemathesis needs to know of our formats to make good values: loaded by its command line."""

from __future__ import annotations

import datetime as dt
import string
from typing import Any

import schemathesis
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from dispatcher.api.conditions import FILTER_SCHEMA
from dispatcher.core.cursor import write_cursor
from dispatcher.core.filter_form import filter_problems
from dispatcher.core.ids import OutboxId
from dispatcher.core.webhook import PROTECTED_HEADERS, is_credential

_NOW = dt.datetime.now(dt.UTC)  # one for all, so that a replay makes the same values
_MOST_QUERY_CHARACTERS = 1_000  # escaped it is longer; beyond 8 KiB aiohttp answers before we are asked
_FILTERS = Draft202012Validator(FILTER_SCHEMA)
_TOKEN = string.ascii_lowercase + string.digits + "!#$%&'*+.^_`|~-"

URLS = st.builds(
    "https://{}.example{}".format,
    st.text(string.ascii_lowercase, min_size=1, max_size=20),
    st.text(string.ascii_letters + string.digits + "-_.~", max_size=20).map(lambda text: f"/{text}"),
)
# Lower case, because names that differ in nothing else are one; and no credentials, which are hidden.
HEADER_NAMES = st.text(_TOKEN, min_size=1, max_size=30).filter(
    lambda name: name not in PROTECTED_HEADERS and not is_credential(name)
)
LATELY = st.timedeltas(dt.timedelta(minutes=1), dt.timedelta(days=20)).map(
    lambda ago: (_NOW - ago).isoformat()
)

schemathesis.openapi.format("uri", URLS)
schemathesis.openapi.format("header-name", HEADER_NAMES)
schemathesis.openapi.format("cursor", st.integers(0, 2**62).map(OutboxId).map(write_cursor))
schemathesis.openapi.format("date-time", LATELY)
schemathesis.openapi.format("pem-certificates", st.nothing())


@schemathesis.hook
def map_case(_context: object, case: Any) -> Any:
    """Mend filters that fit their schema and that only a rule beyond JSON Schema refuses, in every phase."""
    body = case.body
    wanted = body.get("filter") if isinstance(body, dict) else None
    if isinstance(wanted, dict) and _FILTERS.is_valid(wanted):
        case.body = {**body, "filter": mended(wanted)}
    return case


def mended(wanted: dict[str, Any]) -> dict[str, Any]:
    """Give the nearest filter that says what can be."""
    result = dict(wanted)
    for field, _ in filter_problems(wanted):
        match field:
            case "polygon":
                result[field] = {"type": "Polygon", "coordinates": [[[0, 0], [9, 0], [9, 9], [0, 0]]]}
            case "max_magnitude":
                result[field] = result["min_magnitude"]
            case "bbox":
                west, one, east, other = result[field]
                result[field] = [west, min(one, other), east, max(one, other)]
    return result


@schemathesis.hook
def filter_query(_context: object, query: object) -> bool:
    """Leave out requests that are longer than HTTP servers read."""
    return len(str(query)) < _MOST_QUERY_CHARACTERS
