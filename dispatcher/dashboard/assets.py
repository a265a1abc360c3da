"""Style sheets, scripts and the icon: named after their content, so that browsers may keep them for ever."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Final

from aiohttp import web

PREFIX: Final = "/settings/assets"
_TYPES: Final = {
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
}


class Assets:
    """The files of `static/`, read once."""

    def __init__(self) -> None:
        folder = files("dispatcher.dashboard") / "static"
        self._files = {one.name: one.read_bytes() for one in folder.iterdir()}
        digest = hashlib.sha256()
        for name in sorted(self._files):
            digest.update(name.encode() + self._files[name])
        self._version: Final = digest.hexdigest()[:12]  # of all, since scripts import each other

    def url(self, name: str) -> str:
        """Give the address of a file that there is."""
        if name not in self._files:
            raise KeyError(name)
        return f"{PREFIX}/{self._version}/{name}"

    async def serve(self, request: web.Request) -> web.Response:
        """Answer with a file, whatever the version that is asked for."""
        name = request.match_info["name"]
        body = self._files.get(name)
        if body is None:
            return web.Response(status=404, text="404\n")
        current = request.match_info["version"] == self._version
        response = web.Response(
            body=body,
            content_type=_TYPES[name.rpartition(".")[2]],
            charset="utf-8",
            headers={
                "Cache-Control": "public, max-age=31536000, immutable" if current else "no-cache",
                "X-Content-Type-Options": "nosniff",
                "Cross-Origin-Resource-Policy": "same-origin",
            },
        )
        response.enable_compression()
        return response
