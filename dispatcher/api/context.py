"""What the management API works with: made by the composition root, read by every handler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dispatcher.config import Config
    from dispatcher.core.addresses import AddressPolicy
    from dispatcher.core.ids import DeliveryIds
    from dispatcher.store.connection import Database
    from dispatcher.store.vault import Vault


@dataclass(frozen=True)
class ApiContext:
    """Everything that a request may need."""

    database: Database
    vault: Vault
    ids: DeliveryIds
    config: Config
    policy: AddressPolicy
