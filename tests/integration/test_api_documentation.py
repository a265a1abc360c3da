"""The documentation's requests work as they are printed: the reference's curl lines, the guide's requests."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, get_args

import pytest

from dispatcher.api.app import ROUTES
from dispatcher.api.problems import CODES
from dispatcher.api.routing import Route
from dispatcher.store import audience
from tests.management import Management, management
from tests.postgres import Database

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
PAGE = (REFERENCE / "http-api.md").read_text("utf-8")
STATUS = re.compile(r"^<(\d{3})>$", re.MULTILINE)

# As the public guide prints them, in English and in French; `{…}` after a request is its body.
GUIDE = {
    "en": """
POST /v1/webhooks
{
"url": "https://your-server.com/grillo-webhook",
"events": ["event.detected", "sensor.offline"],
"secret": "your_shared_secret"
}
GET /v1/webhooks
GET /v1/webhooks/{webhook_id}
PATCH /v1/webhooks/{webhook_id}
{
"events": ["event.detected"],
"active": true
}
GET /v1/webhooks/{webhook_id}/deliveries
POST /v1/webhooks/{webhook_id}/test
DELETE /v1/webhooks/{webhook_id}
""",
    "fr": """
POST /v1/webhooks
{
  "url": "https://votre-serveur.com/grillo-webhook",
  "events": ["event.detected", "sensor.offline"],
  "secret": "votre_secret_partage"
}
GET /v1/webhooks
GET /v1/webhooks/{webhook_id}
PATCH /v1/webhooks/{webhook_id}
{
  "events": ["event.detected"],
  "active": true
}
GET /v1/webhooks/{webhook_id}/deliveries
POST /v1/webhooks/{webhook_id}/test
DELETE /v1/webhooks/{webhook_id}
""",
}


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Management]:
    """Run the API over a fresh database, with a client that may read and write."""
    async with management(database.url) as running:
        yield running


class Shell:
    """Runs the page's blocks with the variables that the page speaks of."""

    def __init__(self, api: Management, url: str) -> None:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.variables = {"PATH": path, "DISPATCHER_DATABASE__URL": url, "HOME": os.environ.get("HOME", "/")}
        self._api = f"{api.base_url}/v1"

    async def run(self, block: str) -> list[tuple[int, str]]:
        """Run a block and give status and body of each answer."""
        script = block.replace("http://127.0.0.1:8080/v1", self._api)
        script = re.sub(r"^curl ", r"curl -sS -w '\\n<%{http_code}>\\n' ", script, flags=re.MULTILINE)
        process = await asyncio.create_subprocess_exec(
            *("bash", "-euc", script),
            env=self.variables,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert 0 == process.returncode, f"{block}\n{err.decode()}"
        parts = STATUS.split(out.decode())
        return [(int(status), body.strip()) for body, status in zip(parts[::2], parts[1::2], strict=False)]


def blocks() -> list[str]:
    """Give the page's shell blocks in order, what deletes at the end."""
    found = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return sorted(found, key=lambda block: "-X DELETE" in block)


def requests(block: str) -> list[tuple[str, str]]:
    """Give method and path of each curl line."""
    lines = re.findall(r"^curl (?:-X (\w+) )?\"\$API([^\"?]*)", block, re.MULTILINE)
    names = {
        "WEBHOOK": "webhook_id",
        "DELIVERY": "delivery_id",
        "RECOVERY": "recovery_id",
        "EVENT": "outbox_id",
    }
    return [
        (method or "GET", "/v1" + re.sub(r"\$(\w+)", lambda name: f"{{{names[name[1]]}}}", path))
        for method, path in lines
    ]


def test_every_route_has_a_curl_line() -> None:
    """And every line is a request to a route."""
    shown = {one for block in blocks() for one in requests(block)}
    assert {(route.method, route.path) for route in ROUTES} == shown


async def test_the_curl_lines_work_as_printed(api: Management, database: Database) -> None:
    """All of them, with another base URL, in the order of the page; each answers as its route says."""
    shell = Shell(api, database.url)
    setting, *examples = blocks()
    made = await shell.run(f"{setting}echo \"$KEY\"\necho '<200>'\n")
    shell.variables |= {"KEY": made[0][1], "API": f"{api.base_url}/v1"}
    routes: dict[tuple[str, str], Route] = {(route.method, route.path): route for route in ROUTES}
    connection = await database.connect()
    for block in examples:
        answers = await shell.run(block)
        asked = requests(block)
        assert len(asked) == len(answers), block
        for (method, path), (status, text) in zip(asked, answers, strict=True):
            route = routes[method, path]
            assert route.status == status, f"{block}\n{text}"
            data: Any = json.loads(text)["data"] if text else None
            if route.name == "createWebhook":
                shell.variables["WEBHOOK"] = data["id"]
            elif route.name == "sendTest":
                shell.variables["DELIVERY"] = data["id"]
                shell.variables["EVENT"] = str(await connection.fetchval("select max(id) from outbox"))
            elif route.name == "recover" and data["id"] is not None:
                shell.variables["RECOVERY"] = data["id"]
    await connection.close()


@pytest.mark.parametrize("language", GUIDE)
async def test_the_guides_requests_work_as_printed(api: Management, language: str) -> None:
    """Every request of the public guide's page, one after the other, by its method, path and body alone."""
    webhook = ""
    for method, path, body in re.findall(
        r"^([A-Z]+) (\S+)\n((?:\{\n.*?\n\}\n)?)", GUIDE[language], re.MULTILINE | re.DOTALL
    ):
        reply = await api.ask(method, path.replace("{webhook_id}", webhook), raw=body.encode() or None)
        [expected] = [route.status for route in ROUTES if (route.method, route.path) == (method, path)]
        assert expected == reply.status, reply.text
        if reply.status == 201:
            webhook = reply.data["id"]
            assert json.loads(body)["url"] == reply.data["url"]
    assert webhook


def test_every_code_is_documented() -> None:
    """With its status, and no code that there is not."""
    rows = re.findall(
        r"^\| (\d{3}) \| `(\w+)` \|", (REFERENCE / "errors.md").read_text("utf-8"), re.MULTILINE
    )
    assert dict(CODES) == {code: int(status) for status, code in rows}


def test_every_routing_reason_is_documented() -> None:
    """Each is what somebody reads who wonders why nothing came."""
    listed = PAGE.partition("| `reason` | |")[2].partition("\n\n")[0]
    assert list(get_args(audience.Reason)) == re.findall(r"^\| `(\w+)` \|", listed, re.MULTILINE)
