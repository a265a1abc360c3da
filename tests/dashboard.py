"""The dashboard and the API on one free port, over a test's own database, and a visitor with a cookie jar."""

from __future__ import annotations

import html
import re
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import web

from dispatcher.api import ApiContext, create_app
from dispatcher.config import Config, Delivery
from dispatcher.config import Database as DatabaseConfig
from dispatcher.core.addresses import AddressPolicy
from dispatcher.core.ids import DeliveryIds
from dispatcher.dashboard import Dashboard, DashboardContext
from dispatcher.dashboard.live import Streams
from dispatcher.dashboard.visit import BASE
from dispatcher.store import accounts
from dispatcher.store.connection import Database as Store
from dispatcher.store.vault import Vault
from tests.management import WRITER

_HIDDEN = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)">')


@dataclass(frozen=True)
class Page:
    """One answer."""

    status: int
    headers: Mapping[str, str]
    text: str
    url: str

    @property
    def words(self) -> str:
        """What a reader sees, without markup, with single spaces."""
        return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", self.text)).split())

    @property
    def hidden(self) -> dict[str, str]:
        """The hidden fields of its forms."""
        return dict(_HIDDEN.findall(self.text))


@dataclass(frozen=True)
class House:
    """A running dashboard."""

    context: DashboardContext
    url: str

    async def key(self, scopes: Sequence[str] = WRITER, **more: Any) -> str:
        """Make an API key."""
        made = await accounts.create_key(self.context.database, scopes=scopes, **more)
        assert made is not None
        return made.key

    @asynccontextmanager
    async def visitor(
        self, scopes: Sequence[str] = WRITER, key: str | None = None, **headers: str
    ) -> AsyncIterator[Visitor]:
        """Give somebody who is logged in; without scopes nobody is."""
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(cookie_jar=jar, headers=headers) as session:
            visitor = Visitor(self, session)
            if key or scopes:
                entered = await visitor.log_in(key or await self.key(scopes))
                assert 200 == entered.status, entered.words
            yield visitor


@dataclass(frozen=True)
class Visitor:
    """A browser without a screen."""

    house: House
    session: aiohttp.ClientSession

    async def get(self, path: str, *, follow: bool = True) -> Page:
        """Load a page."""
        async with self.session.get(self.house.url + path, allow_redirects=follow) as response:
            return Page(response.status, response.headers, await response.text(), str(response.url))

    async def post(
        self,
        path: str,
        fields: Any = (),
        *,
        follow: bool = True,
        guarded: bool = True,
        headers: Mapping[str, str] | None = None,
    ) -> Page:
        """Send a form, with the hidden fields of the list's page unless it is to go without."""
        form: list[tuple[str, str]] = list(fields.items() if isinstance(fields, dict) else fields)
        if guarded:
            page = await self.get(BASE)
            given = dict(form)
            form += [(name, value) for name, value in page.hidden.items() if name not in given]
            form += [("once", secrets.token_hex(16))] if "once" not in dict(form) else []
        async with self.session.post(
            self.house.url + path, data=form, allow_redirects=follow, headers=headers
        ) as response:
            return Page(response.status, response.headers, await response.text(), str(response.url))

    async def log_in(self, key: str) -> Page:
        """Enter a key at the entrance."""
        return await self.post("/settings/login", {"key": key, "next": BASE}, guarded=False)

    async def add(self, url: str = "https://receiver.example/hook", *events: str, **fields: str) -> Page:
        """Add a webhook and give the page that shows its secret."""
        wanted = [("url", url), *fields.items(), *(("events", one) for one in events or ("event.detected",))]
        return await self.post(BASE, wanted)

    async def new_webhook(self, *given: str, **fields: str) -> str:
        """Add a webhook and give its id."""
        page = await self.add(*given, **fields)
        assert 201 == page.status, page.words
        found = re.search(r"whk_\w{26}", page.text)
        assert found is not None
        return found[0]


@asynccontextmanager
async def dashboard(
    url: str, config: Config | None = None, streams: Streams | None = None
) -> AsyncIterator[House]:
    """Run the dashboard over the database at `url`."""
    config = config or Config(delivery=Delivery(require_https=True))
    store = Store(url, DatabaseConfig())
    row = await store.fetchrow("id_key")
    assert row is not None
    shared: dict[str, Any] = {
        "database": store,
        "vault": Vault(bytes(32)),
        "ids": DeliveryIds(row["id_key"]),
        "config": config,
        "policy": AddressPolicy(config.delivery.allowed_networks),
    }
    app = create_app(ApiContext(**shared))
    context = DashboardContext(**shared)
    Dashboard(context, streams).add_to(app)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield House(context, f"http://{host}:{port}")
    finally:
        await runner.cleanup()
        await store.close()
