"""Configuration: one frozen struct, read from a file, the environment and systemd's credentials."""

from dispatcher.config.difference import changed
from dispatcher.config.listen import listen_address
from dispatcher.config.redaction import redacted, without_password
from dispatcher.config.settings import (
    FILES_BESIDE_REQUESTS,
    Api,
    Config,
    Database,
    Delivery,
    Log,
    Ops,
    Retention,
    Secrets,
    Tail,
    Tracing,
)
from dispatcher.config.sources import CREDENTIALS, ConfigError, load

__all__ = [
    "CREDENTIALS",
    "FILES_BESIDE_REQUESTS",
    "Api",
    "Config",
    "ConfigError",
    "Database",
    "Delivery",
    "Log",
    "Ops",
    "Retention",
    "Secrets",
    "Tail",
    "Tracing",
    "changed",
    "listen_address",
    "load",
    "redacted",
    "without_password",
]
