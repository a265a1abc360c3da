"""Who may see and do what on the dashboard, and what attackers try: forged forms, frames, hostile texts."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import AsyncIterator

import pytest
from yarl import URL

from dispatcher.dashboard.app import ROUTES
from dispatcher.dashboard.visit import BASE
from dispatcher.store import accounts
from tests.dashboard import House, dashboard
from tests.past import Past
from tests.postgres import Database

READER = ("read:webhooks",)
HOSTILE = "</pre><script>alert(1)</script><img src=x onerror=alert(2)>\"'&\u202e\x1b[31m"


@pytest.fixture
async def house(database: Database) -> AsyncIterator[House]:
    """Run the dashboard."""
    async with dashboard(database.url) as running:
        yield running


def filled(path: str, webhook_id: str) -> str:
    """Give the path of a route with ids in it."""
    path = re.sub(r"\{webhook_id:.*?\+\}", webhook_id, path)
    return re.sub(r"\{delivery_id:.*?\+\}", "dlv_" + "0" * 26, path).replace("{tail:.*}", "nowhere")


async def test_nobody_sees_anything_without_a_key(house: House) -> None:
    """Every page and every form leads to the entrance, and back to where one wanted to go."""
    async with house.visitor(()) as nobody:
        for route in ROUTES:
            if route.scope is None or route.method == "*":
                continue
            path = filled(route.path, "whk_" + "0" * 26)
            if route.method == "POST":
                answer = await nobody.post(path, {"csrf": ""}, follow=False, guarded=False)
            else:
                answer = await nobody.get(path, follow=False)
            assert 303 == answer.status, route
            assert answer.headers["Location"].startswith("/settings/login"), route
        assert "next=/settings/notifications/webhooks/new" in (await nobody.get(f"{BASE}/new")).url


async def test_wrong_keys_open_nothing(house: House) -> None:
    """Unknown, expired, revoked, empty, endless, or holding strange characters."""
    expired = await house.key(expires_at=dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
    async with house.visitor(()) as nobody:
        for key in (
            "grk_unknown",
            expired,
            "",
            "x" * 10_000,
            "\0",
            "\ud800".encode("utf-8", "replace").decode(),
        ):
            page = await nobody.log_in(key)
            assert (401, True) == (page.status, "unknown, expired or revoked" in page.words)
            assert "Set-Cookie" not in page.headers


async def test_a_session_cookie_is_of_the_careful_kind(house: House) -> None:
    """No script reads it, other sites do not send it with forms, and over https it stays there."""
    async with house.visitor(()) as nobody:
        key = await house.key()
        plain = await nobody.post("/settings/login", {"key": key}, follow=False, guarded=False)
        cookie = plain.headers["Set-Cookie"]
        assert cookie.startswith("grillo_session=")
        assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(cookie.split("; "))
        proxied = await nobody.post(
            "/settings/login",
            {"key": key},
            follow=False,
            guarded=False,
            headers={"X-Forwarded-Proto": "https"},
        )
        cookie = proxied.headers["Set-Cookie"]
        assert cookie.startswith("__Host-grillo_session=")
        assert "Secure" in cookie.split("; ")
        assert key not in cookie


async def test_a_session_cannot_be_fixed_beforehand(house: House, database: Database) -> None:
    """A token that was planted is not taken over; logging in draws a new one, and ends the old one."""
    async with house.visitor(()) as victim:
        victim.session.cookie_jar.update_cookies({"grillo_session": "planted"}, URL(house.url))
        await victim.log_in(await house.key())
        [token] = [one.value for one in victim.session.cookie_jar if one.key == "grillo_session"]
        assert token != "planted"
        await victim.log_in(await house.key())
        async with house.visitor(()) as thief:
            thief.session.cookie_jar.update_cookies({"grillo_session": token}, URL(house.url))
            assert "/settings/login" in (await thief.get(BASE)).url
        connection = await database.connect()
        stored = await connection.fetch("select hash from dashboard_session")
        await connection.close()
        assert 1 == len(stored)
        assert token.encode() not in stored[0]["hash"]


async def test_logging_out_and_revoking_end_a_session(house: House) -> None:
    """At once, whoever has the cookie."""
    async with house.visitor() as visitor:
        [token] = [one.value for one in visitor.session.cookie_jar if one.key == "grillo_session"]
        await visitor.post("/settings/logout")
        async with house.visitor(()) as thief:
            thief.session.cookie_jar.update_cookies({"grillo_session": token}, URL(house.url))
            assert "/settings/login" in (await thief.get(BASE)).url
    made = await accounts.create_key(house.context.database, scopes=READER)
    assert made is not None
    async with house.visitor(key=made.key) as visitor:
        assert await accounts.revoke_key(house.context.database, made.public_id)
        assert "/settings/login" in (await visitor.get(BASE)).url


@pytest.mark.parametrize("column", ["used_at", "created_at"])
async def test_a_session_expires(house: House, database: Database, column: str) -> None:
    """12 hours after its last use, 7 days after it began."""
    async with house.visitor() as visitor:
        assert 200 == (await visitor.get(BASE, follow=False)).status
        connection = await database.connect()
        await connection.execute(f"update dashboard_session set {column} = now() - interval '169 hours'")
        await connection.close()
        assert 303 == (await visitor.get(BASE, follow=False)).status


async def test_a_key_that_may_read_sees_and_cannot_act(house: House) -> None:
    """Every form that changes something is refused, and no button for one is shown."""
    async with house.visitor() as owner:
        webhook_id = await owner.new_webhook()
    async with house.visitor(READER) as reader:
        page = await reader.get(f"{BASE}/{webhook_id}")
        assert "https://receiver.example/hook" in page.words
        assert 'action="/settings/notifications' not in page.text
        for route in ROUTES:
            if route.scope != "write:webhooks":
                continue
            path = filled(route.path, webhook_id)
            answer = await (reader.get(path) if route.method == "GET" else reader.post(path))
            assert (403, True) == (answer.status, "It may see, not change" in answer.words), route
        assert 200 == (await reader.get(f"{BASE}/{webhook_id}/recover")).status


async def test_forged_forms_change_nothing(house: House) -> None:
    """Without the token, with another session's, from another site; by what the browser says of itself."""
    async with house.visitor() as visitor, house.visitor() as other:
        webhook_id = await visitor.new_webhook()
        path = f"{BASE}/{webhook_id}/delete"
        foreign = (await other.get(BASE)).hidden["csrf"]
        for fields in ({}, {"csrf": ""}, {"csrf": foreign}, {"csrf": "é"}):
            page = await visitor.post(path, fields, guarded=False)
            assert (403, True) == (page.status, "Nothing was changed" in page.words), fields
        for name, value in (
            ("Sec-Fetch-Site", "cross-site"),
            ("Sec-Fetch-Site", "same-site"),
            ("Origin", "https://evil.example"),
            ("Origin", "null"),
        ):
            page = await visitor.post(path, headers={name: value})
            assert (403, True) == (page.status, "nothing was changed" in page.words), value
            entered = await visitor.post(
                "/settings/login", {"key": await house.key()}, guarded=False, headers={name: value}
            )
            assert 403 == entered.status, value
        assert 200 == (await visitor.get(f"{BASE}/{webhook_id}")).status


async def test_the_entrance_leads_nowhere_else(house: House) -> None:
    """An address with another host to go on to is not followed."""
    async with house.visitor(()) as nobody:
        key = await house.key()
        for after in (
            "https://evil.example/",
            "//evil.example",
            "/\\evil.example",
            "/settings/\\..",
            "/v1/x",
        ):
            answer = await nobody.post(
                "/settings/login", {"key": key, "next": after}, follow=False, guarded=False
            )
            assert BASE == answer.headers["Location"], after


async def test_every_page_forbids_frames_scripts_and_guessing(house: House) -> None:
    """Also the ones that refuse; and no page holds a script, a style or a handler of its own."""
    async with house.visitor() as visitor:
        webhook_id = await visitor.new_webhook()
        for path in (BASE, f"{BASE}/new", f"{BASE}/{webhook_id}", f"{BASE}/nowhere", "/settings/login"):
            page = await visitor.get(path)
            policy = page.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert ("DENY", "nosniff", "no-store") == (
                page.headers["X-Frame-Options"],
                page.headers["X-Content-Type-Options"],
                page.headers["Cache-Control"],
            )
            assert [] == re.findall(
                r"<script(?! type=\"module\" src=\"/settings/assets/)|<style|\son\w+=", page.text
            )
            assert [] == re.findall(r"\sstyle=", page.text)
            assert [] == re.findall(r"(?:src|href|action)=\"(?:https?:)?//", page.text)


async def test_what_strangers_wrote_stays_text(house: House, database: Database) -> None:
    """Payloads, answers, headers, errors, descriptions and searches with markup in them."""
    async with house.visitor() as visitor:
        webhook_id = await visitor.new_webhook(description=HOSTILE, headers="X-A: <b>&\"'")
        connection = await database.connect()
        past = await Past.of(connection, webhook_id)
        data = {"sensor_id": "</script><script>alert(3)</script>", "station_code": "<b>"}
        data["last_seen"] = "2024-01-15T14:30:00Z"
        key = await past.delivery(data=json.dumps(data))
        await past.attempt(
            key,
            1,
            500,
            error_message=HOSTILE,
            address="<i>",
            request_headers=[["X-A", HOSTILE]],
            response_headers=[[HOSTILE, HOSTILE]],
            response_body=HOSTILE.encode() + b"\xff\x00",
        )
        await connection.close()
        delivery = (await visitor.get(f"{BASE}/{webhook_id}/deliveries")).text.partition("/deliveries/dlv_")[
            2
        ]
        paths = (
            f"{BASE}/{webhook_id}",
            f"{BASE}/{webhook_id}/deliveries/dlv_{delivery[:26]}",
            f"{BASE}/{webhook_id}/deliveries?event=%3Cscript%3E&since=%22%3E%3Cscript%3E",
            f"{BASE}/{webhook_id}/edit",
            f"{BASE}?q=%22%3E%3Cscript%3Ealert(4)%3C/script%3E",
            BASE,
        )
        for path in paths:
            page = await visitor.get(path)
            assert 200 == page.status, path
            assert [] == re.findall(r"<script>|<img|<b>&|<i>[^<]", page.text), path
        assert "alert(3)" in (await visitor.get(paths[1])).words


async def test_another_organizations_things_do_not_exist(house: House) -> None:
    """Its webhooks are on no list, and their pages are not found."""
    async with house.visitor() as owner:
        webhook_id = await owner.new_webhook()
    await accounts.create_organization(house.context.database, "other")
    made = await accounts.create_key(house.context.database, "other", scopes=("admin",))
    assert made is not None
    async with house.visitor(key=made.key) as stranger:
        assert webhook_id not in (await stranger.get(BASE)).text
        for route in ROUTES:
            if "webhook_id" in route.path:
                path = filled(route.path, webhook_id)
                fields = {"url": "https://x.example/", "events": "*", "event": "webhook.test"}
                answer = await (stranger.get(path) if route.method == "GET" else stranger.post(path, fields))
                assert 404 == answer.status, route


async def test_odd_requests_get_a_page(house: House) -> None:
    """U+0000, wrong methods, bodies of another kind or too large, numbers out of range."""
    async with house.visitor() as visitor:
        webhook_id = await visitor.new_webhook()
        for path in (
            f"{BASE}?q=%00",
            f"{BASE}/whk_%00",
            f"{BASE}/{webhook_id}/pause",
            "/settings/nowhere",
            f"{BASE}/{webhook_id}/deliveries/dlv_1",
        ):
            assert 404 == (await visitor.get(path)).status, path
        for path in (
            f"{BASE}?page=99999999999999999999",
            f"{BASE}?page=-1",
            f"{BASE}/{webhook_id}/deliveries?cursor=xx&since=9999-99-99",
            f"{BASE}/{webhook_id}?span=century",
        ):
            assert 200 == (await visitor.get(path)).status, path
        large = await visitor.post(BASE, {"description": "x" * 300_000})
        assert (413, True) == (large.status, "too large" in large.words)
        nul = await visitor.add(description="\0")
        assert 201 == nul.status
        async with visitor.session.post(f"{house.url}{BASE}", json={"url": "x"}) as response:
            assert 403 == response.status
