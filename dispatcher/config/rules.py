"""What a range cannot say: values that must be readable, and keys that must agree with each other."""

from __future__ import annotations

import base64
import binascii
import ipaddress
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from dispatcher.config.listen import listen_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from dispatcher.config.settings import Config


def _data_dir(value: str) -> None:
    if not value.strip() or "\0" in value:
        raise ValueError("expected a directory, such as var or /var/lib/grillo-dispatcher")


def _database_url(value: str) -> None:
    wanted = "expected postgresql://user:password@host:port/name, or nothing for the embedded server"
    if not value:
        return
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise ValueError(wanted) from None
    if (
        parts.scheme not in {"postgresql", "postgres"}
        or port == 0
        or not value.startswith(f"{parts.scheme}://")
    ):
        raise ValueError(wanted)


def _networks(value: tuple[str, ...]) -> None:
    for text in value:
        try:
            ipaddress.ip_network(text)
        except ValueError:
            try:
                meant = ipaddress.ip_network(text, strict=False)
            except ValueError:
                raise ValueError(f"{text!r} is no network in CIDR notation, such as 10.20.0.0/16") from None
            raise ValueError(f"{text!r} names a host inside its network; write {meant}") from None


def _proxy_url(value: str) -> None:
    wanted = "expected http://host:port or http://user:password@host:port, or nothing to connect directly"
    if not value:
        return
    try:
        parts = urlsplit(value)
        port, host = parts.port, parts.hostname
    except ValueError:
        raise ValueError(wanted) from None
    if (
        parts.scheme != "http"
        or not host
        or not port
        or parts.path not in {"", "/"}
        or parts.query
        or parts.fragment
        or not value.isascii()
        or not value.isprintable()
        or " " in value
    ):
        raise ValueError(wanted)


def _tracing_endpoint(value: str) -> None:
    wanted = "expected the URL of an OTLP/HTTP collector, such as http://127.0.0.1:4318/v1/traces, or nothing"
    if not value:
        return
    try:
        parts = urlsplit(value)
        valid = parts.port != 0 and parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        raise ValueError(wanted) from None
    if not valid or not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError(wanted)
    if parts.username is not None or parts.password is not None:
        raise ValueError("expected no user or password in it: OTEL_EXPORTER_OTLP_HEADERS carries credentials")


def _encryption_key(value: str) -> None:
    if not value:
        return
    try:
        size = len(base64.b64decode(value, validate=True))
    except (binascii.Error, ValueError):
        size = -1
    if size != 32:
        raise ValueError("expected 32 bytes in base64; make one with: openssl rand -base64 32")


RULES: Final[Mapping[str, Callable[[Any], object]]] = {
    "data_dir": _data_dir,
    "database.url": _database_url,
    "api.listen": listen_address,
    "ops.listen": listen_address,
    "delivery.allowed_networks": _networks,
    "delivery.proxy_url": _proxy_url,
    "tracing.endpoint": _tracing_endpoint,
    "secrets.encryption_key": _encryption_key,
    "secrets.previous_encryption_key": _encryption_key,
}


def disagreements(config: Config) -> Iterator[str]:
    """Name the keys that do not go together, a sentence for each finding."""
    delivery, tail = config.delivery, config.tail
    if delivery.connect_timeout_s > delivery.timeout_s:
        yield (
            f"delivery.connect_timeout_s: expected at most delivery.timeout_s ({delivery.timeout_s:g}),"
            f" which covers the connect too, got {delivery.connect_timeout_s:g}"
        )
    if delivery.keep_response_bytes > delivery.max_response_bytes:
        yield (
            f"delivery.keep_response_bytes: expected at most delivery.max_response_bytes"
            f" ({delivery.max_response_bytes}), since no more is read, got {delivery.keep_response_bytes}"
        )
    secrets = config.secrets
    if secrets.previous_encryption_key and not secrets.encryption_key:
        yield "secrets.previous_encryption_key: expected secrets.encryption_key beside it, the new key"
    if tail.busy_poll_ms > tail.idle_poll_ms:
        yield (
            f"tail.busy_poll_ms: expected at most tail.idle_poll_ms ({tail.idle_poll_ms:g}),"
            f" got {tail.busy_poll_ms:g}"
        )
    if config.tracing.propagate and not config.tracing.endpoint:
        yield (
            "tracing.propagate: expected tracing.endpoint beside it:"
            " receivers would be told of spans that nobody has"
        )
    if config.api.listen == config.ops.listen and listen_address(config.ops.listen)[1] != 0:
        yield f"ops.listen: expected another address than api.listen, got {config.ops.listen} for both"
