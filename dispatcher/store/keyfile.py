"""The encryption key of an installation that configured none: a file in `data_dir`, and how it is replaced.

    encryption.key                     the key
    encryption.key  encryption.key.old while `dispatcher rekey` works: the new one, and the one before

Both are there from before the first secret is sealed under the new key until the last one is, so whatever
is interrupted in between, every secret can be opened.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import os
import secrets
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dispatcher.core.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY_BYTES: Final = 32
_NAME: Final = "encryption.key"
_OLD: Final = "encryption.key.old"


def decode_key(text: str, source: str = "secrets.encryption_key") -> bytes:
    """Read a key: 32 bytes in base64; raises `OperatorError`, which names the source."""
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise OperatorError(f"{source}: expected 32 bytes in base64 (openssl rand -base64 32)")
    return key


class KeyFile:
    """The key in `data_dir`."""

    def __init__(self, data_dir: Path) -> None:
        self.path: Final = data_dir / _NAME
        self.old: Final = data_dir / _OLD

    def read(self) -> list[bytes]:
        """Give the key and, while it is being replaced, the one before; raises `OperatorError`."""
        try:
            return [_read(self.path), *([_read(self.old)] if self.replacing else [])]
        except FileNotFoundError:  # of the one before: it was finished with at this moment
            return [_read(self.path)]

    def create(self) -> None:
        """Make a key, unless there is one. Two processes may come here at once: the first one's stays.

        Raises `OperatorError` where the directory cannot be made or written.
        """
        try:
            self._create()
        except OSError as error:
            raise OperatorError(
                f"data_dir: the encryption key cannot be kept in {self.path.parent}: {error};"
                " choose a directory that can be written, or set secrets.encryption_key"
            ) from error

    def _create(self) -> None:
        if self.path.exists():
            return
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _draft(self.path, secrets.token_bytes(KEY_BYTES)) as draft, suppress(FileExistsError):
            os.link(draft, self.path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other commands from replacing it meanwhile; raises `OperatorError` where one is at it."""
        descriptor = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise OperatorError(f"another command replaces {self.path} at this moment") from None
        finally:
            os.close(descriptor)

    @property
    def replacing(self) -> bool:
        """Whether a replacement was begun and not finished."""
        return self.old.exists()

    def replace(self, key: bytes | None = None) -> None:
        """Put a new key (without one given, a random one) in the place of the present one, which is kept."""
        os.link(self.path, self.old)
        with _draft(self.path, key or secrets.token_bytes(KEY_BYTES)) as draft:
            draft.replace(self.path)

    def finish(self) -> None:
        """Forget the key before."""
        self.old.unlink(missing_ok=True)


def _read(path: Path) -> bytes:
    try:
        return decode_key(path.read_text(encoding="ascii"), str(path))
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise OperatorError(f"{path}: the encryption key cannot be read: {error}") from error


@contextmanager
def _draft(path: Path, key: bytes) -> Iterator[Path]:
    """Write a key to a file beside `path`, durably, owned by whoever owns the present key."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(
        os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii"
    ) as file:
        file.write(base64.b64encode(key).decode() + "\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        if os.geteuid() == 0 and path.exists():  # an administrator works for the daemon's user
            owner = path.stat()
            os.chown(draft, owner.st_uid, owner.st_gid)
        yield draft
    finally:
        draft.unlink(missing_ok=True)
        _sync(path.parent)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
