"""A whole life of a dispatcher, and then everything that it left behind is searched for its secrets."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import aiohttp
import pytest

from dispatcher.core.signature import verify_grillo
from dispatcher.store.embedded.binaries import find_binaries
from dispatcher.store.embedded.home import find_home
from tests.acceptance.daemon import Daemon, daemons
from tests.commands import Ended, run
from tests.postgres import wait_for
from tests.proxy import EgressProxy
from tests.receiver import Receiver, Request, answer, by_request

if TYPE_CHECKING:
    from tests.receiver import Behaviour

# What may hold a secret, because it is where that secret lives.
HOMES: Final = {"encryption.key", "pgpass", "config.toml"}
EVENT: Final = '{"sensor_id":"sen_1","station_code":"GRIL01","last_seen":"2024-01-15T14:30:00Z"}'


def planted() -> str:
    """Give a value that nothing else resembles."""
    return secrets.token_urlsafe(24)


@dataclass
class Search:
    """The secrets, by what they are, and the texts in which none of them may be."""

    known: dict[str, str] = field(default_factory=dict)
    texts: dict[str, bytes] = field(default_factory=dict)

    def leaks(self) -> list[str]:
        """Name every place where a secret is, in whatever form."""
        return [
            f"{what} as {form} in {place}: …{text[max(0, text.index(sought) - 60) :][:40]!r}…"
            for what, secret in self.known.items()
            for form, sought in _forms(secret).items()
            for place, text in self.texts.items()
            if sought in text
        ]


def _forms(secret: str) -> dict[str, bytes]:
    raw = secret.encode()
    forms = {
        "itself": raw,
        "hexadecimal": raw.hex().encode(),
        "base64": base64.b64encode(raw)[:-4],
        "a URL's": quote(secret, safe="").encode(),
        "JSON": json.dumps(secret)[1:-1].encode(),
    }
    encoded = secret.removeprefix("whsec_")
    try:
        key = base64.b64decode(encoded, validate=True)
    except ValueError:
        return forms
    return forms | {"base64 without its prefix": encoded.encode(), "its key": key.hex().encode()}


def test_the_search_finds_what_is_there() -> None:
    """A leak is found in each of its forms, and named."""
    secret = "whsec_" + base64.b64encode(bytes(range(24))).decode()
    for form in _forms(secret).values():
        search = Search({"the secret": secret}, {"nothing": b"nothing", "a log": b"some " + form + b" text"})
        found = search.leaks()
        assert found
        assert all("the secret as" in one and "a log" in one for one in found)


class Life:
    """One dispatcher with its embedded database, behind a proxy, and a client of its API."""

    def __init__(self, data_dir: Path, receiver: Receiver, proxy: EgressProxy, search: Search) -> None:
        data_dir.mkdir(mode=0o711)
        self.data_dir = data_dir
        self.receiver = receiver
        self.search = search
        known = search.known
        self.proxy_url = proxy.url("egress", known["proxy password"])
        self.config = data_dir / "config.toml"
        self.config.write_text(
            f"data_dir = {json.dumps(str(data_dir))}\n[delivery]\nproxy_url = {json.dumps(self.proxy_url)}\n"
            'require_https = false\nallowed_networks = ["127.0.0.0/8"]\n[log]\nlevel = "debug"\n'
        )
        self._commands = 0
        self._answers = 0

    async def command(
        self, *arguments: str, url: str = "", stdin: str = "", config: Path | None = None
    ) -> Ended:
        """Run a command, and keep what it said."""
        ended = await run(*arguments, "--config", str(config or self.config), url=url, stdin=stdin)
        self._commands += 1
        said = ended.err if arguments[:2] == ("key", "create") else ended.out + ended.err
        self.search.texts[f"command {self._commands}, {' '.join(arguments)}"] = said.encode()
        return ended

    async def ask(self, daemon: Daemon, method: str, path: str, body: object = None, *, key: str = "") -> Any:
        """Ask the API, and keep the answer; give its `data`, None where it was refused."""
        sent = {"Authorization": f"Bearer {key or self.search.known['API key']}"}
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, daemon.address("api") + path, json=body, headers=sent) as response,
        ):
            text = await response.text()
            headers = repr(dict(response.headers))
        given: Any = json.loads(text).get("data") if text else None
        if isinstance(given, dict) and "secret" in given:  # shown this once
            shown = str(given["secret"])
            if shown not in self.search.known.values():
                self.search.known[f"secret shown by {method} {path}"] = shown
            text = text.replace(shown, "SHOWN-THIS-ONCE")
        self._answers += 1
        self.search.texts[f"answer {self._answers}, {method} {path}, {response.status}"] = (
            headers + text
        ).encode()
        return given

    async def page(self, daemon: Daemon, path: str) -> None:
        """Read a page of the operators' listener, and keep it."""
        async with aiohttp.ClientSession() as session, session.get(daemon.address("ops") + path) as response:
            self.search.texts[path] = await response.read()

    def processes(self) -> None:
        """Keep the list of processes, with their arguments, as everybody on the machine sees it."""
        lines = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                lines.append(entry.read_bytes())
            except OSError:  # it has just ended
                continue
        assert any(b"dispatcher\0serve" in line for line in lines)
        self.search.texts["process list"] = b"\n".join(lines)

    def files(self) -> None:
        """Keep every file below `data_dir`, but the homes of secrets and the cluster's own."""
        home = find_home(self.data_dir)
        for top in {self.data_dir, home.path}:
            for path in top.rglob("*"):
                if path.is_file() and path.name not in HOMES and home.cluster not in path.parents:
                    self.search.texts[f"file {path.relative_to(top)}"] = path.read_bytes()

    async def dump(self, url: str) -> None:
        """Keep the whole database, as a backup holds it."""
        program = find_binaries().bin_dir / "pg_dump"
        user, _, place = url.rpartition("@")
        environ = {"PGPASSWORD": user.rpartition(":")[2], "PATH": os.defpath}
        command = (program, f"postgresql://grillo@{place}")
        dumping = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, env=environ)
        text, _ = await dumping.communicate()
        assert 0 == dumping.returncode
        assert b"COPY public.webhook " in text
        self.search.texts["pg_dump"] = text


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


async def test_no_secret_is_left_behind(data_dir: Path) -> None:
    """Neither in logs at debug level, metrics, answers, commands, processes and files, nor in a backup."""
    search = Search(
        {
            name: planted()
            for name in ("given secret", "rotated secret", "header's credential", "proxy password")
        }
    )
    async with (
        Receiver(by_request(_reply)) as receiver,
        EgressProxy(credentials="egress:" + search.known["proxy password"]) as proxy,
    ):
        life = Life(data_dir, receiver, proxy, search)
        settings = {
            "DATABASE__URL": "",
            "SECRETS__ENCRYPTION_KEY": "",
            "LOG__LEVEL": "debug",
            "DELIVERY__PROXY_URL": life.proxy_url,
            "DELIVERY__RETRY_DELAYS_S": "1",
        }
        async with daemons("", data_dir, **settings) as house:
            daemon = await house.start()
            home = find_home(data_dir)
            url = home.url(home.kept_port())
            search.known["database password"] = home.password()
            search.known["encryption key"] = (data_dir / "encryption.key").read_text().strip()
            search.known["API key"] = (await life.command("key", "create")).out.strip()
            await _use(life, daemon)
            await life.dump(url)
            await _administer(life, url)
            search.known["new encryption key"] = (data_dir / "encryption.key").read_text().strip()
            await life.ask(daemon, "GET", "/v1/webhooks")  # under the new key
            for page in ("/metrics", "/livez", "/readyz"):
                await life.page(daemon, page)
            life.processes()
            await life.dump(url)
            daemon.terminate()
            assert 0 == await daemon.ended(), daemon.last_words()
            assert [] == daemon.complaints()
    life.files()
    assert {"file daemon-1.log", "file postgres.log"} <= search.texts.keys()
    assert {
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
    async with Receiver() as receiver, EgressProxy(credentials=credentials) as proxy:
        life = Life(data_dir, receiver, proxy, search)
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
