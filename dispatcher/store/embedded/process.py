"""A child process of PostgreSQL's, started without asyncio's child watchers: the same on every loop."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Final, Self

from dispatcher.store.embedded import child

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dispatcher.store.embedded.identity import Identity

POLL_S: Final = 0.05  # between two looks whether the process has ended
STOP_LADDER: Final = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 5.0))  # fast first
MAX_OUTPUT_BYTES: Final = 16 * 1024 * 1024
KEPT_BYTES: Final = 1024 * 1024


class Output:
    """A log file that programs append to, bounded: past 16 MiB only its last MiB is kept."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        self._mark = 0

    def fileno(self) -> int:
        """Return the descriptor, which also survives the file's removal."""
        return self._descriptor

    def mark(self) -> None:
        """Remember where the next program's output begins."""
        self._mark = os.fstat(self._descriptor).st_size

    def tail(self, lines: int = 6) -> str:
        """Read the last lines since the mark."""
        start = max(self._mark, os.fstat(self._descriptor).st_size - KEPT_BYTES)
        text = os.pread(self._descriptor, KEPT_BYTES, start).decode(errors="replace")
        return "\n".join(text.strip().splitlines()[-lines:])

    def trim(self) -> None:
        """Shorten the file once it is too long; a line written at this very moment may be lost."""
        if (size := os.fstat(self._descriptor).st_size) > MAX_OUTPUT_BYTES:
            kept = os.pread(self._descriptor, KEPT_BYTES, size - KEPT_BYTES)
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, kept)
            self._mark = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


class Child:
    """A running program of PostgreSQL's; ends when the thread that made it ends."""

    def __init__(
        self,
        command: Sequence[str | Path],
        identity: Identity,
        output: Output,
        *,
        death_signal: signal.Signals,
        told: str = "",
    ) -> None:
        """Start `command`; `told` are a few lines for it to read.

        To be called from the main thread, since its end would take the child with it.
        """
        uid, gid = (identity.uid, identity.gid) if identity.switched else (-1, -1)
        numbers = (os.getpid(), int(death_signal), uid, gid)
        self.output = output
        output.mark()
        self._process = subprocess.Popen(  # noqa: S603, paths of our own choosing, no shell
            [sys.executable, "-I", "-S", str(child.__file__), *map(str, numbers), *map(str, command)],
            stdin=subprocess.PIPE if told else subprocess.DEVNULL,
            stdout=output.fileno(),
            stderr=output.fileno(),
            cwd="/",
            env=_environment(),
            start_new_session=True,  # Ctrl-C is the dispatcher's to hear; it stops PostgreSQL last
        )
        self.pid = self._process.pid
        if self._process.stdin is not None:
            with self._process.stdin as lines:
                lines.write(told.encode())

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    async def ended(self) -> int:
        """Wait for its end; the exit status, negative for a signal."""
        while (status := self._process.poll()) is None:
            self.output.trim()
            await asyncio.sleep(POLL_S)
        return status

    async def stop(self) -> None:
        """End it: a fast shutdown with a checkpoint, then ever less politely."""
        for number, patience_s in STOP_LADDER:
            if not self.running:
                return
            self._process.send_signal(number)
            try:
                async with asyncio.timeout(patience_s):
                    await self.ended()
            except TimeoutError:
                continue


def _environment() -> dict[str, str]:
    """Nothing of ours: PGPORT, PGDATA or a locale would change what PostgreSQL does."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC", **kept}
