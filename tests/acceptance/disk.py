"""A small disk for PostgreSQL, to be filled up under it."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZE_MB: Final = 220
SMALL_WAL: Final = {"min_wal_size": "32MB", "max_wal_size": "48MB"}


@contextmanager
def small_disk(directory: Path) -> Iterator[Path]:
    """Mount a small file system; skips where that is not allowed."""
    directory.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m,mode=0711", "tmpfs", directory],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", directory], check=True)


def fill(directory: Path) -> Path:
    """Leave not a byte on the disk."""
    ballast = directory / "ballast"
    with ballast.open("wb", buffering=0) as file:
        free = os.statvfs(directory).f_bavail * os.statvfs(directory).f_frsize
        for size in (65_536, 4_096, 1):
            try:
                while True:
                    file.write(bytes(min(size, max(free, 1))))
            except OSError:
                continue
    return ballast
