"""The OpenAPI document and the page made of it: complete, valid, and never other than what is served."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from typing import Any

import msgspec
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from dispatcher.api import create_app
from dispatcher.api.app import ROUTES
from dispatcher.api.examples import example_of
from dispatcher.api.form import NoFields
from dispatcher.api.problems import CODES
from dispatcher.core.webhook import patterns
from dispatcher.store import event_types
from tests.management import Management, management
from tests.postgres import Database


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Management]:
    """Run the API over a fresh database, with a client that may read and write."""
    async with management(database.url) as running:
        yield running


async def read(api: Management) -> dict[str, Any]:
    """Read the document, as somebody without a key."""
    reply = await api.ask("GET", "/v1/openapi.json", headers={"Authorization": ""})
    assert (200, "application/json") == (reply.status, reply.headers["Content-Type"])
    return reply.body


async def test_the_document_is_valid(api: Management) -> None:
    """OpenAPI 3.1, with every reference leading somewhere."""
    document = await read(api)
    assert "3.1.0" == document["openapi"]
    OpenAPIV31SpecValidator(document).validate()
    for reference in set(re.findall(r'"\$ref":\s*"#/([^"]+)"', json.dumps(document))):
        found: Any = document
        for step in reference.split("/"):
            found = found[step]


async def test_the_document_and_the_routes_are_the_same(api: Management) -> None:
    """Every method of every path that is served is described, and nothing else."""
    document = await read(api)
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    app = create_app(api.context)
    served = {
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    assert served == {*described, ("GET", "/docs")}


async def test_every_operation_has_an_id_of_its_own(api: Management) -> None:
    """The messages that are sent as well, however alike the names of their types."""
    for name in ("net.a_b", "net.a.b", "net_a.b", "n1.b", "n1b.b"):
        await event_types.add(api.context.database, name, description="x", fields={}, sample={})
    document = await read(api)
    described = {**document["paths"], **document["webhooks"]}
    names = [one["operationId"] for methods in described.values() for one in methods.values()]
    assert len(set(names)) == len(names)
    assert "OnEventDetected" in names


async def test_every_operation_is_complete(api: Management) -> None:
    """What it is for, its scope, its answer with an example, and every way in which it can refuse."""
    document = await read(api)
    for route in ROUTES:
        operation = document["paths"][route.path][route.method.lower()]
        assert operation["summary"]
        assert operation["description"]
        assert [{"apiKey": [route.scope]}] == operation["security"]
        statuses = set(operation["responses"])
        assert {str(route.status), "400", "401", "403", "429", "500", "503"} <= statuses
        assert ("{" in route.path) == ("404" in statuses)
        if route.answer is not None:
            content = operation["responses"][str(route.status)]["content"]["application/json"]
            shown = content["example"]["data"]
            assert example_of(route.answer) == shown
            msgspec.json.decode(msgspec.json.encode(shown), type=route.answer)
        if route.body is not None and route.body is not NoFields:
            content = operation["requestBody"]["content"]["application/json"]
            msgspec.convert(content["example"], route.body)
    assert {str(one) for one in CODES.values()} >= {
        status
        for methods in document["paths"].values()
        for operation in methods.values()
        for status in operation["responses"]
        if status >= "400"
    }


async def test_event_types_are_described_as_they_are_registered(api: Management) -> None:
    """Each with its schema, its sample and the headers that it comes with, as soon as it is registered."""
    await event_types.add(
        api.context.database,
        "station.moved",
        description="A station was moved",
        fields={"station_code": "string", "distance_m": "number?"},
        sample={"station_code": "GRIL01", "distance_m": 3},
    )
    document = await read(api)
    known = await event_types.names(api.context.database)
    assert known == list(document["webhooks"])
    schemas = document["components"]["schemas"]
    assert [*known, *patterns(known)] == schemas["EventPattern"]["enum"]
    assert known == schemas["EventTypeName"]["enum"]
    operation = document["webhooks"]["station.moved"]["post"]
    content = operation["requestBody"]["content"]["application/json"]
    assert "station.moved" == content["schema"]["properties"]["type"]["const"]
    assert ["station_code"] == content["schema"]["properties"]["data"]["required"]
    assert {"station_code": "GRIL01", "distance_m": 3} == content["example"]["data"]
    headers = {one["name"]: one["required"] for one in operation["parameters"]}
    assert {"X-Grillo-Signature": True, "X-Grillo-Signature-Next": False}.items() <= headers.items()


class Page(HTMLParser):
    """Looks at the page as a browser does."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: set[str] = set()
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take note of a tag."""
        self.tags.add(tag)
        for name, value in attrs:
            if name in {"href", "src", "action"}:
                self.links.add(value or "")
            if name == "id":
                self.ids.add(value or "")


async def test_the_page_shows_all_of_it_and_asks_nobody(api: Management) -> None:
    """No script, no request to anybody, a policy that forbids both; every link leads somewhere."""
    reply = await api.ask("GET", "/docs", headers={"Authorization": ""})
    assert (200, "text/html; charset=utf-8") == (reply.status, reply.headers["Content-Type"])
    policy = reply.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    page = Page(reply.text)
    assert set() == page.tags & {"script", "img", "link", "iframe", "form"}
    assert {"/v1/openapi.json"} == {link for link in page.links if not link.startswith("#")}
    assert set() == {link[1:] for link in page.links if link.startswith("#")} - page.ids
    assert [] == [route.name for route in ROUTES if route.name not in page.ids]
    assert not re.search(r" style=| on\w+=", reply.text)


async def test_what_an_operator_writes_is_shown_as_it_is(api: Management) -> None:
    """A description is text on the page, whatever it looks like."""
    await event_types.add(
        api.context.database,
        "station.moved",
        description="<script>alert(1)</script>",
        fields={"code": "string"},
        sample={"code": "</pre><script>"},
    )
    reply = await api.ask("GET", "/docs")
    assert "&lt;script&gt;alert(1)" in reply.text
    assert "<script" not in reply.text
