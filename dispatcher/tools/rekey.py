"""`dispatcher rekey`: replaces the key that the webhooks' secrets are encrypted with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dispatcher.core.errors import OperatorError
from dispatcher.store.keyfile import KeyFile, decode_key
from dispatcher.store.rekey import leads
from dispatcher.store.rekey import rekey as reseal
from dispatcher.store.vault import Vault, configured_vault
from dispatcher.tools.session import open_database
from dispatcher.tools.terminal import complain, result

if TYPE_CHECKING:
    from dispatcher.config import Config
    from dispatcher.store.connection import Database


async def rekey(config: Config, new_key_file: str | None, *, as_json: bool = False) -> int:
    """Seal everything under the new key; raises `OperatorError` where it cannot be told which one that is."""
    given = _key_in(Path(new_key_file)) if new_key_file is not None else None
    async with open_database(config) as database:
        if config.secrets.encryption_key:
            changed = await _configured(config, database, given)
        else:
            changed = await _kept_in_a_file(KeyFile(Path(config.data_dir)), database, given)
    words = f"{changed} webhooks: secrets and headers are sealed under the new key"
    result({"webhooks": changed}, words, as_json=as_json)
    return 0


async def _configured(config: Config, database: Database, given: bytes | None) -> int:
    known = config.secrets
    present = decode_key(known.encryption_key)
    if given is None:
        if not known.previous_encryption_key:
            raise OperatorError(
                "which key is the new one? Set secrets.encryption_key to it and "
                "secrets.previous_encryption_key to the present one, or name --new-key-file"
            )
        vault = configured_vault(config)
    else:
        others = (decode_key(text) for text in (known.previous_encryption_key,) if text)
        vault = Vault(given, present, *others)
        if given != present and await leads(database):
            raise OperatorError(
                "a dispatcher is running, and cannot read what is sealed with a key that it does not have: "
                "stop it, or give it both keys (secrets.previous_encryption_key) and leave --new-key-file out"
            )
    changed = await reseal(database, vault)
    if given is None:
        complain("once every dispatcher runs with the new key, remove secrets.previous_encryption_key")
    else:
        complain("now set secrets.encryption_key to the new key, before `dispatcher serve` is started")
    return changed


async def _kept_in_a_file(file: KeyFile, database: Database, given: bytes | None) -> int:
    """Replace the key in `data_dir`, or finish what was interrupted; a running daemon reads it again."""
    file.create()
    with file.locked():
        keys = file.read()
        if file.replacing and len(set(keys)) == 1:  # interrupted before there was a new key
            file.finish()
        if file.replacing:
            if given not in {None, keys[0]}:
                raise OperatorError(
                    f"{file.path} was being replaced by another key: `dispatcher rekey` finishes that first"
                )
        else:
            await reseal(database, Vault(keys[0]))  # the key must be the right one before it is replaced
            file.replace(given)
        changed = await reseal(database, Vault(*file.read()))
        file.finish()
    complain(f"the key is in {file.path}; backups of the database from before need the one before")
    return changed


def _key_in(path: Path) -> bytes:
    try:
        return decode_key(path.read_text(encoding="ascii"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise OperatorError(f"--new-key-file {path}: cannot be read: {error}") from error
