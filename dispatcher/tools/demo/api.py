"""What the demo asks of the management API, by HTTP, as a user would."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dispatcher.core.errors import OperatorError

if TYPE_CHECKING:
    import aiohttp


class ManagementApi:
    """The API under one key."""

    def __init__(self, session: aiohttp.ClientSession, base_url: str, key: str) -> None:
        self._session = session
        self._base_url = base_url
        self._headers = {"Authorization": f"Bearer {key}"}

    async def create_webhook(self, url: str, events: list[str], secret: str | None) -> tuple[str, str]:
        """Register a webhook; give its id and its secret, which the API made if none was given."""
        wanted: dict[str, Any] = {"url": url, "events": events}
        if secret is not None:
            wanted["secret"] = secret
        async with self._session.post(
            f"{self._base_url}/v1/webhooks", json=wanted, headers=self._headers
        ) as response:
            if response.status != 201:
                raise OperatorError(f"POST /v1/webhooks answered {response.status}: {await response.text()}")
            webhook: dict[str, Any] = (await response.json())["data"]
        return webhook["id"], secret if secret is not None else webhook["secret"]
