"""Packages of npm that tests use: what a folder's `package-lock.json` names, installed into that folder."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path


def program(name: str) -> str:
    """Find `node` or `npm`."""
    found = shutil.which(name)
    if found is None:
        raise RuntimeError(f"this test needs Node.js 20 or newer: no `{name}` on the PATH")
    return found


def install(folder: Path) -> None:
    """Install what the lock names, once; other test processes wait for the first."""
    lock_file = folder / "package-lock.json"
    wanted = hashlib.sha256(lock_file.read_bytes()).hexdigest()
    mark = folder / "node_modules" / ".installed-from"
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        if mark.exists() and mark.read_text() == wanted:
            return
        done = subprocess.run(
            [program("npm"), "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        if done.returncode != 0:
            raise RuntimeError(f"npm ci failed in {folder}:\n{done.stderr}")
        mark.write_text(wanted)
    finally:
        os.close(held)
