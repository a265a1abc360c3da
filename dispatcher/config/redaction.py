"""Configuration as it may be shown: without passwords and keys."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

HIDDEN: Final = "***"
# Never shown, not even in an error.
SECRET_KEYS: Final = frozenset({"secrets.encryption_key", "secrets.previous_encryption_key"})
URL_KEYS: Final = frozenset({"database.url", "delivery.proxy_url"})  # shown without their password

# Up to the last @: what is shown may be a mistake, such as a password with an unescaped / or no scheme.
_USERINFO: Final = re.compile(r"(?:^|(?<=//))(?P<user>[^/?#:@]*):(?!//).*@", re.DOTALL)
_PARAMETER: Final = re.compile(r"(?<=[?&])(?P<name>password|passfile|sslpassword)=[^&#]*", re.IGNORECASE)


def without_password(url: str) -> str:
    """Hide the password of a URL, in its authority and in its parameters."""
    url = _USERINFO.sub(rf"\g<user>:{HIDDEN}@", url)
    return _PARAMETER.sub(rf"\g<name>={HIDDEN}", url)


def shown(key: str, value: Any) -> Any:
    """Give a value of `section.key` as people may see it."""
    if key in SECRET_KEYS:
        return HIDDEN if value else value
    if key in URL_KEYS and isinstance(value, str):
        return without_password(value)
    return value


def redacted(config: msgspec.Struct) -> dict[str, Any]:
    """Give the configuration as plain tables, ready to be printed by `check-config`."""
    tables: dict[str, Any] = msgspec.to_builtins(config)
    return {
        name: {key: shown(f"{name}.{key}", value) for key, value in table.items()}
        if isinstance(table, dict)
        else table
        for name, table in tables.items()
    }
