"""Which settings differ between two configurations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dispatcher.config.sources import KEYS

if TYPE_CHECKING:
    from dispatcher.config.settings import Config


def changed(before: Config, after: Config) -> list[str]:
    """Give the dotted keys that differ; never their values, which may be secret."""
    return [key for key in KEYS if _value(before, key) != _value(after, key)]


def _value(config: Config, key: str) -> object:
    section, _, name = key.rpartition(".")
    return getattr(getattr(config, section) if section else config, name)
