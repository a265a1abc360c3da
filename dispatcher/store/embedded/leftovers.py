"""What an earlier start may have left: a server that is still going down, backends without one, a stale file.

How this works. The caller owns the directory's lock, so whatever still runs in it has lost its owner. A
postmaster is asked to stop and waited for. Backends whose postmaster was killed hold the shared memory,
and PostgreSQL refuses to start until they are gone: they notice by themselves, but one in the middle of a
long statement only at its end, so they are helped after a while. `postmaster.pid` is only removed when
its number now belongs to some other program (usual after a container's restart, where numbers repeat).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dispatcher.store.embedded.errors import EmbeddedError
from dispatcher.store.embedded.process import POLL_S, STOP_LADDER

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

# Signal 0 only looks: backends usually go by themselves.
ORPHAN_LADDER: Final = ((0, 1.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))


async def clear_leftovers(cluster: Path, log: FilteringBoundLogger) -> None:
    """Return once no PostgreSQL works in `cluster` and its pid file cannot mislead a new one."""
    postmaster = _recorded_pid(cluster)
    running = processes_in(cluster)
    ladder = STOP_LADDER if postmaster in running else ORPHAN_LADDER
    for number, patience_s in ladder:
        if not running:
            break
        log.warning("postgresql_leftovers", processes=len(running), signal=int(number))
        for pid in {postmaster} & running or running:
            with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                os.kill(pid, number)
        running = await _gone(cluster, patience_s)
    if running:
        raise EmbeddedError(f"processes {sorted(running)} still work in {cluster} and do not end")
    if postmaster and _is_another_program(postmaster):
        log.warning("postgresql_stale_pid_file", pid=postmaster)
        (cluster / "postmaster.pid").unlink()


def processes_in(cluster: Path) -> set[int]:
    """Find the PostgreSQL processes that work in `cluster`: each one of a server does."""
    cluster = cluster.resolve()
    return {int(entry.name) for entry in Path("/proc").glob("[0-9]*") if _works_in(entry, cluster)}


async def _gone(cluster: Path, patience_s: float) -> set[int]:
    """Wait until nothing works in `cluster`; what does after `patience_s`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience_s
    while running := processes_in(cluster):
        if loop.time() >= deadline:
            break
        await asyncio.sleep(POLL_S)
    return running


def _recorded_pid(cluster: Path) -> int:
    """Read the first line of postmaster.pid; 0 without one."""
    try:
        return int((cluster / "postmaster.pid").read_text().split("\n", 1)[0] or 0)
    except FileNotFoundError:
        return 0


def _works_in(entry: Path, cluster: Path) -> bool:
    try:
        return (entry / "comm").read_text() == "postgres\n" and (entry / "cwd").readlink() == cluster
    except OSError:  # it has just ended, or belongs to somebody else
        return False


def _is_another_program(pid: int) -> bool:
    """Whether `pid` is alive and no PostgreSQL; where processes are hidden, PostgreSQL itself decides."""
    try:
        return Path(f"/proc/{pid}/comm").read_text() != "postgres\n"
    except OSError:
        return False
