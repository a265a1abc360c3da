"""The installation's constants: the key of its delivery ids, and which encryption key it uses."""

from __future__ import annotations

import msgspec

from dispatcher.core.errors import OperatorError
from dispatcher.store.transaction import Statements
from dispatcher.store.vault import Vault


class Installation(msgspec.Struct, frozen=True):
    """What never changes in a database."""

    id_key: bytes

    def __repr__(self) -> str:
        return "Installation(…)"

    @classmethod
    async def load(cls, statements: Statements, vault: Vault) -> Installation:
        """Read it; raises `OperatorError` when the secrets were sealed with another key than ours."""
        await statements.execute("adopt_key_check", vault.key_check)
        row = await statements.fetchrow("key_check")
        if row is None or not vault.knows(row[0]):
            raise OperatorError(
                "secrets.encryption_key is not the key that this database's secrets were sealed with: "
                "configure that one (without the setting, it is the file encryption.key in data_dir)"
            )
        found = await statements.fetchrow("id_key")
        if found is None:
            raise OperatorError("the database has no installation row: run `dispatcher migrate`")
        return cls(found[0])
