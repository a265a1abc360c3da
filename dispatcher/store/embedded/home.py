"""Where a cluster lives: in data_dir, or beside the system's state when PostgreSQL's user cannot enter that.

    data_dir/lock  pgpass  port  postgres.log  postgresql/ (the cluster)  programs-18.4/ (if copied)

When root runs the dispatcher in a directory that PostgreSQL's user cannot enter, all of this stands in
`/var/lib/grillo-dispatcher/<name>-<hash of the path>` and `data_dir/moved-to` says so. No directory that
existed before is ever opened to others.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dispatcher.store.embedded.errors import EmbeddedError
from dispatcher.store.embedded.identity import Identity, server_identity

STATE_DIR: Final = Path("/var/lib/grillo-dispatcher")
CLUSTER: Final = "postgresql"
LOCK: Final = "lock"
_POINTER: Final = "moved-to"
ADDRESS: Final = "127.0.0.1"
USER: Final = "grillo"
DATABASE: Final = "grillo"
PORTS: Final = range(20_000, 32_000)  # below those that the kernel gives to outgoing connections


@dataclass(frozen=True)
class Home:
    """The files beside one cluster, and the user that PostgreSQL runs as."""

    path: Path
    identity: Identity

    @property
    def cluster(self) -> Path:
        """PostgreSQL's own data directory."""
        return self.path / CLUSTER

    @property
    def lock(self) -> Path:
        """What its owner holds; there before the cluster is."""
        return self.path / LOCK

    @property
    def pgpass(self) -> Path:
        """The password, in the form that psql's PGPASSFILE wants; 0600."""
        return self.path / "pgpass"

    def cluster_major(self) -> int | None:
        """Read the version that made the cluster; None when there is none yet."""
        return int((self.cluster / "PG_VERSION").read_text()) if self.cluster.exists() else None

    def password(self) -> str:
        """Return the superuser's password; made once, before the cluster."""
        if not self.pgpass.exists():
            if self.cluster.exists():
                raise EmbeddedError(f"{self.pgpass} is missing: the password of {self.cluster} was in it")
            write_private(self.pgpass, f"*:*:*:{USER}:{secrets.token_urlsafe(24)}\n")
        return self.pgpass.read_text().strip().rpartition(":")[2]

    def url(self, port: int, database: str = DATABASE) -> str:
        """Build the way in, password included."""
        return f"postgresql://{USER}:{self.password()}@{ADDRESS}:{port}/{database}"

    def kept_port(self) -> int:
        """Read the port of the last start; 0 before the first."""
        path = self.path / "port"
        return int(path.read_text()) if path.exists() else 0

    def choose_port(self, configured: int) -> int:
        """Take `configured` (raises if it is taken), else the last one, else a free one, and keep it."""
        kept = self.kept_port()
        if configured and not _free(configured):
            raise EmbeddedError(f"port {configured} (database.port) is taken by another program")
        port = configured or (kept if kept and _free(kept) else _any_free())
        if port != kept:
            write_private(self.path / "port", f"{port}\n")
        return port


def has_home(data_dir: Path) -> bool:
    """Say whether a cluster of `data_dir` was made, or is being made by somebody; makes nothing itself."""
    path = data_dir.expanduser().resolve()
    path = _moved_to(path) or path
    return (path / CLUSTER).exists() or (path / LOCK).exists()


def find_home(data_dir: Path) -> Home:
    """Decide where the cluster of `data_dir` lives, and make that directory; the same answer every time."""
    data_dir = data_dir.expanduser().resolve()
    _make(data_dir)
    moved_to = _moved_to(data_dir)
    if moved_to is not None:
        return Home(moved_to, server_identity(moved_to / CLUSTER))
    identity = server_identity(data_dir / CLUSTER)
    if not identity.switched or (data_dir / CLUSTER).exists() or identity.can_enter(data_dir):
        return Home(data_dir, identity)
    path = STATE_DIR / f"{data_dir.name}-{hashlib.sha256(bytes(data_dir)).hexdigest()[:12]}"
    _make(STATE_DIR)
    _make(path)
    identity = server_identity(path / CLUSTER)
    if not identity.can_enter(path):
        raise EmbeddedError(
            f"{identity.name}, who runs PostgreSQL for root, can enter neither {data_dir} nor {path}"
        )
    write_private(data_dir / _POINTER, f"{path}\n")
    return Home(path, identity)


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600, whole or not at all, also across a power cut."""
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _moved_to(data_dir: Path) -> Path | None:
    """Read where the cluster of `data_dir` went; None where it lives there itself."""
    pointer = data_dir / _POINTER
    return Path(pointer.read_text().strip()) if pointer.exists() else None


def _make(path: Path) -> None:
    """Make `path` if it is not there; as root, one that another user can pass but not read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        return
    if os.geteuid() == 0:
        path.chmod(0o711)


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError:
            return False
    return True


def _any_free() -> int:
    for _ in range(1000):
        if _free(port := secrets.choice(PORTS)):
            return port
    raise EmbeddedError(f"no free port between {PORTS[0]} and {PORTS[-1]} on {ADDRESS}")
