"""Writes the OpenAPI 3.1 document of the management API, from the routes and the shapes that serve it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, get_args, get_origin

import msgspec

from dispatcher import __version__
from dispatcher.api import idempotency
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
_REF: Final = "#/components/schemas/{name}"
_ID: Final = "[0-9a-hjkmnp-tv-z]{26}$"
_IN_PATH: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "webhook_id": ("The webhook's id", {"type": "string", "pattern": f"^whk_{_ID}"}),
    "delivery_id": ("The delivery's id", {"type": "string", "pattern": f"^dlv_{_ID}"}),
    "recovery_id": ("The recovery's id", {"type": "string", "pattern": f"^rcv_{_ID}"}),
    "outbox_id": (
        "The event's id in the outbox",
        {"type": "integer", "format": "int64", "minimum": 1, "maximum": 2**63 - 1},
    ),
}
_MADE_BY: Final = {"createWebhook": "webhook_id", "sendTest": "delivery_id", "recover": "recovery_id"}
_HEADERS: Final[Mapping[str, tuple[str, str]]] = {
    "X-Request-Id": ("string", "The request's id: quote it when you report something"),
    "X-RateLimit-Limit": ("integer", "Requests in a window of a minute"),
    "X-RateLimit-Remaining": ("integer", "How many are left in this one"),
    "X-RateLimit-Reset": ("integer", "When it ends, in Unix seconds"),
    "Retry-After": ("integer", "Seconds to wait"),
    "ETag": ("string", "What the webhook is now, for If-Match"),
    "Location": ("string", "Where the answer's subject is found"),
    idempotency.REPLAYED: ("string", "true: this is the answer of an earlier request with the same key"),
}
_LIMITS: Final = ("X-Request-Id", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
_INTRODUCTION: Final = """\
Manage webhooks: who is told of which events, what was delivered, what failed and why.

Authenticate with `Authorization: Bearer <API key>`. Every answer carries a request id. What belongs to
another organization does not exist. Unknown fields and query parameters are refused. Send an
`Idempotency-Key` with a POST, and the same request may be sent again within a day and is done once."""


def document(routes: Sequence[Route], types: Sequence[EventType]) -> dict[str, Any]:
    """Give the document; `types` are the registered event types, which it names."""
    shapes = {shape for route in routes for shape in (route.body, _item(route.answer)) if shape is not None}
    queries = {route.query for route in routes}
    _, schemas = msgspec.json.schema_components(
        [*sorted(shapes | queries, key=lambda one: one.__name__), Pagination, Detail], ref_template=_REF
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
    schemas |= _envelopes()
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
                "responses": {name: _refusal(status, name) for name, status in CODES.items()},
                "headers": {
                    name: {"description": words, "schema": {"type": kind}}
                    for name, (kind, words) in _HEADERS.items()
                },
                "securitySchemes": {
                    "apiKey": {"type": "http", "scheme": "bearer", "description": "An API key, grk_…"}
                },
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
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "description": f"{description}\n\nScope: `{route.scope}`.",
        "tags": [tag_of(route)],
        "security": [{"apiKey": [route.scope]}],
        "parameters": [*_path_parameters(route.path), *_query(route, schemas), *_header_parameters(route)],
        "responses": {str(route.status): _success(route)},
    }
    if route.body is not None:
        content: dict[str, Any] = {"schema": {"$ref": _REF.format(name=route.body.__name__)}}
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
                    "format": "idempotency-key",
                },
            )
        )
    if route.conditional:
        found.append(
            (
                "If-Match",
                "An ETag: change the webhook only if it is still that one",
                {"type": "string", "format": "etag"},
            )
        )
    return [
        {"name": name, "in": "header", "required": False, "description": words, "schema": schema}
        for name, words, schema in found
    ]


def _success(route: Route) -> dict[str, Any]:
    names = [*_LIMITS]
    if route.etag:
        names.append("ETag")
    if route.status in {201, 202}:
        names.append("Location")
    if route.method == "POST":
        names.append(idempotency.REPLAYED)
    answer: dict[str, Any] = {"description": route.summary, "headers": _header_refs(names)}
    if route.answer is None:
        return answer
    item = {"$ref": _REF.format(name=_item(route.answer).__name__)}
    listed = get_origin(route.answer) is list
    properties: dict[str, Any] = {"data": {"type": "array", "items": item} if listed else item}
    example: dict[str, Any] = {"data": example_of(route.answer)}
    if "page" in route.query.__struct_fields__:
        properties["pagination"] = {"$ref": _REF.format(name="Pagination")}
        example["pagination"] = {"page": 1, "limit": 20, "total": 1, "pages": 1}
    properties["meta"] = {"$ref": _REF.format(name="Meta")}
    example["meta"] = {"request_id": _REQUEST, "timestamp": "2026-01-15T14:32:50.123456Z"}
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    answer["content"] = {"application/json": {"schema": schema, "example": example}}
    return answer


_REQUEST: Final = "req_2c4e6g8j0k2m4n7q2r4t6w8y0a"


def _refusal(status: int, code: str) -> dict[str, Any]:
    names = ["X-Request-Id"] if status in {401, 500} else [*_LIMITS]
    if status in {429, 503}:
        names.append("Retry-After")
    if status == 503:
        names = ["X-Request-Id", "Retry-After"]
    details = [{"field": "url", "message": "is required"}] if status == 400 else []
    error = {"code": code, "message": f"In words, for people ({status}).", "details": details}
    return {
        "description": code.replace("_", " ").capitalize(),
        "headers": _header_refs(names),
        "content": {
            "application/json": {
                "schema": {"$ref": _REF.format(name="Refusal")},
                "example": {"error": error, "meta": {"request_id": _REQUEST}},
            }
        },
    }


def _header_refs(names: Sequence[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _envelopes() -> dict[str, Any]:
    request_id = {"type": "string", "pattern": f"^req_{_ID}"}
    return {
        "Meta": {
            "type": "object",
            "properties": {
                "request_id": request_id,
                "timestamp": {"type": "string", "format": "date-time"},
            },
            "required": ["request_id", "timestamp"],
        },
        "Refusal": {
            "type": "object",
            "properties": {
                "error": {
                    "type": "object",
                    "properties": {
                        "code": {"type": "string", "enum": list(CODES)},
                        "message": {"type": "string"},
                        "details": {"type": "array", "items": {"$ref": _REF.format(name="Detail")}},
                    },
                    "required": ["code", "message", "details"],
                },
                "meta": {
                    "type": "object",
                    "properties": {"request_id": request_id},
                    "required": ["request_id"],
                },
            },
            "required": ["error", "meta"],
        },
    }


def _own_operation() -> dict[str, Any]:
    return {
        "operationId": "getOpenapi",
        "summary": "Get this document",
        "tags": ["Webhooks"],
        "security": [],
        "responses": {
            "200": {
                "description": "OpenAPI 3.1",
                "headers": _header_refs(["X-Request-Id"]),
                "content": {"application/json": {"schema": {"type": "object"}}},
            },
            "503": {"$ref": "#/components/responses/unavailable"},
        },
    }


def _item(shape: Any) -> Any:
    """Give the struct of an answer, or of the entries of a list."""
    return get_args(shape)[0] if get_origin(shape) is list else shape


def _resolved(node: Any) -> Any:
    """Put the registered event types where the shapes only mark them."""
    if isinstance(node, dict):
        if node.get(EVENT_TYPE) is True:
            return {"$ref": _REF.format(name="EventTypeName")}
        if node.get(EVENT_PATTERN) is True:
            return {"$ref": _REF.format(name="EventPattern")}
        return {name: _resolved(value) for name, value in node.items()}
    return [_resolved(value) for value in node] if isinstance(node, list) else node
