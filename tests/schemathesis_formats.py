"""What schemathesis needs to know of our formats to make good values: loaded by its command line."""

from __future__ import annotations

import base64
import datetime as dt
import string

import schemathesis
from hypothesis import strategies as st

from dispatcher.api.cursor import write_cursor
from dispatcher.core.ids import OutboxId
from dispatcher.core.webhook import PROTECTED_HEADERS, is_credential

_PRINTABLE = st.characters(codec="utf-8", exclude_categories=("C", "Z"))
_NOW = dt.datetime.now(dt.UTC)  # one for all, so that a replay makes the same values
_MOST_QUERY_CHARACTERS = 1_000  # escaped it is longer; beyond 8 KiB aiohttp answers before we are asked
_NOT_NUL = st.characters(codec="utf-8", exclude_characters="\0")
_TOKEN = string.ascii_letters + string.digits + "!#$%&'*+.^_`|~-"

URLS = st.builds(
    "https://{}.example{}".format,
    st.text(string.ascii_lowercase, min_size=1, max_size=20),
    st.text(string.ascii_letters + string.digits + "-_.~", max_size=20).map(lambda text: f"/{text}"),
)
SECRETS = st.one_of(
    st.text(_PRINTABLE, min_size=8, max_size=256).filter(lambda text: not text.startswith("whsec_")),
    st.binary(min_size=8, max_size=64).map(lambda key: "whsec_" + base64.b64encode(key).decode()),
)
HEADER_NAMES = st.text(_TOKEN, min_size=1, max_size=30).filter(
    lambda name: name.lower() not in PROTECTED_HEADERS and not is_credential(name)
)
HEADER_VALUES = st.text(string.ascii_letters + string.digits + "/;=,", max_size=50)

schemathesis.openapi.format("uri", URLS)
schemathesis.openapi.format("webhook-secret", SECRETS)
schemathesis.openapi.format("header-name", HEADER_NAMES.map(str.lower))
schemathesis.openapi.format("header-value", HEADER_VALUES)
schemathesis.openapi.format("network-id", st.text(_PRINTABLE, min_size=1, max_size=50).filter("*".__ne__))
schemathesis.openapi.format(
    "text", st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=500)
)
schemathesis.openapi.format(
    "cursor", st.integers(0, 2**62).map(lambda number: write_cursor(OutboxId(number)))
)
schemathesis.openapi.format("idempotency-key", st.uuids().map(str))
schemathesis.openapi.format("etag", st.just('"0"') | st.just("*"))
schemathesis.openapi.format("pem-certificates", st.nothing())
schemathesis.openapi.format(
    "date-time",
    st.timedeltas(dt.timedelta(minutes=1), dt.timedelta(days=20)).map(lambda ago: (_NOW - ago).isoformat()),
)


@schemathesis.hook
def filter_query(_context: object, query: object) -> bool:
    """Leave out requests that are longer than HTTP servers read."""
    return len(str(query)) < _MOST_QUERY_CHARACTERS
