"""Loads `sql/*.sql`: every statement of the dispatcher, by name.

A statement begins at a line `-- name: what it is for` and ends at the next one. Statements are static
text: values are parameters, names are never composed.
"""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Final

_HEAD: Final = re.compile(r"^-- ([a-z_0-9]+): (.+)$", re.MULTILINE)


def _load() -> dict[str, str]:
    queries: dict[str, str] = {}
    for source in sorted((files("dispatcher.store") / "sql").iterdir(), key=lambda entry: entry.name):
        text = source.read_text(encoding="utf-8")
        heads = list(_HEAD.finditer(text))
        for head, following in zip(heads, [*heads[1:], None], strict=True):
            name = head.group(1)
            if name in queries:
                raise ValueError(f"sql/{source.name}: {name} stands twice")
            queries[name] = text[head.start() : following.start() if following else len(text)].strip()
    return queries


QUERIES: Final[dict[str, str]] = _load()
