"""The dashboard in a real browser, before a real dispatcher and a receiver that can be broken."""

from __future__ import annotations

import datetime as dt
import json
import re

import pytest
from playwright.async_api import expect

from dispatcher.dashboard.visit import BASE
from tests.browser.conftest import DESKTOP, PHONE, World
from tests.parts import DETECTED, insert
from tests.receiver import Receiver, answer

FOCUSED = """() => {
  const one = document.activeElement;
  return [[one.id, one.innerText?.trim()], getComputedStyle(one).outlineStyle];
}"""
pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_the_guides_path_in_french_on_a_phone(world: World, receiver: Receiver) -> None:
    """Add, test, break, understand from the page alone, repair, recover; each page is accessible."""
    receiver.script = answer(200, body=b"bien re\xc3\xa7u")
    key = await world.key()
    async with world.visitor(locale="fr-FR", timezone_id="America/Mexico_City", **PHONE) as visitor:
        page = visitor.page
        await visitor.go()
        await visitor.is_sound()
        await visitor.log_in(key)
        for step in ("Paramètres", "Notifications", "Webhooks"):
            await expect(page.locator(".crumbs").get_by_text(step)).to_be_visible()
        await visitor.is_sound()
        await visitor.press("Ajouter un Webhook")
        await page.get_by_label("URL").fill("http://10.0.0.1/")
        await visitor.press("Enregistrer")
        await visitor.sees("Mène à 10.0.0.1, une adresse privée, ce qui n\u2019est pas permis.")
        await visitor.is_sound()
        await page.get_by_label("URL").fill(receiver.url("/grillo-webhook"))
        await page.get_by_role("checkbox", name="event.updated").check()
        await visitor.press("Enregistrer")
        assert (await page.locator("#secret").inner_text()).startswith("whsec_")
        await visitor.sees("Copiez-le maintenant", "createHmac", "corps brut")
        await visitor.is_sound()

        await visitor.press("Test")
        await visitor.sees("Livrée", "bien reçu")  # by itself, as soon as the answer is there
        assert "webhook.test" == receiver.requests[0].header("X-Grillo-Event")
        assert await page.locator("[data-region=timeline] time").first.get_attribute("title") is not None
        await visitor.is_sound()
        await page.locator(".back a").click()
        await visitor.sees("Opérationnel")

        receiver.script = answer(500, body=b"disk full")
        connection = await world.database.connect()
        await insert(connection)
        await visitor.sees("En échec", "Votre serveur a échoué en traitant la requête.", "disk full")
        await visitor.sees("Échouée")
        await visitor.is_sound()
        await visitor.press("Vérifier")
        await visitor.sees("Que dit l\u2019historique", "En cause")
        await visitor.is_sound()
        await page.locator(".back a").click()

        receiver.script = answer(200)
        await visitor.press("Une fois réparé, récupérer ce qui a été manqué")
        await visitor.press("Compter d\u2019abord")
        await visitor.sees("1 livraison serait renvoyée.")
        await visitor.is_sound()
        await visitor.press("Récupérer")
        await visitor.sees("Terminée", "1 sur 1 demandées.")  # without reloading
        await visitor.is_sound()
        await page.locator(".back a").click()
        await visitor.sees("Opérationnel", "Livrée")
        await expect(page.get_by_text("Votre serveur a échoué")).to_have_count(0)
        await connection.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("theme", "language", "screen"),
    [("light", "en-GB", DESKTOP), ("dark", "fr-FR", PHONE)],
    ids=["english-light-desktop", "french-dark-phone"],
)
async def test_every_page_is_accessible(
    world: World, receiver: Receiver, theme: str, language: str, screen: dict[str, object]
) -> None:
    """axe-core finds nothing, in either theme, on either screen, and nothing sticks out at the side."""
    key = await world.key()
    receiver.script = [answer(200, body=b"fine"), answer(404, body=b"<b>" + b"x" * 300)]
    async with world.visitor(key, color_scheme=theme, locale=language, **screen) as visitor:
        path = await visitor.add(receiver.url("/" + "long" * 60))
        for _ in range(2):
            await visitor.go(path)
            await visitor.page.locator(".inline button").click()
            await visitor.page.locator(".timeline .good, .timeline .bad").first.wait_for()
        await visitor.page.locator(".timeline summary").first.click()
        await visitor.is_sound()
        await visitor.page.locator("[data-menu] summary").click()
        await visitor.is_sound()
        for place in ("", "/deliveries", "/recover", "/rotate", "/delete", "/edit"):
            await visitor.go(path + place)
            for summary in await visitor.page.locator("main details > summary").all():
                await summary.click()
            await visitor.is_sound()
        for place in (BASE, "/settings/nowhere"):
            await visitor.go(place)
            await visitor.is_sound()


async def test_everything_works_with_the_keyboard_alone(world: World, receiver: Receiver) -> None:
    """Skip to the content, add a webhook, mend a field, open and leave the menu: the focus is always seen."""
    async with world.visitor(await world.key()) as visitor:
        page = visitor.page

        async def walk_to(name: str) -> None:
            for _ in range(60):
                await page.keyboard.press("Tab")
                reached, outline = await page.evaluate(FOCUSED)
                if name in reached:
                    assert "none" != outline, f"the focus on {name} is not seen"
                    return
            raise AssertionError(f"the keyboard does not get to {name}")

        await page.keyboard.press("Tab")
        await expect(page.locator(":focus")).to_have_text("Skip to the content")
        await page.keyboard.press("Enter")
        await walk_to("Add webhook")
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/new")
        await walk_to("url")
        await page.keyboard.type("nonsense")
        await page.keyboard.press("Enter")
        await expect(page.locator("#summary")).to_be_focused()
        await walk_to("url")
        await page.keyboard.press("Control+A")
        await page.keyboard.type(receiver.url("/keyboard"))
        await walk_to("Save")
        await page.keyboard.press("Enter")
        await page.locator("#secret").wait_for()
        await walk_to("Test")
        await page.keyboard.press("Enter")
        await visitor.sees("Delivered")
        await page.locator("[data-menu] summary").focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("button", name="Log out")).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("button", name="Log out")).to_be_hidden()
        await expect(page.locator("[data-menu] summary")).to_be_focused()


async def test_everything_is_read_and_done_without_javascript(world: World, receiver: Receiver) -> None:
    """Times are in UTC then; forms, pages, menus and charts are there all the same."""
    async with world.visitor(await world.key(), java_script_enabled=False, **PHONE) as visitor:
        path = await visitor.add(receiver.url("/quiet"))
        await visitor.press("Test")
        await receiver.wait_for(1)
        await visitor.go(f"{path}/deliveries")
        await expect(visitor.page.locator("table")).to_contain_text("webhook.test")
        await visitor.sees("UTC", "From (UTC)")
        await visitor.go(path)
        await visitor.sees("What it is set to", "Healthy")
        await visitor.page.locator("[data-menu] summary").click()
        await visitor.page.get_by_role("button", name="Français").click()
        await visitor.sees("Ses réglages")
        await visitor.press("Mettre en pause")
        await visitor.sees("En pause")


@pytest.mark.parametrize("screen", [DESKTOP, PHONE], ids=["desktop", "phone"])
async def test_the_advanced_settings_with_the_keyboard_and_no_javascript(
    world: World, receiver: Receiver, screen: dict[str, object]
) -> None:
    """The section is closed until it says something, opens with the keyboard, and errors open it."""
    async with world.visitor(await world.key(), java_script_enabled=False, **screen) as visitor:
        page = visitor.page
        path = await visitor.add(receiver.url("/advanced"))
        await visitor.go(f"{path}/edit")
        limit = page.get_by_label("Most requests in a second")
        await expect(limit).to_be_hidden()
        await page.locator("summary", has_text="Advanced").focus()
        await page.keyboard.press("Enter")
        await expect(limit).to_be_visible()
        await page.keyboard.press("Tab")
        await expect(page.get_by_label("Payload of revisions")).to_be_focused()
        await page.keyboard.press("Tab")
        await expect(page.get_by_label("Order")).to_be_focused()
        await page.keyboard.type("in no")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Space")
        await limit.fill("1001")
        await limit.press("Enter")
        await visitor.sees("Must be from 0.1 to 1000, is 1001.")
        await expect(limit).to_have_attribute("aria-invalid", "true")
        await limit.fill("0.5")
        await limit.press("Enter")
        await visitor.sees("in no order", "only the newest of those that wait", "0.5 in a second")
        await visitor.go(f"{path}/edit")
        await expect(limit).to_have_value("0.5")
        await expect(page.get_by_role("checkbox", name="Only the newest revision")).to_be_checked()


async def test_hostile_answers_stay_text(world: World, receiver: Receiver) -> None:
    """A receiver answers with scripts; nothing runs, nothing is loaded, and the page says what it said."""
    hostile = b"</pre><script>alert(1)</script><img src=/x onerror=alert(2)><svg onload=alert(3)>"
    receiver.script = answer(500, headers=[("X-Evil", "<script>alert(4)</script>")], body=hostile)
    async with world.visitor(await world.key()) as visitor:
        asked: list[str] = []
        visitor.page.on("request", lambda request: asked.append(request.url))
        await visitor.add(receiver.url("/hostile"))
        await visitor.press("Test")
        await visitor.sees("onerror=alert(2)")
        await visitor.page.locator(".timeline summary").first.click()
        await visitor.sees("<script>alert(4)</script>")
        assert [] == [url for url in asked if not url.startswith(world.url) or url.endswith("/x")]


async def test_a_description_of_one_long_word_stays_within_the_page(world: World, receiver: Receiver) -> None:
    """Neither the webhook's page nor the list must be moved sideways to be read on a phone."""
    async with world.visitor(await world.key(), **PHONE) as visitor:
        path = await visitor.add(receiver.url("/described"))
        await visitor.go(f"{path}/edit")
        await visitor.page.get_by_label("Description").fill("https://wiki.example/" + "w" * 400)
        await visitor.page.locator("main button.primary").click()
        await visitor.sees("https://wiki.example/")
        for page in (path, BASE):
            await visitor.go(page)
            await visitor.is_sound()


async def test_times_are_typed_in_the_viewers_zone(world: World, receiver: Receiver) -> None:
    """As the times beside the fields are shown; links, and what the server hears, stay in UTC."""
    tokyo = dt.timezone(dt.timedelta(hours=9))
    now = dt.datetime.now(tokyo).replace(tzinfo=None, second=0, microsecond=0)
    async with world.visitor(await world.key(), timezone_id="Asia/Tokyo") as visitor:
        page = visitor.page
        path = await visitor.add(receiver.url("/zone"))
        await visitor.press("Test")
        await receiver.wait_for(1)
        since, until = page.get_by_label("From", exact=True), page.get_by_label("To", exact=True)

        async def history(low: dt.timedelta, high: dt.timedelta) -> None:
            await visitor.go(f"{path}/deliveries")
            await since.fill((now + low).isoformat(timespec="minutes"))
            await until.fill((now + high).isoformat(timespec="minutes"))
            await visitor.press("Show")
            await page.wait_for_url("**since=*")
            await expect(since).to_have_value((now + low).isoformat(timespec="minutes"))
            await expect(until).to_have_value((now + high).isoformat(timespec="minutes"))

        hour = dt.timedelta(hours=1)
        await history(-hour, hour)
        await expect(page.locator("table")).to_contain_text("webhook.test")
        in_utc = (now - 10 * hour).isoformat(timespec="minutes").replace(":", "%3A")
        assert f"since={in_utc}&" in page.url
        await history(hour, 2 * hour)
        await visitor.sees("No delivery is like that.")

        await visitor.go(f"{path}/recover")
        proposed = dt.datetime.fromisoformat(await since.input_value())
        assert abs(now - 24 * hour - proposed) <= dt.timedelta(minutes=5)
        await visitor.press("Count first")
        await visitor.sees("0 deliveries would be sent again.")
        await expect(since).to_have_value(proposed.isoformat(timespec="minutes"))


async def test_language_and_appearance_are_remembered(world: World) -> None:
    """In the browser, on every page, whatever the system says; and can be changed before one is logged in."""
    async with world.visitor(color_scheme="light") as visitor:
        page = visitor.page
        await visitor.go("/settings/login")
        ground = "getComputedStyle(document.documentElement).backgroundColor"
        light = await page.evaluate(ground)
        for name in ("Français", "Sombre"):
            await page.locator("[data-menu] summary").click()
            await page.get_by_role("button", name=name).click()
        await expect(page.get_by_label("Clé d\u2019API")).to_be_visible()
        assert light != await page.evaluate(ground)
        await visitor.log_in(await world.key())
        await visitor.sees("Prévenez votre serveur")
        assert light != await page.evaluate(ground)


async def test_a_secret_can_be_copied_and_is_gone_after_that(world: World, receiver: Receiver) -> None:
    """The button copies it; loading the page again neither shows it again nor adds a second webhook."""
    permissions = ["clipboard-read", "clipboard-write"]
    async with world.visitor(await world.key(), permissions=permissions) as visitor:
        await visitor.add(receiver.url("/copy"))
        secret = await visitor.page.locator("#secret").inner_text()
        await visitor.page.locator("button[data-copy=secret]").click()
        await expect(visitor.page.locator("button[data-copy=secret]")).to_have_text("Copied")
        assert secret == await visitor.page.evaluate("navigator.clipboard.readText()")
        await visitor.page.reload()
        await visitor.sees("What it is set to")
        assert secret not in await visitor.page.content()
        await visitor.go()
        await visitor.sees("1 webhook")


async def test_a_list_that_is_open_follows_what_happens(world: World, receiver: Receiver) -> None:
    """A webhook that begins to fail is seen on the list without reloading, with the focus where it was."""
    key = await world.key()
    async with world.visitor(key) as watcher, world.visitor(key) as other:
        path = await other.add(receiver.url("/list"))
        await watcher.go()
        await watcher.page.locator("table a").focus()
        receiver.script = answer(503)
        connection = await world.database.connect()
        await insert(connection, json.dumps({**DETECTED, "event_id": "evt_list"}))
        await connection.close()
        await expect(watcher.page.locator(".hooks")).to_contain_text("Failing", timeout=20_000)
        await expect(watcher.page.locator(":focus")).to_have_attribute("href", re.compile(path))
