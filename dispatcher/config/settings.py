"""The configuration's structs: every default, unit and range.

A type carries its range and, as `description`, the words that an operator reads when a value does not
fit. `config.example.toml` holds every key with its default; a test compares the two.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

from dispatcher.config.redaction import shown

FILES_BESIDE_REQUESTS: Final = 512  # connections to PostgreSQL, lookups, listeners, clients of the API
_MONTH_S = 2_592_000

Count: TypeAlias = Annotated[int, Meta(ge=1, le=10_000_000, description="a whole number from 1 to 10000000")]
CountOrNone: TypeAlias = Annotated[
    int, Meta(ge=0, le=10_000_000, description="a whole number from 0 to 10000000")
]
Bytes: TypeAlias = Annotated[
    int, Meta(ge=1, le=1 << 40, description="a whole number of bytes from 1 to 1099511627776")
]
Seconds: TypeAlias = Annotated[
    float, Meta(gt=0, le=_MONTH_S, description="a number of seconds above 0 (at most 30 days)")
]
SecondsOrNone: TypeAlias = Annotated[
    float, Meta(ge=0, le=_MONTH_S, description="a number of seconds, 0 or more (at most 30 days)")
]
Milliseconds: TypeAlias = Annotated[
    float, Meta(gt=0, le=60_000, description="a number of milliseconds above 0, at most 60000")
]
Port: TypeAlias = Annotated[int, Meta(ge=0, le=65535, description="a port from 0 (any free one) to 65535")]
Delays: TypeAlias = Annotated[
    tuple[Seconds, ...],
    Meta(
        max_length=20, description="a list of at most 20 delays in seconds above 0, such as [60, 300, 1800]"
    ),
]
Networks: TypeAlias = Annotated[
    tuple[str, ...], Meta(description='a list of networks in CIDR notation, such as ["10.20.0.0/16"]')
]
Days: TypeAlias = Annotated[int, Meta(ge=1, le=36_500, description="a whole number of days from 1 to 36500")]
Months: TypeAlias = Annotated[int, Meta(ge=1, le=60, description="a whole number of months from 1 to 60")]


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file."""

    def __repr__(self) -> str:
        """Show everything but secrets: a configuration ends up in logs and tracebacks."""
        section = type(self).__name__.lower()
        fields = (
            f"{key}={shown(f'{section}.{key}', getattr(self, key))!r}" for key in self.__struct_fields__
        )
        return f"{type(self).__name__}({', '.join(fields)})"


class Database(_Section, frozen=True):
    """`[database]`: where PostgreSQL is."""

    url: str = ""  # postgresql://user:password@host:port/name; empty: the embedded server
    bin_dir: str = ""  # PostgreSQL's programs for the embedded server; empty: system, then wheel
    port: Port = 0  # of the embedded server; 0: any free one, kept from then on
    connect_timeout_s: Seconds = 10.0
    statement_timeout_s: Seconds = 30.0
    api_connections: Count = 8  # for the management API; the daemon's loops hold their own
    doorbell: Literal["auto", "on", "off"] = "auto"  # auto: off where prepared transactions are enabled


class Api(_Section, frozen=True):
    """`[api]`: management API."""

    listen: str = "127.0.0.1:8080"
    rate_limit_per_minute: Count = 600  # requests for each key
    max_body_bytes: Bytes = 262_144


class Ops(_Section, frozen=True):
    """`[ops]`: /metrics, /livez and /readyz, on a listener of their own."""

    listen: str = "127.0.0.1:9470"


class Delivery(_Section, frozen=True):
    """`[delivery]`: how requests are sent."""

    retry_delays_s: Delays = (60.0, 300.0, 1800.0)  # the guide: 1, 5 and 30 minutes
    retry_after_max_s: SecondsOrNone = 3600.0  # a receiver can postpone a retry by at most this
    connect_timeout_s: Seconds = 5.0
    timeout_s: Seconds = 30.0  # whole exchange, the response's body included
    max_in_flight: Count = 2000  # requests at a time
    max_in_flight_per_webhook: Count = 16
    max_queued: Count = 20_000  # deliveries held in memory; the others wait in the database
    max_queued_bytes: Bytes = 67_108_864  # bodies held in memory
    require_https: bool = True
    allowed_networks: Networks = ()  # CIDRs that may be reached although they are private
    proxy_url: str = ""  # http://user:password@host:port of an egress proxy; empty: connect directly
    max_response_bytes: Bytes = 65_536  # read at most
    keep_response_bytes: Annotated[
        int, Meta(ge=0, le=65_536, description="a whole number of bytes from 0 to 65536")
    ] = 4_096  # kept in the history
    keepalive_s: SecondsOrNone = 50.0  # idle connections are kept this long; load balancers give up at 60
    warm_connections: CountOrNone = 64  # to receivers of event.detected, open ahead: one for each origin
    drain_s: SecondsOrNone = 35.0  # at shutdown, requests in flight may take this long to end


class Tail(_Section, frozen=True):
    """`[tail]`: how the outbox is followed."""

    page_rows: Count = 1000  # outbox rows per step
    chunk_deliveries: Count = 500  # an event for more webhooks is written in chunks, this many first
    busy_poll_ms: Milliseconds = 2.0  # while rows arrive
    idle_poll_ms: Milliseconds = 100.0  # when none do, and somebody may not ring the doorbell
    idle_after_ms: Milliseconds = 50.0


class Retention(_Section, frozen=True):
    """`[retention]`: whole months are dropped, never one with an unfinished delivery."""

    days: Days = 90  # kept at least
    months_ahead: Months = 12  # partitions made in advance


class Log(_Section, frozen=True):
    """`[log]`: one line of JSON per fact, or a console for people."""

    format: Literal["auto", "console", "json"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Tracing(_Section, frozen=True):
    """`[tracing]`: OpenTelemetry, where the extra `otel` is installed."""

    endpoint: str = ""  # of an OTLP/HTTP collector, with its path; empty: off
    propagate: bool = False  # receivers get a `traceparent`
    sample_ratio: Annotated[float, Meta(ge=0, le=1, description="a number from 0 to 1")] = 1.0


class Secrets(_Section, frozen=True):
    """`[secrets]`: what must not be read by others; better given as a credential."""

    encryption_key: str = ""  # 32 bytes in base64; empty: one is made and kept in data_dir
    previous_encryption_key: str = ""  # while the key changes: what is not re-sealed yet is read with it


class Config(_Section, frozen=True):
    """The whole configuration."""

    data_dir: str = "var"  # of the embedded PostgreSQL
    database: Database = Database()
    api: Api = Api()
    ops: Ops = Ops()
    delivery: Delivery = Delivery()
    tail: Tail = Tail()
    retention: Retention = Retention()
    log: Log = Log()
    tracing: Tracing = Tracing()
    secrets: Secrets = Secrets()
