"""The answers in the OpenAPI document: envelopes, headers, examples, and every way in which we refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, get_args, get_origin

from dispatcher.api import idempotency
from dispatcher.api.examples import example_of
from dispatcher.api.problems import CODES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dispatcher.api.routing import Route

REF: Final = "#/components/schemas/{name}"
ID: Final = "[0-9a-hjkmnp-tv-z]{26}$"  # of all public ids, behind their prefix
_REQUEST: Final = "req_2c4e6g8j0k2m4n7q2r4t6w8y0a"
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


def components() -> dict[str, Any]:
    """Give the parts that all operations share, but for the schemas of what they answer."""
    return {
        "responses": {name: _refusal(status, name) for name, status in CODES.items()},
        "headers": {
            name: {"description": words, "schema": {"type": kind}} for name, (kind, words) in _HEADERS.items()
        },
        "securitySchemes": {
            "apiKey": {"type": "http", "scheme": "bearer", "description": "An API key, grk_…"}
        },
    }


def success(route: Route) -> dict[str, Any]:
    """Give the answer of a route when all is well."""
    names = [*_LIMITS]
    if route.etag:
        names.append("ETag")
    if route.status in {201, 202}:
        names.append("Location")
    if route.method == "POST":
        names.append(idempotency.REPLAYED)
    answer: dict[str, Any] = {"description": route.summary, "headers": header_refs(names)}
    if route.answer is None:
        return answer
    item = {"$ref": REF.format(name=item_of(route.answer).__name__)}
    listed = get_origin(route.answer) is list
    properties: dict[str, Any] = {"data": {"type": "array", "items": item} if listed else item}
    example: dict[str, Any] = {"data": example_of(route.answer)}
    if "page" in route.query.__struct_fields__:
        properties["pagination"] = {"$ref": REF.format(name="Pagination")}
        example["pagination"] = {"page": 1, "limit": 20, "total": 1, "pages": 1}
    properties["meta"] = {"$ref": REF.format(name="Meta")}
    example["meta"] = {"request_id": _REQUEST, "timestamp": "2026-01-15T14:32:50.123456Z"}
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    answer["content"] = {"application/json": {"schema": schema, "example": example}}
    return answer


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
        "headers": header_refs(names),
        "content": {
            "application/json": {
                "schema": {"$ref": REF.format(name="Refusal")},
                "example": {"error": error, "meta": {"request_id": _REQUEST}},
            }
        },
    }


def header_refs(names: Sequence[str]) -> dict[str, Any]:
    """Name headers of an answer."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def envelopes() -> dict[str, Any]:
    """Give the schemas of what is around the data, and of refusals."""
    request_id = {"type": "string", "pattern": f"^req_{ID}"}
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
                        "details": {"type": "array", "items": {"$ref": REF.format(name="Detail")}},
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


def item_of(shape: Any) -> Any:
    """Give the struct of an answer, or of the entries of a list."""
    return get_args(shape)[0] if get_origin(shape) is list else shape
