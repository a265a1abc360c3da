"""What a route is: its handler, and everything that is true of it without running it.

Routes are data, so that the server, the tests and the OpenAPI document read the same table.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from dispatcher.api.form import Form, NoFields

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from dispatcher.api.context import ApiContext
    from dispatcher.api.problems import Problem
    from dispatcher.core.access import Scope
    from dispatcher.store.accounts import Key


@dataclass(frozen=True)
class Call:
    """One request to one route, authenticated, its fields taken apart but not yet judged."""

    context: ApiContext
    key: Key
    path: Mapping[str, str]
    query: Form[Any]
    body: Form[Any]
    if_match: str | None = None  # the header


class Pagination(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a page of a list stands; lists that can be walked also say where to go on."""

    page: int
    limit: int
    total: int
    pages: int
    next_cursor: str | msgspec.UnsetType | None = msgspec.UNSET


@dataclass(frozen=True)
class Answer:
    """What a handler gives when all is well; `data` None: an answer without a body."""

    status: int = 200
    data: Any = None
    pagination: Pagination | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


Handler: TypeAlias = "Callable[[Call], Awaitable[Answer | Problem]]"


@dataclass(frozen=True)
class Route:
    """One method of one path."""

    name: str  # unique, and never changed: clients are generated with it
    method: str
    path: str  # with names in braces
    scope: Scope
    handler: Handler
    summary: str
    status: int
    answer: Any  # the type of `data`; None without a body
    query: type[msgspec.Struct] = NoFields
    body: type[msgspec.Struct] | None = None
    etag: bool = False  # the answer has one
    conditional: bool = False  # If-Match is honoured
    conflict: str | None = None  # when the answer is 409


def pages(total: int, page: int, limit: int) -> Pagination:
    """Describe a page of a list."""
    return Pagination(page, limit, total, -(-total // limit))
