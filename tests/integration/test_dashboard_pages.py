"""The pages of the dashboard over real HTTP and a real PostgreSQL: what each shows and does."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from dispatcher.daemon.disabler import GONE
from dispatcher.dashboard.visit import BASE
from tests.dashboard import House, Visitor, dashboard
from tests.past import Past
from tests.postgres import Database


@pytest.fixture
async def house(database: Database) -> AsyncIterator[House]:
    """Run the dashboard."""
    async with dashboard(database.url) as running:
        yield running


@pytest.fixture
async def visitor(house: House) -> AsyncIterator[Visitor]:
    """Let somebody be logged in who may act."""
    async with house.visitor() as somebody:
        yield somebody


async def test_everything_leads_to_the_list(visitor: Visitor) -> None:
    """The root, and every step of the guide's path: Settings, Notifications, Webhooks."""
    steps = ("/settings", "/settings/notifications", BASE)
    for path in ("/", *steps, *(f"{step}/" for step in steps)):
        page = await visitor.get(path)
        assert (200, BASE) == (page.status, page.url.removeprefix(visitor.house.url)), path


async def test_an_empty_list_teaches(visitor: Visitor) -> None:
    """What a webhook is, the three steps, and where to begin."""
    page = await visitor.get(BASE)
    assert "Tell your server the moment the ground moves" in page.words
    assert f'href="{BASE}/new"' in page.text


async def test_a_webhook_is_added_and_its_secret_shown_once(visitor: Visitor) -> None:
    """With the receiver's code; the secret is on no page after that."""
    page = await visitor.add("https://receiver.example/hook", "event.*", "sensor.offline", description="Mine")
    assert 201 == page.status
    secret = page.text.partition('<code id="secret">')[2].partition("<")[0]
    assert secret.startswith("whsec_")
    assert "createHmac" in page.text
    assert "compare_digest" in page.text
    listed = await visitor.get(BASE)
    assert "https://receiver.example/hook" in listed.words
    assert "Waiting for its first event" in listed.words
    webhook_id = listed.text.partition("whk_")[2][:26]
    for path in ("", "/edit", "/rotate", "/deliveries", "/recover", "/delete"):
        shown = await visitor.get(f"{BASE}/whk_{webhook_id}{path}")
        assert 200 == shown.status, path
        assert secret not in shown.text


async def test_a_form_that_is_sent_twice_adds_one_webhook(visitor: Visitor) -> None:
    """A reload of the page with the secret leads to the webhook instead."""
    fields = [("url", "https://receiver.example/hook"), ("events", "event.detected"), ("once", "the same")]
    assert 201 == (await visitor.post(BASE, fields)).status
    again = await visitor.post(BASE, fields)
    assert (200, True) == (again.status, "/whk_" in again.url)
    assert "1 webhook" in (await visitor.get(BASE)).words


async def test_errors_stand_beside_their_fields(visitor: Visitor) -> None:
    """All of them at once, what was typed stays, and nothing is saved."""
    page = await visitor.add(
        "http://10.0.0.1/x", "event.detekted", headers="Host: x\nnonsense", secret="whsec_not!"
    )
    assert 422 == page.status
    assert 'value="http://10.0.0.1/x"' in page.text
    for name, words in (
        ("url", "Must begin with https://."),
        ("events", "is not a known event type; did you mean &#34;event.detected&#34;?"),
        ("headers", "Line 2 has no colon between name and value."),
        ("secret", "Begins with whsec_, so base64 must follow it"),
    ):
        assert words in page.text.partition(f'id="{name}-error"')[2].partition("</p>")[0], name
    assert "whsec_not" not in page.text.partition('id="secret"')[2].partition(">")[0]
    assert "Tell your server" in (await visitor.get(BASE)).words


async def test_a_webhook_is_edited_paused_and_resumed(visitor: Visitor) -> None:
    """A credential that is hidden in the form is kept when the form is sent back."""
    webhook_id = await visitor.new_webhook(headers="Authorization: Bearer abc\nX-Site: one")
    path = f"{BASE}/{webhook_id}"
    assert "Authorization: (hidden)" in (await visitor.get(f"{path}/edit")).text
    fields = {
        "url": "https://other.example/",
        "events": "*",
        "headers": "Authorization: (hidden)\nX-Site: two",
        "description": "Changed",
    }
    page = await visitor.post(f"{path}/edit", fields)
    assert (200, True) == (page.status, "https://other.example/" in page.words)
    assert "X-Site: two" in page.words
    key = await visitor.house.key()
    async with visitor.session.get(
        f"{visitor.house.url}/v1/webhooks/{webhook_id}", headers={"Authorization": f"Bearer {key}"}
    ) as response:
        assert "Changed" == (await response.json())["data"]["description"]
    assert "Paused" in (await visitor.post(f"{path}/pause")).words
    assert "Resume" in (await visitor.get(path)).words
    assert "Somebody paused it" not in (await visitor.post(f"{path}/resume")).words


async def test_what_somebody_else_changed_meanwhile_is_not_undone_unseen(visitor: Visitor) -> None:
    """The form that was open before is shown again, and saved when it is sent once more."""
    path = f"{BASE}/{await visitor.new_webhook()}"
    seen = (await visitor.get(f"{path}/edit")).hidden["seen"]
    mine = {"url": "https://mine.example/", "events": "event.detected"}
    theirs = {"url": "https://theirs.example/", "events": "*", "headers": "Authorization: Bearer abc"}
    for _ in range(2):  # the second one saves nothing: it was a double click
        page = await visitor.post(f"{path}/edit", {**theirs, "seen": seen})
        assert (200, True) == (page.status, page.url.endswith(path))
    refused = await visitor.post(f"{path}/edit", {**mine, "url": "nowhere", "seen": seen})
    again = await visitor.post(f"{path}/edit", {**mine, "seen": refused.hidden["seen"]})
    assert (409, True) == (again.status, "Somebody else has changed this webhook" in again.words)
    assert 'value="https://mine.example/"' in again.text
    assert "https://theirs.example/" in (await visitor.get(path)).words
    page = await visitor.post(f"{path}/edit", {**mine, "seen": again.hidden["seen"]})
    assert (200, True) == (page.status, "https://mine.example/" in page.words)


async def test_a_filter_is_kept_by_the_form(visitor: Visitor) -> None:
    """What was typed comes back in the form, and an edit that touches nothing changes nothing."""
    texts = {
        "min_magnitude": "4,5",
        "lat": "19.43",
        "lon": "-99.13",
        "radius": "500",
        "west": "170",
        "south": "-20",
        "east": "-170",
        "north": "20.5",
        "station_codes": "GRIL01, GRIL02",
        "polygon": '{"type":"Polygon","coordinates":[[[0,0],[9,0],[9,9],[0,0]]]}',
        "include_unknown": "yes",
        "payload": "full",
        "ordering": "strict",
        "coalesce": "yes",
        "max_age_s": "600",
        "settle_s": "30",
        "rate_limit_per_s": "2,5",
    }
    webhook_id = await visitor.new_webhook(**texts)
    key = await visitor.house.key()

    async def stored() -> dict[str, Any]:
        async with visitor.session.get(
            f"{visitor.house.url}/v1/webhooks/{webhook_id}", headers={"Authorization": f"Bearer {key}"}
        ) as response:
            shown: dict[str, Any] = (await response.json())["data"]
            return shown

    before = await stored()
    assert ["strict", True, 600, 30, 2.5] == [
        before[name] for name in ("ordering", "coalesce", "max_age_s", "settle_s", "rate_limit_per_s")
    ]
    assert ("full", 4.5, [170, -20, -170, 20.5], ["GRIL01", "GRIL02"], True) == (
        before["payload"],
        *(before["filter"][name] for name in ("min_magnitude", "bbox", "station_codes", "include_unknown")),
    )
    form = (await visitor.get(f"{BASE}/{webhook_id}/edit")).text
    fields = dict(re.findall(r'<input[^>]* name="(\w+)" value="([^"]*)"', form))
    fields |= {"events": "event.detected", "include_unknown": "yes", "coalesce": "yes"}
    fields |= {
        name: re.findall(rf'<select id="{name}".*?<option value="(\w+)" selected', form, re.DOTALL)[0]
        for name in ("payload", "ordering")
    }
    fields["polygon"] = html.unescape(form.partition('name="polygon"')[2].partition(">")[2].partition("<")[0])
    after = await visitor.post(f"{BASE}/{webhook_id}/edit", {**fields, "once": "x"})
    for words in (
        "min_magnitude = 4.5",
        "Order in order, whatever it takes",
        "Revisions only the newest of those that wait",
        "Greatest age 600 s",
        "Patience with sensors 30 s",
        "Most requests 2.5 in a second",
    ):
        assert words in after.words
    assert before == await stored()


async def test_names_and_numbers_of_the_api_are_kept_by_the_form(visitor: Visitor) -> None:
    """Also names that hold spaces and commas, and numbers of seventeen digits, which the form cannot tell."""
    wanted = {
        "url": "https://receiver.example/",
        "events": ["event.detected"],
        "network_ids": ["net of mexico, south", "net_b"],
        "filter": {"lat": 19.123456789012345, "lon": 0.1, "radius": 1e-07, "station_codes": ["AB C ", "D,E"]},
    }
    key = {"Authorization": f"Bearer {await visitor.house.key()}"}
    path = f"{visitor.house.url}/v1/webhooks"
    async with visitor.session.post(path, json=wanted, headers=key) as response:
        webhook_id = (await response.json())["data"]["id"]
    form = (await visitor.get(f"{BASE}/{webhook_id}/edit")).text
    fields = dict(re.findall(r'<input[^>]* name="(\w+)" value="([^"]*)"', form))
    for unticked in ("include_unknown", "coalesce"):
        del fields[unticked]
    fields |= {"events": "event.detected", "description": "Changed", "once": "x"}
    assert 200 == (await visitor.post(f"{BASE}/{webhook_id}/edit", fields)).status
    async with visitor.session.get(f"{path}/{webhook_id}", headers=key) as response:
        shown = (await response.json())["data"]
    assert {**wanted, "description": "Changed"} == {name: shown[name] for name in (*wanted, "description")}
    seen = (await visitor.get(f"{BASE}/{webhook_id}/edit")).hidden["seen"]
    fields |= {"network_ids": "net_b", "station_codes": "", "lat": "20", "seen": seen}
    await visitor.post(f"{BASE}/{webhook_id}/edit", fields)
    async with visitor.session.get(f"{path}/{webhook_id}", headers=key) as response:
        shown = (await response.json())["data"]
    assert (["net_b"], {"lat": 20, "lon": 0.1, "radius": 1e-07}) == (shown["network_ids"], shown["filter"])


async def test_what_is_wrong_with_how_it_is_told_stands_beside_its_fields(visitor: Visitor) -> None:
    """That part of the form is open then; without any of it a webhook has the API's defaults."""
    page = await visitor.add(
        payload="all", ordering="any", max_age_s="0", settle_s="1.5", rate_limit_per_s="many", coalesce="yes"
    )
    assert 422 == page.status
    for name, words in (
        ("payload", "Choose one of those shown."),
        ("ordering", "Choose one of those shown."),
        ("max_age_s", "Must be from 1 to 2592000, is 0."),
        ("settle_s", "Must be whole seconds."),
        ("rate_limit_per_s", "Must be a number."),
    ):
        assert words in page.text.partition(f'id="{name}-error"')[2].partition("</p>")[0], name
    assert "open> <summary>Advanced" in " ".join(page.text.split())
    webhook_id = await visitor.new_webhook()
    assert "Most requests" not in (await visitor.get(f"{BASE}/{webhook_id}")).words
    form = (await visitor.get(f"{BASE}/{webhook_id}/edit")).text
    assert '<details class="more"> <summary>Advanced' in " ".join(form.split())


async def test_what_is_wrong_with_a_filter_stands_beside_its_fields(visitor: Visitor) -> None:
    """As the API says it; the filter's part of the form is open then."""
    page = await visitor.add(min_magnitude="big", lat="100", west="1", polygon="{")
    assert 422 == page.status
    for name, words in (
        ("min_magnitude", "Must be a number."),
        ("lat", "Must be from -90 to 90, is 100."),
        ("radius", "Is required: lat, lon and radius belong together."),
        ("bbox", "Must be [west, south, east, north], four numbers in degrees."),
        ("polygon", "Must be a GeoJSON geometry of the type Polygon or MultiPolygon."),
    ):
        assert words in page.text.partition(f'id="{name}-error"')[2].partition("</p>")[0], name


async def test_the_troubleshooting_list_is_checked(visitor: Visitor) -> None:
    """A name that does not exist: what is good, what is wrong and what to do, in both languages."""
    webhook_id = await visitor.new_webhook("https://nowhere.invalid/hook")
    page = await visitor.get(f"{BASE}/{webhook_id}/check")
    assert "Is it active? Good It is active" in page.words
    assert "Does the name lead somewhere? Wrong" in page.words
    assert "Check the spelling of the host's name" in page.words
    assert "Does the server let us in? Not checked An earlier check failed" in page.words
    await visitor.post("/settings/preferences", {"language": "fr", "next": BASE})
    page = await visitor.get(f"{BASE}/{webhook_id}/check")
    assert "Est-il actif\u202f? Bon Il est actif" in page.words.replace(" ?", "\u202f?")
    assert "Vérifiez l\u2019orthographe du nom" in page.words
    assert "n\u2019a pas pu être résolu" in page.words


async def test_reasons_states_and_times_are_said_in_french(visitor: Visitor, database: Database) -> None:
    """Why a webhook was deactivated, how its newest delivery is, how long its answers took."""
    webhook_id = await visitor.new_webhook()
    connection = await database.connect()
    past = await Past.of(connection, webhook_id)
    await past.attempt(await past.delivery(), 1, 410, error_class="client_error", duration_ms=1.5)
    await connection.execute(
        "update webhook set active = false, disabled_reason = $2 where id = $1", past.webhook_id, GONE
    )
    await connection.close()
    await visitor.post("/settings/preferences", {"language": "fr", "next": BASE})
    reason = "disparu : chaque tentative d\u2019une livraison a reçu 410 en réponse"
    page = await visitor.get(f"{BASE}/{webhook_id}")
    assert reason in page.words
    page = await visitor.get(f"{BASE}/{webhook_id}/check")
    assert "la plus récente est échouée : 410" in page.words
    assert reason in page.words
    assert "ont pris 1,5 ms (médiane)" in page.words


async def test_who_gave_up_on_a_webhook_is_told(visitor: Visitor, database: Database) -> None:
    """One that the dispatcher deactivated needs somebody; one that is paused has somebody who knows."""
    webhook_id = await visitor.new_webhook()
    change = "update webhook set active = false, disabled_reason = $2 where public_id = $1"
    connection = await database.connect()
    for reason, state in ((None, "Paused"), (GONE, "Deactivated")):
        await connection.execute(change, webhook_id, reason)
        for path in (BASE, f"{BASE}/{webhook_id}"):
            assert f">{state}</span>" in (await visitor.get(path)).text
    await connection.close()


async def test_the_map_shows_earthquakes_behind_a_storm_of_sensors(
    visitor: Visitor, database: Database
) -> None:
    """Shaking takes sensors away: what they tell of has no place, and pushes no epicentre off the map."""
    webhook_id = await visitor.new_webhook()
    connection = await database.connect()
    past = await Past.of(connection, webhook_id)
    await past.delivery("event.detected", DETECTED)
    await past.many(100)
    await connection.close()
    page = await visitor.get(f"{BASE}/{webhook_id}")
    assert "Where its last events were" in page.words
    assert 1 == page.text.count('class="event"')


async def test_no_number_of_a_page_is_too_long(visitor: Visitor) -> None:
    """What cannot be a page is the first one."""
    assert 200 == (await visitor.get(f"{BASE}?page={'9' * 5000}")).status


async def test_a_secret_is_rotated_once_for_each_form(visitor: Visitor) -> None:
    """The new one is shown; the form sent again changes nothing, so what was copied is what counts."""
    path = f"{BASE}/{await visitor.new_webhook()}"
    fields = {"grace": "3600", "once": "one"}
    first = await visitor.post(f"{path}/rotate", fields)
    assert "The new secret" in first.words
    assert "whsec_" in first.text
    again = await visitor.post(f"{path}/rotate", fields)
    assert "whsec_" not in again.text
    assert "New secret from" in again.words


async def test_a_webhook_is_deleted_after_a_question(visitor: Visitor) -> None:
    """The question says what is lost."""
    path = f"{BASE}/{await visitor.new_webhook()}"
    assert "This cannot be undone" in (await visitor.get(f"{path}/delete")).words
    assert BASE == (await visitor.post(f"{path}/delete")).url.removeprefix(visitor.house.url)
    assert 404 == (await visitor.get(path)).status


async def test_a_failure_is_explained_in_plain_words(visitor: Visitor, database: Database) -> None:
    """On the webhook's page: what happened, what to do, what the receiver said, since when."""
    webhook_id = await visitor.new_webhook()
    connection = await database.connect()
    past = await Past.of(connection, webhook_id)
    key = await past.delivery("event.detected", DETECTED)
    await past.attempt(key, 1, 401, response_body=b"Invalid signature", response_headers=[["a", "b"]])
    await connection.close()
    page = await visitor.get(f"{BASE}/{webhook_id}")
    assert "Failing" in page.words
    assert "Your server did not accept the signature" in page.words
    assert "over the raw body" in page.words
    assert "Invalid signature" in page.words
    listed = await visitor.get(f"{BASE}/{webhook_id}/deliveries?status=failed&event=event.detected")
    assert 1 == listed.text.count("/deliveries/dlv_")
    assert (
        "No delivery is like that"
        in (await visitor.get(f"{BASE}/{webhook_id}/deliveries?status=cancelled")).words
    )
    delivery = listed.text.partition("/deliveries/dlv_")[2][:26]
    shown = await visitor.get(f"{BASE}/{webhook_id}/deliveries/dlv_{delivery}")
    assert "Redeliver" in shown.words
    assert '"magnitude": 4.2' in shown.words
    after = await visitor.post(f"{BASE}/{webhook_id}/deliveries/dlv_{delivery}/redeliver")
    assert "Asked for again" in after.words
    raw = await visitor.get(f"{BASE}/{webhook_id}/deliveries/dlv_{delivery}/payload")
    assert raw.headers["Content-Disposition"].startswith("attachment")


async def test_a_test_leads_to_its_delivery(visitor: Visitor) -> None:
    """Where the answer will be seen."""
    webhook_id = await visitor.new_webhook()
    page = await visitor.post(f"{BASE}/{webhook_id}/test", {"event": "event.detected"})
    assert (200, True) == (page.status, "/deliveries/dlv_" in page.url)
    assert "on its way" in page.words
    assert "event.detected test" in page.words


async def test_what_a_filter_says_is_shown_or_said_to_be_left_out(visitor: Visitor) -> None:
    """In a link somebody typed: RFC 3339 is read, and nothing is passed over in silence."""
    path = f"{BASE}/{await visitor.new_webhook()}/deliveries"
    page = await visitor.get(f"{path}?since=2026-01-15T14:32:50%2B02:00&until=2026-01-15T14:00&status=failed")
    assert 'name="since" value="2026-01-15T12:32:50"' in page.text
    assert 'name="until" value="2026-01-15T14:00"' in page.text
    assert "Left out" not in page.words
    page = await visitor.get(f"{path}?status=zz&event=nothing&since=yesterday&until=2026-01-15T14:32%2B05:00")
    assert "Left out, as it cannot be read: State, Event, From, To." in page.words


async def test_a_window_is_counted_and_recovered(visitor: Visitor, database: Database) -> None:
    """The count first, with nothing done; then the recovery, with its progress."""
    webhook_id = await visitor.new_webhook()
    connection = await database.connect()
    past = await Past.of(connection, webhook_id)
    for _ in range(3):
        await past.attempt(await past.delivery(), 1, 500)
    await connection.close()
    path = f"{BASE}/{webhook_id}/recover"
    bad = await visitor.post(path, {"since": "yesterday", "action": "count"})
    assert (422, True, True) == (
        bad.status,
        "Is not a date and time." in bad.words,
        "Choose at least one." in bad.words,
    )
    since = (await visitor.get(path)).text.partition('name="since" value="')[2][:16]
    window = {"since": "2020-01-01T00:00", "include": "failed"}
    assert "At most 31 days" in (await visitor.post(path, window)).words
    window["since"] = since
    counted = await visitor.post(path, {**window, "action": "count"})
    assert "3 deliveries would be sent again." in counted.words
    assert "None yet." in counted.words
    asked = await visitor.post(path, {**window, "action": "recover"})
    assert "Under way" in asked.words
    assert "0 of 3 asked for." in asked.words


DETECTED = (
    '{"event_id":"evt_abc123","origin_time":"2024-01-15T14:32:41.500Z","latitude":37.7749,'
    '"longitude":-122.4194,"depth_km":8.5,"magnitude":4.2}'
)
