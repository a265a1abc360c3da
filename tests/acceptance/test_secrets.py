"""A whole life of a dispatcher, and then everything that it left behind is searched for its secrets."""

from __future__ import annotations

import base64
import re
import secrets
import signal
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest

from dispatcher.core.signature import verify_grillo
from dispatcher.dashboard.visit import BASE
from dispatcher.store.embedded.home import find_home
from tests.acceptance.daemon import Daemon, daemons
from tests.acceptance.secrecy import Life, Search, forms, planted
from tests.collector import collecting
from tests.postgres import wait_for
from tests.proxy import EgressProxy
from tests.receiver import Receiver, Request, answer, by_request

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.receiver import Behaviour

RELOADED: Final = "settings that take effect at the next start"
REFUSED: Final = "the configuration was not reloaded"
SECRETS: Final = (
    "given secret",
    "rotated secret",
    "header's credential",
    "proxy password",
    "next proxy password",
    "collector's credential",
)
NO_SECRET: Final = "a description that anybody may read"
EVENT: Final = '{"sensor_id":"sen_1","station_code":"GRIL01","last_seen":"2024-01-15T14:30:00Z"}'


def test_the_search_finds_what_is_there() -> None:
    """A leak is found in each of its forms, and named."""
    secret = "whsec_" + base64.b64encode(bytes(range(24))).decode()
    for form in forms(secret).values():
        search = Search({"the secret": secret}, {"nothing": b"nothing", "a log": b"some " + form + b" text"})
        found = search.leaks()
        assert found
        assert all("the secret as" in one and "a log" in one for one in found)


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("before", ["", "e", "eg", "egr", "egress:"])
@pytest.mark.parametrize("after", ["", "@", "@h"])
def test_the_search_finds_what_is_encoded_with_its_neighbours(
    encode: Callable[[bytes], bytes], before: str, after: str
) -> None:
    """Such as a password in `Proxy-Authorization: Basic`, wherever in it, and a key's bytes as they are."""
    key = secrets.token_bytes(25)
    for given, secret in (
        (password := planted(), password),
        (key.decode("latin-1"), base64.b64encode(key).decode()),
    ):
        line = encode(before.encode() + given.encode("latin-1") + after.encode())
        assert Search({"it": secret}, {"a log": b"Basic " + line}).leaks()
        assert Search({"it": secret}, {"a log": repr(given.encode("latin-1")).encode()}).leaks()


def _reply(request: Request) -> Behaviour:
    return answer(200 if request.path.startswith("/well") else 500, body=b"a body")


async def _use(life: Life, daemon: Daemon) -> None:
    """Ask for everything that the API has, rightly and wrongly."""
    known = life.search.known
    credential = known["header's credential"]
    hook = {
        "url": life.receiver.url("/well"),
        "events": ["*"],
        "secret": known["given secret"],
        "headers": {"Authorization": credential, "X-Station": "GRIL01"},
    }
    first = await life.ask(daemon, "POST", "/v1/webhooks", hook)
    second = await life.ask(
        daemon, "POST", "/v1/webhooks", {"url": life.receiver.url("/ill"), "events": ["sensor.*"]}
    )
    for wrong in (
        hook | {"url": "https://10.0.0.1/", "events": []},
        hook | {"secret": known["given secret"] * 20},
        hook | {"secret": [known["given secret"]]},
        hook | {"headers": {"Host": credential, "X-Key": f"{credential}\r\n"}},
        hook | {"headers": [credential]},
    ):
        assert await life.ask(daemon, "POST", "/v1/webhooks", wrong) is None
    await life.ask(daemon, "GET", "/v1/webhooks", key="grk_wrong")
    path = f"/v1/webhooks/{first['id']}"
    await life.ask(daemon, "PATCH", path, {"description": "changed", "secret": known["given secret"]})
    await life.ask(daemon, "POST", f"{path}/rotate-secret", {"secret": known["rotated secret"]})
    await life.ask(daemon, "POST", f"/v1/webhooks/{second['id']}/rotate-secret", {})
    await life.ask(daemon, "POST", f"{path}/test", {})
    emitted = await life.command("emit", "sensor.offline", stdin=EVENT)
    assert 0 == emitted.status, emitted.err
    await life.receiver.wait_for(3, timeout_s=60)
    told = [one for one in life.receiver.requests if one.path == "/well"]
    assert {credential} == {one.header("Authorization") for one in told}
    for one in told:
        assert verify_grillo(known["given secret"], one.body, one.header("X-Grillo-Signature") or "")

    async def recorded() -> bool:
        page = await life.ask(daemon, "GET", f"{path}/deliveries?status=delivered")
        return len(page) >= 2

    both: bool = await wait_for(recorded, "both deliveries are recorded")
    assert both
    for one in await life.ask(daemon, "GET", f"{path}/deliveries"):
        full = await life.ask(daemon, "GET", f"{path}/deliveries/{one['id']}")
        assert "(hidden)" == full["attempts"][0]["request"]["headers"]["Authorization"]
        await life.ask(daemon, "POST", f"{path}/deliveries/{one['id']}/redeliver")
    for place in (
        "/v1/webhooks",
        path,
        f"/v1/webhooks/{second['id']}",
        "/v1/event-types",
        "/v1/openapi.json",
    ):
        await life.ask(daemon, "GET", place)
    await life.ask(daemon, "DELETE", f"/v1/webhooks/{second['id']}")


async def _look(life: Life, daemon: Daemon) -> None:
    """Use the dashboard: log in, make a webhook, edit it, rotate its secret; read the documentation."""
    known = life.search.known
    credential = known["header's credential"]
    await life.browse(daemon, "/settings/login", {"key": "grk_wrong", "next": BASE})
    entered = await life.browse(daemon, "/settings/login", {"key": known["API key"], "next": BASE})
    assert 200 == entered.status
    fields = {
        "url": life.receiver.url("/well"),
        "events": "sensor.offline",
        "headers": f"Authorization: {credential}",
    }
    made = await life.browse(daemon, BASE, fields, shows=True)
    found = re.search(r"whk_\w{26}", made.text)
    assert (201, True) == (made.status, found is not None)
    path = f"{BASE}/{found[0] if found else ''}"
    assert "Authorization: (hidden)" in (await life.browse(daemon, f"{path}/edit")).text
    wrong = fields | {"url": "https://10.0.0.1/", "headers": f"Host: {credential}"}
    assert 422 == (await life.browse(daemon, f"{path}/edit", wrong, echoes=credential)).status
    changed = fields | {"headers": "Authorization: (hidden)", "description": NO_SECRET}
    assert 200 == (await life.browse(daemon, f"{path}/edit", changed)).status
    await life.browse(daemon, f"{path}/rotate", {"grace": "3600"}, shows=True)
    for page in (BASE, path, f"{path}/deliveries", f"{path}/recover", "/docs", "/v1/openapi.json"):
        assert 200 == (await life.browse(daemon, page)).status
    assert 0 == (await life.command("doctor")).status
    await life.command("doctor", found[0] if found else "")


async def _reload(life: Life, daemon: Daemon) -> None:
    """Change the configuration while it runs: to another password, and to a mistake beside one."""
    right = life.config.read_text()
    for url, says in (
        (f"http://egress:{life.search.known['next proxy password']}@127.0.0.1:1", RELOADED),
        (f"ftp://egress:{life.search.known['next proxy password']}@h", REFUSED),
    ):
        life.config.write_text(right.replace(life.proxy_url, url))
        daemon.process.send_signal(signal.SIGHUP)
        await daemon.says(says)
    life.config.write_text(right)


async def _sign(life: Life) -> None:
    """Deliver one more: what was sealed with the old key and is sealed with the new one signs as before."""
    before = len(life.receiver.requests)
    assert 0 == (await life.command("emit", "sensor.offline", stdin=EVENT)).status
    await life.receiver.wait_for(before + 2, timeout_s=60)
    known = life.search.known
    told = [one for one in life.receiver.requests[before:] if one.path == "/well"]
    signed = {name for name in known if any(_signs(known[name], one) for one in told)}
    assert {"given secret", f"secret shown by {BASE}"} <= signed


def _signs(secret: str, request: Request) -> bool:
    return verify_grillo(secret, request.body, request.header("X-Grillo-Signature") or "")


async def _administer(life: Life, url: str) -> None:
    """Run the commands, and some with mistakes in which a secret could be quoted."""
    known = life.search.known
    for command in ("history", "check-config", "status", "verify", "org list", "key list", "event-type list"):
        await life.command(*command.split())
    mistakes = {
        "delivery": 'proxy_url = "ftp://u:{}@h:1"'.format(known["proxy password"]),
        "database": 'url = "mysql://u:{}@h/x"'.format(known["database password"]),
        "secrets": 'encryption_key = "{}="'.format(known["encryption key"]),
    }
    for number, (section, line) in enumerate(mistakes.items()):
        wrong = life.data_dir / str(number) / "config.toml"
        wrong.parent.mkdir()
        wrong.write_text(f"[{section}]\n{line}\n")
        assert 2 == (await life.command("check-config", config=wrong)).status
    for elsewhere in (url.replace("grillo:", "nobody:"), f"{url}_missing"):
        assert 2 == (await life.command("org", "list", url=elsewhere)).status
    assert 0 == (await life.command("rekey")).status


@pytest.mark.slow
async def test_no_secret_is_left_behind(data_dir: Path) -> None:
    """Neither in logs at debug level, metrics, answers, commands, processes and files, nor in a backup."""
    search = Search({name: planted() for name in SECRETS})
    credential = {"OTEL_EXPORTER_OTLP_HEADERS": f"x-key={search.known[SECRETS[-1]]}"}
    async with (
        Receiver(by_request(_reply)) as receiver,
        EgressProxy(credentials="egress:" + search.known["proxy password"]) as proxy,
        collecting() as collector,
        aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as visitor,
    ):
        life = Life(data_dir, receiver, proxy, search, visitor)
        settings = {
            "DATABASE__URL": "",
            "SECRETS__ENCRYPTION_KEY": "",
            "LOG__LEVEL": "debug",
            "DELIVERY__RETRY_DELAYS_S": "1",
            "TRACING__ENDPOINT": collector.endpoint,
            "CONFIG": str(life.config),
        }
        async with daemons("", data_dir, credential, **settings) as house:
            daemon = await house.start()
            home = find_home(data_dir)
            url = home.url(home.kept_port())
            search.known["database password"] = home.password()
            search.known["encryption key"] = (data_dir / "encryption.key").read_text().strip()
            search.known["API key"] = (await life.command("key", "create")).out.strip()
            await _use(life, daemon)
            await _look(life, daemon)
            await life.dump(url)
            await _administer(life, url)
            search.known["new encryption key"] = (data_dir / "encryption.key").read_text().strip()
            await life.ask(daemon, "GET", "/v1/webhooks")  # under the new key
            await _sign(life)
            await _reload(life, daemon)
            for page in ("/metrics", "/livez", "/readyz"):
                await life.page(daemon, page)
            life.processes()
            await life.dump(url)
            daemon.terminate()
            assert 0 == await daemon.ended(), daemon.last_words()
            assert [] == [one for one in daemon.complaints() if REFUSED not in one]
        search.texts["traces"] = collector.text.encode()
        assert b"attempt sensor.offline" in search.texts["traces"]
    life.files(cluster=True)
    assert {"file daemon-1.log", "file postgres.log"} <= search.texts.keys()
    log = [text for name, text in search.texts.items() if "/pg_wal/0" in name]
    assert any(NO_SECRET.encode() in text for text in log), "what PostgreSQL wrote to its log is searched"
    assert {
        "session of the dashboard",
        "given secret",
        "rotated secret",
        "API key",
        "secret shown by POST /v1/webhooks",
    } <= search.known.keys()
    assert [] == search.leaks()


@pytest.mark.parametrize("what", ["away", pytest.param("another password", marks=pytest.mark.slow)])
async def test_the_proxys_trouble_costs_no_attempt(data_dir: Path, what: str) -> None:
    """What the proxy does not let through is interrupted, tried again soon, and delivered in the end."""
    search = Search(
        {"proxy password": planted(), "given secret": planted(), "header's credential": planted()}
    )
    credentials = "egress:" + (search.known["proxy password"] if what == "away" else "another one")
    async with (
        Receiver() as receiver,
        EgressProxy(credentials=credentials) as proxy,
        aiohttp.ClientSession() as visitor,
    ):
        life = Life(data_dir, receiver, proxy, search, visitor)
        settings = {"DATABASE__URL": "", "SECRETS__ENCRYPTION_KEY": "", "DELIVERY__PROXY_URL": life.proxy_url}
        async with daemons("", data_dir, **settings) as house:
            daemon = await house.start()
            search.known["API key"] = (await life.command("key", "create")).out.strip()
            if what == "away":
                await proxy.stop()
            hook = await life.ask(daemon, "POST", "/v1/webhooks", {"url": receiver.url(), "events": ["*"]})
            await life.command("emit", "sensor.offline", stdin=EVENT)
            await daemon.says("attempt faulted", error="proxy")
            if what == "away":
                await proxy.start()
            else:
                proxy.credentials = "egress:" + search.known["proxy password"]
            await receiver.wait_for(1, timeout_s=60)
            path = f"/v1/webhooks/{hook['id']}/deliveries"

            async def delivered() -> list[Any]:
                page: list[Any] = await life.ask(daemon, "GET", f"{path}?status=delivered")
                return page

            found: list[Any] = await wait_for(delivered, "the delivery is recorded")
            full = await life.ask(daemon, "GET", f"{path}/{found[0]['id']}")
            kinds = [one["kind"] for one in full["attempts"]]
            assert ["attempted"] == kinds[-1:]
            assert {"interrupted"} == set(kinds[:-1])
            assert full["attempts"][0]["reason"].startswith("proxy: the egress proxy ")
            assert [str(len(kinds))] == [one.header("X-Grillo-Attempt") for one in receiver.requests]
            daemon.terminate()
            assert 0 == await daemon.ended(), daemon.last_words()
            assert [] == daemon.complaints()
    life.files()
    assert [] == search.leaks()
