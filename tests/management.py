"""The management API on a free port, over a test's own database, and a client with a key."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import web

from dispatcher.api import ApiContext, Runner, create_app
from dispatcher.config import Api, Config, Database
from dispatcher.core.addresses import AddressPolicy
from dispatcher.core.ids import DeliveryIds
from dispatcher.store import accounts
from dispatcher.store.connection import Database as Store
from dispatcher.store.vault import Vault

WRITER = ("write:webhooks",)


@dataclass(frozen=True)
class Reply:
    """One answer."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def body(self) -> dict[str, Any]:
        """The whole envelope."""
        envelope: dict[str, Any] = json.loads(self.text)
        return envelope

    @property
    def data(self) -> Any:
        """What was asked for; fails on a refusal."""
        assert "data" in self.body, self.text
        return self.body["data"]

    @property
    def code(self) -> str:
        """The error's code."""
        return str(self.body["error"]["code"])

    @property
    def details(self) -> list[tuple[str, str]]:
        """The error's details, as (field, message)."""
        return [(one["field"], one["message"]) for one in self.body["error"]["details"]]


@dataclass(frozen=True)
class Management:
    """A running API, and the key its client uses unless a request names another."""

    context: ApiContext
    base_url: str
    session: aiohttp.ClientSession
    key: str

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        raw: bytes | None = None,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send one request; `body` goes as JSON, `raw` as it is."""
        sent = {"Authorization": f"Bearer {key or self.key}", "Content-Type": "application/json"}
        content = raw if raw is not None else None if body is None else json.dumps(body).encode()
        async with self.session.request(
            method, self.base_url + path, data=content, headers={**sent, **(headers or {})}
        ) as response:
            return Reply(response.status, response.headers, await response.text())

    async def new_key(
        self, scopes: Sequence[str] = WRITER, organization: str = "default", **more: Any
    ) -> str:
        """Make a key."""
        made = await accounts.create_key(self.context.database, organization, scopes=scopes, **more)
        assert made is not None
        return made.key

    async def new_webhook(self, **fields: Any) -> dict[str, Any]:
        """Make a webhook, with something for the fields that are not given."""
        wanted = {"url": "https://receiver.example/hook", "events": ["event.detected"], **fields}
        made: dict[str, Any] = (await self.ask("POST", "/v1/webhooks", wanted)).data
        return made


@asynccontextmanager
async def management(url: str, config: Config | None = None) -> AsyncIterator[Management]:
    """Run the API over the database at `url`."""
    config = config or Config(api=Api(rate_limit_per_minute=100_000))
    store = Store(url, Database())
    row = await store.fetchrow("id_key")
    assert row is not None
    context = ApiContext(
        database=store,
        vault=Vault(bytes(32)),
        ids=DeliveryIds(row["id_key"]),
        config=config,
        policy=AddressPolicy(config.delivery.allowed_networks),
    )
    made = await accounts.create_key(store, scopes=WRITER)
    assert made is not None
    runner = Runner(create_app(context), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        timeout = aiohttp.ClientTimeout(total=30)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            yield Management(context, f"http://{host}:{port}", session, made.key)
    finally:
        await runner.cleanup()
        await store.close()
