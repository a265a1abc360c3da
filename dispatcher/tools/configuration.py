"""`dispatcher check-config`: the configuration as it will be used, and what to think about."""

from __future__ import annotations

import json
import resource
from typing import TYPE_CHECKING, Any, Final

from dispatcher.config import Config, listen_address, redacted
from dispatcher.tools.terminal import complain, result

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOOPBACK: Final = {"127.0.0.1", "::1", "localhost"}
_OWN_FILES: Final = 200  # descriptors beside those of requests: database, listeners, logs


def check_config(config: Config, *, as_json: bool = False) -> int:
    """Print every key with its value as TOML, secrets hidden; warnings go to stderr and change nothing.

    As JSON, the object holds both.
    """
    shown, found = redacted(config), list(warnings(config, resource.getrlimit(resource.RLIMIT_NOFILE)[0]))
    result({"config": shown, "warnings": found}, *toml_lines(shown), as_json=as_json)
    if not as_json:
        for warning in found:
            complain(f"warning: {warning}")
    return 0


def toml_lines(tables: dict[str, Any]) -> Iterator[str]:
    """Write plain values and one level of tables as TOML."""
    for key, value in tables.items():
        if not isinstance(value, dict):
            yield f"{key} = {json.dumps(value)}"
    for name, table in tables.items():
        if isinstance(table, dict):
            yield ""
            yield f"[{name}]"
            yield from (f"{key} = {json.dumps(value)}" for key, value in table.items())


def warnings(config: Config, open_files: int) -> Iterator[str]:
    """Say what is allowed but perhaps not meant; `open_files` is the process's limit."""
    delivery = config.delivery
    if not delivery.require_https:
        yield "delivery.require_https is false: webhooks may be registered with plain http"
    if delivery.allowed_networks:
        networks = ", ".join(delivery.allowed_networks)
        yield f"delivery.allowed_networks lets webhooks reach {networks}"
    if delivery.retry_delays_s != Config().delivery.retry_delays_s:
        yield "delivery.retry_delays_s is not what the webhook guide promises (1, 5 and 30 minutes)"
    if 0 <= open_files < delivery.max_in_flight + _OWN_FILES:
        yield (
            f"delivery.max_in_flight is {delivery.max_in_flight}, but a process may open only "
            f"{open_files} files here: raise the limit (systemd: LimitNOFILE)"
        )
    if not config.database.url:
        yield f"database.url is empty: PostgreSQL is run by the dispatcher, in {config.data_dir}"
    if not config.secrets.encryption_key:
        yield (
            f"secrets.encryption_key is empty: the key is kept in {config.data_dir}/encryption.key; "
            "without it, secrets in a backup of the database cannot be read"
        )
    if config.secrets.previous_encryption_key:
        yield (
            "secrets.previous_encryption_key is set: run `dispatcher rekey`, then remove it once every "
            "dispatcher runs with the new key"
        )
    for key, listen in (("api.listen", config.api.listen), ("ops.listen", config.ops.listen)):
        if listen_address(listen)[0] not in _LOOPBACK:
            yield f"{key} is {listen}: reachable from other machines, without TLS"
