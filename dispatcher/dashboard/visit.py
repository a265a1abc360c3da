"""One request of one visitor: who it is, in which language, what was sent, and the ways to answer."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from dispatcher.dashboard.language import LANGUAGES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dispatcher.dashboard.context import DashboardContext
    from dispatcher.dashboard.language import Speech
    from dispatcher.dashboard.pages import Pages
    from dispatcher.store.accounts import Key
    from dispatcher.store.sessions import Session

BASE: Final = "/settings/notifications/webhooks"
THEMES: Final = ("auto", "light", "dark")
THEME_COOKIE: Final = "grillo_theme"


@dataclass(frozen=True)
class Visit:
    """What a page is made from."""

    request: web.Request
    context: DashboardContext
    pages: Pages
    speech: Speech
    form: Mapping[str, list[str]]  # of a POST, whose CSRF token was right; every value of each field
    session: Session | None = None  # None only on pages that need none
    csrf: str = ""

    @property
    def key(self) -> Key:
        """The API key that the visitor logged in with; raises where nobody did."""
        if self.session is None:
            raise LookupError("this page has no session")
        return self.session.key

    @property
    def may_write(self) -> bool:
        """Whether the visitor may act, not only see."""
        return self.session is not None and self.key.allows("write:webhooks")

    def field(self, name: str) -> str:
        """Give what was typed into a field, without spaces around it."""
        values = self.form.get(name)
        return values[0].strip() if values else ""

    def query(self, name: str) -> str:
        """Give a parameter of the address, empty where there is none."""
        return self.request.query.get(name, "").strip()

    def page(self, template: str, status: int = 200, **values: Any) -> web.Response:
        """Answer with a page."""
        theme = self.request.cookies.get(THEME_COOKIE, "auto")
        text = self.pages.render(
            self.speech,
            template,
            {
                "base": BASE,
                "session": self.session,
                "csrf": self.csrf,
                "once": secrets.token_urlsafe(18),
                "may_write": self.may_write,
                "here": self.request.path_qs,
                "languages": LANGUAGES,
                "theme": theme if theme in THEMES else "auto",
                "themes": THEMES,
                **values,
            },
        )
        return web.Response(status=status, text=text, content_type="text/html", charset="utf-8")

    def go(self, path: str) -> web.Response:
        """Answer with the address where the reader goes on."""
        return web.Response(status=303, headers={"Location": path})

    def not_found(self) -> web.Response:
        """Say that there is no such thing, which is also what another organization's things are."""
        return self.page("problem.html", 404, problem="not_found")

    def conflict(self, problem: str) -> web.Response:
        """Say why what was asked for cannot be done as things are now."""
        return self.page("problem.html", 409, problem=problem)
