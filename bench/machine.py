"""What a measurement ran on: cores to pin to, and the CPU time that processes have used."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
from collections.abc import Collection
from importlib.metadata import version
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).parents[1]
_USABLE: Final = sorted(os.sched_getaffinity(0))  # before anything was pinned
_TICKS_A_SECOND: Final = os.sysconf("SC_CLK_TCK")


def cores() -> tuple[int, int]:
    """Give the core of what is measured and the core of everything else; the same where there is only one."""
    return _USABLE[0], _USABLE[-1]


def cpu_s(pid: int) -> float:
    """Give the CPU time that a process and its reaped children have used, in seconds."""
    # Behind the name, which may hold anything: fields 14 to 17 are utime, stime and those of children.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS_A_SECOND


def family_cpu_s(pid: int) -> float:
    """Give the CPU time of a process and of all its children, those that have ended included."""
    total = cpu_s(pid)
    for child in _children(pid):
        with contextlib.suppress(FileNotFoundError):  # it ended just now, and counts from the next look on
            total += cpu_s(child)
    return total


def confine_family(pid: int, to: Collection[int]) -> None:
    """Let a process, its children and all that they start from now on run on these cores only."""
    os.sched_setaffinity(pid, to)
    for child in _children(pid):
        with contextlib.suppress(ProcessLookupError):  # it ended just now
            os.sched_setaffinity(child, to)


def _children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for children in found for child in children.read_text(encoding="ascii").split()]


def machine_name() -> str:
    """Describe the hardware, without saying whose it is."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)
    memory_kib = int(Path("/proc/meminfo").read_text(encoding="ascii").split()[1])
    return f"{os.cpu_count()} cores, {model or platform.machine()}, {memory_kib / 2**20:.0f} GiB"


def software_names() -> str:
    """Name the versions that matter, PostgreSQL's aside."""
    packages = ", ".join(
        f"{name} {version(name)}" for name in ("aiohttp", "asyncpg", "httptools", "msgspec", "uvloop")
    )
    return f"Linux {platform.release().partition('-')[0]}, Python {platform.python_version()}, {packages}"


def commit_name() -> str:
    """Name the commit that was measured, and say when the tree differs from it."""
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"],
            cwd=_ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown (no git checkout)"
