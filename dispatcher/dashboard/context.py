"""What the dashboard works with: made by the composition root, read by every page."""

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
class DashboardContext:
    """Everything that a page may need."""

    database: Database
    vault: Vault
    ids: DeliveryIds
    config: Config
    policy: AddressPolicy
