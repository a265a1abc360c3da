"""A real browser before a real dispatcher: one of each for all the tests of a module."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright

from dispatcher.config import Database as DatabaseConfig
from dispatcher.dashboard.visit import BASE
from dispatcher.store import accounts
from dispatcher.store.connection import Database as Store
from tests import npm
from tests.acceptance.daemon import daemons
from tests.postgres import Database, cloned
from tests.receiver import Receiver

HERE: Final = Path(__file__).parent
CHROMIUM: Final = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
PHONE: Final[dict[str, Any]] = {"viewport": {"width": 390, "height": 844}, "has_touch": True}
DESKTOP: Final[dict[str, Any]] = {"viewport": {"width": 1280, "height": 900}}
_RULES: Final = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


@dataclass
class World:
    """A dispatcher, its database, a receiver, a browser, and axe-core's source."""

    url: str
    database: Database
    store: Store
    browser: Browser
    axe: str
    numbers: list[int] = field(default_factory=list)

    async def key(self, scopes: Sequence[str] = ("write:webhooks",)) -> str:
        """Make an organization that hears of everything, and a key of it."""
        name = f"tenant {len(self.numbers)}"
        self.numbers.append(1)
        made = await accounts.create_organization(self.store, name, network_ids=["*"])
        assert made is not None
        key = await accounts.create_key(self.store, name, scopes=scopes, name="on call")
        assert key is not None
        return key.key

    @asynccontextmanager
    async def visitor(self, key: str | None = None, **options: Any) -> AsyncIterator[Visitor]:
        """Open a window of its own; `options` are those of Playwright's contexts. Complaints fail."""
        context = await self.browser.new_context(**{"locale": "en-GB", **DESKTOP, **options})
        context.set_default_timeout(15_000)
        page = await context.new_page()
        visitor = Visitor(self, page)
        page.on("pageerror", lambda error: visitor.complaints.append(str(error)))
        page.on("dialog", lambda dialog: visitor.complaints.append(f"dialog: {dialog.message}"))
        page.on(
            "console",
            lambda line: visitor.complaints.append(line.text) if "Content Security" in line.text else None,
        )
        try:
            if key is not None:
                await visitor.log_in(key)
            yield visitor
            assert [] == visitor.complaints
        finally:
            await context.close()


@dataclass
class Visitor:
    """Somebody before the browser."""

    world: World
    page: Page
    complaints: list[str] = field(default_factory=list)

    async def go(self, path: str = BASE) -> None:
        """Open an address."""
        await self.page.goto(self.world.url + path)

    async def log_in(self, key: str) -> None:
        """Enter a key at the entrance."""
        await self.go()
        await self.page.fill("#key", key)
        await self.page.keyboard.press("Enter")
        await self.page.wait_for_url(f"**{BASE}")

    async def sees(self, *texts: str) -> None:
        """Wait until the page shows these texts."""
        for text in texts:
            await self.page.locator("main").get_by_text(text).first.wait_for()

    async def press(self, name: str) -> None:
        """Press the button, or follow the link, of this name."""
        found = self.page.locator("main").get_by_role("button", name=name, exact=True)
        link = self.page.locator("main").get_by_role("link", name=name, exact=True)
        await found.or_(link).first.click()

    async def add(self, url: str) -> str:
        """Add a webhook and give the path of its page."""
        await self.go(f"{BASE}/new")
        await self.page.fill("#url", url)
        await self.page.locator("main button.primary").click()
        await self.page.locator("#secret").wait_for()
        href = await self.page.locator(".back a").get_attribute("href")
        assert href is not None
        return href

    async def is_sound(self) -> None:
        """Check with axe-core, and that nothing sticks out at the side."""
        await self.page.evaluate(self.world.axe)
        found = await self.page.evaluate("rules => axe.run(document, rules)", _RULES)
        assert [] == [
            (one["id"], [node["html"][:200] + " " + node["failureSummary"] for node in one["nodes"]])
            for one in found["violations"]
        ], self.page.url
        widths = await self.page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        assert widths[0] <= widths[1], self.page.url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(
    postgres_server: str, template_database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    """Start everything."""
    if CHROMIUM is None:
        pytest.skip("no chromium on the PATH")
    if shutil.which("npm") is None:
        pytest.skip("no npm on the PATH, with which axe-core is installed")
    npm.install(HERE)
    axe = (HERE / "node_modules" / "axe-core" / "axe.min.js").read_text("utf-8")
    folder = tmp_path_factory.mktemp("dispatcher")
    async with (
        cloned(postgres_server, template_database) as database,
        daemons(database.url, folder, DELIVERY__RETRY_DELAYS_S="0.1,0.1,0.1") as house,
        async_playwright() as playwright,
    ):
        daemon = await house.start()
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=arguments)
        store = Store(database.url, DatabaseConfig())
        try:
            yield World(daemon.address("api"), database, store, browser, axe)
        finally:
            await store.close()
            await browser.close()
        assert [] == house.complaints()


@pytest_asyncio.fixture(loop_scope="module")
async def receiver() -> AsyncIterator[Receiver]:
    """Run a receiver that answers 200, until told otherwise."""
    async with Receiver() as running:
        yield running
