"""Writes the OpenAPI 3.1 document of the management API, from the routes and the shapes that serve it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from dispatcher import __version__
from dispatcher.api import idempotency
from dispatcher.api.answers import ID, REF, components, envelopes, header_refs, item_of, success
from dispatcher.api.examples import example_of
from dispatcher.api.form import NoFields
from dispatcher.api.outgoing import outgoing
from dispatcher.api.problems import CODES, Detail
from dispatcher.api.routing import Pagination
from dispatcher.api.vocabulary import EVENT_PATTERN, EVENT_TYPE
from dispatcher.core.webhook import patterns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dispatcher.api.routing import Route
    from dispatcher.store.event_types import EventType

PATH: Final = "/v1/openapi.json"
_IN_PATH: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "webhook_id": ("The webhook's id", {"type": "string", "pattern": f"^whk_{ID}"}),
    "delivery_id": ("The delivery's id", {"type": "string", "pattern": f"^dlv_{ID}"}),
    "recovery_id": ("The recovery's id", {"type": "string", "pattern": f"^rcv_{ID}"}),
    "outbox_id": (
        "The event's id in the outbox",
        {"type": "integer", "format": "int64", "minimum": 1, "maximum": 2**63 - 1},
    ),
}
_MADE_BY: Final = {"createWebhook": "webhook_id", "sendTest": "delivery_id", "recover": "recovery_id"}
_INTRODUCTION: Final = """\
Manage webhooks: who is told of which events, what was delivered, what failed and why.

Authenticate with `Authorization: Bearer <API key>`. Every answer carries a request id. What belongs to
another organization does not exist. Unknown fields and query parameters are refused. Send an
`Idempotency-Key` with a POST, and the same request may be sent again within a day and is done once."""


def document(routes: Sequence[Route], types: Sequence[EventType]) -> dict[str, Any]:
    """Give the document; `types` are the registered event types, which it names."""
    shapes = {shape for route in routes for shape in (route.body, item_of(route.answer)) if shape is not None}
    queries = {route.query for route in routes}
    _, schemas = msgspec.json.schema_components(
        [*sorted(shapes | queries, key=lambda one: one.__name__), Pagination, Detail], ref_template=REF
    )
    for route in routes:
        if route.body is not None:
            schemas[route.body.__name__]["additionalProperties"] = False
    names = [one.name for one in types]
    schemas["EventTypeName"] = {"type": "string", "enum": names, "description": "A registered event type"}
    schemas["EventPattern"] = {
        "type": "string",
        "enum": [*names, *patterns(names)],
        "description": "A registered event type, a family of them, or * for all but the operational ones",
    }
    schemas |= envelopes()
    paths: dict[str, Any] = {PATH: {"get": _own_operation()}}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, routes, schemas)
    for shape in queries - shapes:
        del schemas[shape.__name__]  # they were read for the parameters
    written: dict[str, Any] = _resolved(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Grillo webhooks",
                "version": __version__,
                "description": _INTRODUCTION,
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": "/"}],
            "security": [{"apiKey": []}],
            "tags": [
                *({"name": tag} for tag in dict.fromkeys(map(tag_of, routes))),
                {"name": "Outgoing", "description": "Requests that your server receives"},
            ],
            "paths": paths,
            "webhooks": outgoing(types),
            "components": {
                "schemas": schemas,
                **components(),
            },
        }
    )
    return written


def tag_of(route: Route) -> str:
    """Give the heading under which a route stands: the last plain word of its resource."""
    words = [word for word in route.path.split("/") if word and "{" not in word and word != "v1"]
    named = [word for word in words if word in _TAGS]
    return _TAGS[named[-1]]


_TAGS: Final = {
    "webhooks": "Webhooks",
    "test": "Deliveries",
    "deliveries": "Deliveries",
    "recover": "Recoveries",
    "recoveries": "Recoveries",
    "events": "Events",
    "event-types": "Event types",
}


def _operation(route: Route, routes: Sequence[Route], schemas: Mapping[str, Any]) -> dict[str, Any]:
    description = (route.handler.__doc__ or "").strip()
    if route.conflict is not None:
        description += f"\n\n409 where {route.conflict}."
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "description": f"{description}\n\nScope: `{route.scope}`.",
        "tags": [tag_of(route)],
        "security": [{"apiKey": [route.scope]}],
        "parameters": [*_path_parameters(route.path), *_query(route, schemas), *_header_parameters(route)],
        "responses": {str(route.status): success(route)},
    }
    if route.body is not None:
        content: dict[str, Any] = {"schema": {"$ref": REF.format(name=route.body.__name__)}}
        if route.body is not NoFields:
            content["example"] = example_of(route.body)
        required = any(field.required for field in msgspec.structs.fields(route.body))
        operation["requestBody"] = {"required": required, "content": {"application/json": content}}
    if links := _links(route, routes):
        operation["responses"][str(route.status)]["links"] = links
    for code in _codes(route):
        operation["responses"][str(CODES[code])] = {"$ref": f"#/components/responses/{code}"}
    return operation


def _links(route: Route, routes: Sequence[Route]) -> dict[str, Any]:
    """Say which operations go on with what a route made: those whose path needs its id, and no other."""
    made = _MADE_BY.get(route.name)
    if made is None:
        return {}
    here = [name for name in _names_in(route.path) if name != made]
    parameters = {name: f"$request.path.{name}" for name in here} | {made: "$response.body#/data/id"}
    return {
        other.name: {"operationId": other.name, "parameters": parameters}
        for other in routes
        if set(_names_in(other.path)) == set(parameters) and other.name != route.name
    }


def _names_in(path: str) -> list[str]:
    return re.findall(r"{(\w+)}", path)


def _codes(route: Route) -> list[str]:
    """Give the codes with which a route may refuse a request."""
    codes = ["invalid_request", "unauthorized", "forbidden"]
    if "{" in route.path:
        codes.append("not_found")
    if route.method == "POST":
        codes.append("conflict")  # the Idempotency-Key at least
    if route.conditional:
        codes.append("precondition_failed")
    if route.body is not None:
        codes += ["payload_too_large", "unsupported_media_type"]
    return [*codes, "rate_limit_exceeded", "internal_error", "unavailable"]


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": _IN_PATH[name][0],
            "schema": dict(_IN_PATH[name][1]),
        }
        for name in _names_in(path)
    ]


def _query(route: Route, schemas: Mapping[str, Any]) -> list[dict[str, Any]]:
    parameters = []
    for name, schema in schemas[route.query.__name__]["properties"].items():
        kinds = [one for one in schema.get("anyOf", [schema]) if one != {"type": "null"}]
        shown = dict(kinds[0])
        words = shown.pop("description", None) or schema.get("description")
        if schema.get("default") is not None:
            shown["default"] = schema["default"]
        parameter = {"name": name, "in": "query", "required": False, "schema": shown}
        parameters.append(parameter if words is None else {**parameter, "description": words})
    return parameters


def _header_parameters(route: Route) -> list[dict[str, Any]]:
    found = []
    if route.method == "POST":
        found.append(
            (
                idempotency.HEADER,
                "Makes it safe to send the same request again within a day",
                {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": idempotency.MAX_CHARACTERS,
                    "pattern": r"^[!-~](?:[ -~]*[!-~])?$",
                },
            )
        )
    if route.conditional:
        found.append(
            (
                "If-Match",
                "An ETag: change the webhook only if it is still that one",
                {"type": "string"},
            )
        )
    return [
        {"name": name, "in": "header", "required": False, "description": words, "schema": schema}
        for name, words, schema in found
    ]


def _own_operation() -> dict[str, Any]:
    return {
        "operationId": "getOpenapi",
        "summary": "Get this document",
        "tags": ["Webhooks"],
        "security": [],
        "responses": {
            "200": {
                "description": "OpenAPI 3.1",
                "headers": header_refs(["X-Request-Id"]),
                "content": {"application/json": {"schema": {"type": "object"}}},
            },
            "503": {"$ref": "#/components/responses/unavailable"},
        },
    }


def _resolved(node: Any) -> Any:
    """Put the registered event types where the shapes only mark them."""
    if isinstance(node, dict):
        if node.get(EVENT_TYPE) is True:
            return {"$ref": REF.format(name="EventTypeName")}
        if node.get(EVENT_PATTERN) is True:
            return {"$ref": REF.format(name="EventPattern")}
        return {name: _resolved(value) for name, value in node.items()}
    return [_resolved(value) for value in node] if isinstance(node, list) else node
