"""What was told of each earthquake of a feed, kept in a file between two looks at it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from dispatcher.core.errors import OperatorError

_MOST: Final = 10_000  # earthquakes; the ones that were told of longest ago are forgotten


class Known:
    """The parameters of each earthquake as they were told last, by event id."""

    def __init__(self, path: Path) -> None:
        """Read the file; one that is not there yet is empty. Raises `OperatorError`."""
        self._path = path
        self._told: dict[str, Mapping[str, Any]] = {}
        self.doubtful = False  # set where the database refused something
        try:
            if path.exists():
                for line in path.read_text(encoding="utf-8").splitlines():
                    data = json.loads(line)
                    self._told[data["event_id"]] = data
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise OperatorError(f"{path}: cannot be read as what --known wrote: {error}") from error

    def changes(self, event_id: str, data: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Note what is told now and give how it differs from what was; None of an earthquake that is new."""
        before = self._told.pop(event_id, None)
        self._told[event_id] = data
        if before is None:
            return None
        return {
            name: {"old": before.get(name), "new": value}
            for name, value in data.items()
            if before.get(name) != value
        }

    def version(self, event_id: str) -> str:
        """Name what is told now, so that a look that was broken off and repeated inserts nothing twice."""
        told = json.dumps(self._told[event_id], sort_keys=True).encode()
        return f"{event_id} {hashlib.sha256(told).hexdigest()[:16]}"

    def save(self) -> None:
        """Write the file anew, whole or not at all; raises `OperatorError`.

        Where the database refused something nothing is saved: the next look finds the same, and what was
        inserted is there already by its dedup_key.
        """
        if self.doubtful:
            return
        lines = [json.dumps(data, ensure_ascii=False) + "\n" for data in list(self._told.values())[-_MOST:]]
        beside = self._path.with_name(f"{self._path.name}.new")
        try:
            beside.write_text("".join(lines), encoding="utf-8")
            beside.replace(self._path)
        except OSError as error:
            raise OperatorError(f"{self._path}: cannot be written: {error.strerror}") from error
