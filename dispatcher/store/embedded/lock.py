"""Who owns the cluster of a directory: one process at a time, by a lock that dies with it."""

from __future__ import annotations

import asyncio
import fcntl
import os
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from dispatcher.store.embedded.errors import InUseError

if TYPE_CHECKING:
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

Role = Literal["daemon", "command"]
POLL_S: Final = 0.05  # a file lock cannot be waited for with a deadline


class Holder(NamedTuple):
    """Who wrote itself into the lock file; only worth something while the lock is held."""

    pid: int
    role: str


class OwnerLock:
    """An flock on `path`; the kernel releases it however the process ends. The file itself stays."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def try_take(self, role: Role) -> bool:
        """Take it if nobody has it."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        os.truncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()} {role}\n".encode())
        self._descriptor = descriptor
        return True

    async def take(self, role: Role, wait_s: float, log: FilteringBoundLogger) -> None:
        """Take it, waiting at most `wait_s`; raises `InUseError` that names the holder."""
        said = False
        deadline = asyncio.get_running_loop().time() + wait_s
        while not self.try_take(role):
            holder = self.holder()
            if asyncio.get_running_loop().time() >= deadline:
                raise InUseError(
                    f"{self._path.parent} is in use by process {holder.pid} ({holder.role}): "
                    "stop it, wait for it, or choose another data_dir"
                )
            if not said:
                log.info("postgresql_waiting", path=str(self._path), holder=holder.pid, role=holder.role)
                said = True
            await asyncio.sleep(POLL_S)

    def holder(self) -> Holder:
        """Read what the file says; pid 0 before its owner has written."""
        pid, _, role = self._path.read_text().strip().partition(" ")
        return Holder(int(pid or 0), role or "starting")

    def release(self) -> None:
        """Give it back; nothing happens when it is not held."""
        if self._descriptor is not None:
            os.truncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None
