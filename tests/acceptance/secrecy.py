"""The life of a dispatcher whose secrets are known, all that is seen of it, and a search of that for them."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import aiohttp

from dispatcher.dashboard.visit import BASE
from dispatcher.store.embedded.binaries import find_binaries
from dispatcher.store.embedded.home import find_home
from tests.commands import Ended, run
from tests.dashboard import Page

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.acceptance.daemon import Daemon
    from tests.proxy import EgressProxy
    from tests.receiver import Receiver

# What may hold a secret, because it is where that secret lives.
HOMES: Final = {"encryption.key", "pgpass", "config.toml"}
_SHOWN: Final = re.compile(r"whsec_[A-Za-z0-9+/_=-]{20,}")
_EMPTY: Final = re.compile(rb"\0{16,}")  # most of a cluster


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
            for form, sought in forms(secret).items()
            for place, text in self.texts.items()
            if sought in text
        ]


def forms(secret: str) -> dict[str, bytes]:
    """Give every form in which a secret could stand in a log, a page, a file or a packet."""
    raw = secret.encode()
    found = {
        "itself": raw,
        "a URL's": quote(secret, safe="").encode(),
        "JSON": json.dumps(secret)[1:-1].encode(),
        **_encoded("", raw),
    }
    encoded = secret.removeprefix("whsec_")
    try:
        key = base64.b64decode(encoded, validate=True)
    except ValueError:
        return found
    written = repr(key)[2:-1]
    return found | {
        "base64 without its prefix": encoded.rstrip("=").encode(),
        "its key's bytes": key,
        "its key, as Python writes it": written.encode(),
        "its key, as Python writes it, in JSON": json.dumps(written)[1:-1].encode(),
        **_encoded("its key's ", key),
    }


def _encoded(of: str, raw: bytes) -> dict[str, bytes]:
    """Encode it alone and behind one and two other bytes; what depends on its neighbours is cut off."""
    found = {f"{of}hexadecimal": raw.hex().encode(), f"{of}HEXADECIMAL": raw.hex().upper().encode()}
    for before, depend in ((0, 0), (1, 2), (2, 3)):
        whole = (before + len(raw)) * 8 // 6
        for name, encode in (("base64", base64.b64encode), ("base64url", base64.urlsafe_b64encode)):
            found[f"{of}{name} behind {before}"] = encode(bytes(before) + raw)[depend:whole]
    return found


class Life:
    """One dispatcher with its embedded database, behind a proxy, and a client of its API."""

    def __init__(
        self,
        data_dir: Path,
        receiver: Receiver,
        proxy: EgressProxy,
        search: Search,
        visitor: aiohttp.ClientSession,
    ) -> None:
        data_dir.mkdir(mode=0o711)
        self.visitor = visitor
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

    async def browse(
        self,
        daemon: Daemon,
        path: str,
        fields: Mapping[str, str] | None = None,
        *,
        shows: bool = False,
        echoes: str = "",
    ) -> Page:
        """Load a page of the dashboard, or send a form, and keep what is seen.

        It may show a new secret, once, or give back what was typed into a form that was refused.
        """
        if fields is not None:
            hidden = Page(200, {}, await self._visited(daemon, BASE), "").hidden
            fields = {"once": secrets.token_hex(16), **hidden, **fields}
        async with self.visitor.request(
            "GET" if fields is None else "POST", daemon.address("api") + path, data=fields
        ) as response:
            text = await response.text()
            headers = {name: one for name, one in response.headers.items() if name != "Set-Cookie"}
            page = Page(response.status, headers, text, str(response.url))
        for cookie in self.visitor.cookie_jar:
            if "session" in cookie.key:
                self.search.known["session of the dashboard"] = cookie.value
        if shows:
            (shown,) = set(_SHOWN.findall(text))
            self.search.known[f"secret shown by {path}"] = shown
            text = text.replace(shown, "SHOWN-THIS-ONCE")
        if echoes:
            assert echoes in text
            text = text.replace(echoes, "TYPED")
        self._answers += 1
        self.search.texts[f"page {self._answers}, {path}"] = (repr(headers) + text).encode()
        return page

    async def _visited(self, daemon: Daemon, path: str) -> str:
        async with self.visitor.get(daemon.address("api") + path) as response:
            return await response.text()

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

    def files(self, *, cluster: bool = False) -> None:
        """Keep every file below `data_dir` but the homes of secrets; with `cluster` PostgreSQL's as well."""
        home = find_home(self.data_dir)
        for top in {self.data_dir, home.path}:
            for path in top.rglob("*"):
                ours = cluster or home.cluster not in path.parents
                if ours and path.is_file() and path.name not in HOMES:
                    text = _EMPTY.sub(b"\0", path.read_bytes())
                    self.search.texts[f"file {path.relative_to(top)}"] = text

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
