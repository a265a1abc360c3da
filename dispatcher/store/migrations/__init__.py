"""Reads the numbered migrations: `0002_name.sql` brings a database from schema version 1 to 2.

The rules that a migration keeps are in docs/how-to/upgrade.md.
"""

from __future__ import annotations

import re
from importlib.resources import files
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

_NAME: Final = re.compile(r"([0-9]{4})_[a-z0-9_]+\.sql")
_COMPATIBLE: Final = re.compile(r"^-- compatible from: ([0-9]+)$", re.MULTILINE)
FIRST: Final = 2  # version 1 is `schema.sql` of 0.1.0


class Migration(NamedTuple):
    """One step forward."""

    number: int  # the schema's version afterwards
    name: str  # of the file
    text: str
    compatible_from: int  # the oldest version whose dispatcher still works with the schema afterwards


def read_migrations(folder: Traversable | None = None) -> list[Migration]:
    """Give them in order; raises ValueError for a gap, or where one would shut out the version before it."""
    migrations: list[Migration] = []
    for entry in sorted(
        (one for one in (folder or files(__name__)).iterdir() if one.name.endswith(".sql")),
        key=lambda one: one.name,
    ):
        number, text = _NAME.fullmatch(entry.name), entry.read_text(encoding="utf-8")
        compatible = _COMPATIBLE.search(text)
        wanted = FIRST + len(migrations)
        if number is None or int(number[1]) != wanted:
            raise ValueError(f"{entry.name}: expected a name such as {wanted:04}_what_it_does.sql")
        if compatible is None or int(compatible[1]) >= wanted:
            raise ValueError(
                f"{entry.name}: expected a line `-- compatible from: N`, N at most {wanted - 1}: the version "
                "before must go on working while this one is installed"
            )
        migrations.append(Migration(wanted, entry.name, text, int(compatible[1])))
    return migrations
