"""What API keys may do, and whom they belong to unless somebody says otherwise."""

from __future__ import annotations

from typing import Final, Literal

DEFAULT_ORGANIZATION: Final = "default"
READ: Final = "read:webhooks"
WRITE: Final = "write:webhooks"
ADMIN: Final = "admin"
SCOPES: Final = (READ, WRITE, ADMIN)

Scope = Literal["read:webhooks", "write:webhooks"]  # what a route asks for
