"""The encryption key: whether it is here, fits the database, and is for its owner only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from dispatcher.diagnosis.finding import Finding, fail, ok, skipped, warn, words
from dispatcher.store.keyfile import KeyFile
from dispatcher.store.vault import configured_vault

if TYPE_CHECKING:
    from dispatcher.config import Config

KeyState = Literal["none here", "not used yet", "matches", "differs"]
_OTHERS: Final = 0o077


def key_state(config: Config, key_check: bytes | None) -> KeyState:
    """Compare our encryption key with the database's, without making one where there is none."""
    if not config.secrets.encryption_key and not KeyFile(Path(config.data_dir)).path.exists():
        return "none here"
    if key_check is None:
        return "not used yet"
    return "matches" if configured_vault(config).knows(key_check) else "differs"


def examine_key(config: Config, key_check: bytes | None) -> Finding:
    """Judge it."""
    file = KeyFile(Path(config.data_dir)).path
    state = key_state(config, key_check)
    if state == "none here":
        return skipped(
            "encryption_key",
            words("no key is configured for this command; the daemon's may be a credential of its own"),
        )
    if state == "differs":
        return fail(
            "encryption_key",
            words("it is not the one that the database's secrets were sealed with"),
            words("Set secrets.encryption_key to that one: without it nothing can be signed."),
        )
    if not config.secrets.encryption_key:
        if file.stat().st_mode & _OTHERS:
            return warn(
                "encryption_key",
                words("{file} can be read by others than its owner", file=file),
                words("chmod 600 {file}", file=file),
            )
        return warn(
            "encryption_key",
            words("it is kept in {file}, and nowhere else that the dispatcher knows of", file=file),
            words("Keep a copy in a safe place: without it, secrets in a backup cannot be read."),
        )
    if state == "not used yet":
        return ok("encryption_key", words("one is configured; the database holds no secret yet"))
    return ok("encryption_key", words("it is the one that the database's secrets were sealed with"))
